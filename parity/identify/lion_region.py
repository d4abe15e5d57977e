"""How far Lion's rates may lie from what was found: the ends of the region where they explain every sign.

For a given b2 the average m is known, and each sign s of b1 m + (1 - b1) g is a linear inequality for b1 alone:

    s (g + b1 (m - g)) + rounding (|g| + b1 (|m| - |g|)) >= 0

so that the interval of b1 is exact, however the region bends. It is followed along b2 both ways, until none is left. It
is followed on the few elements that bound it; those that are left out could only make it smaller.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parity.identify.run import Array
from parity.identify.simulate import SIGN_EPS, decaying_sum

__all__ = ["NEAREST_ONE", "region_ends"]

FIRST = 1e-6
"""The first step along -log(1 - b2); each that stays in the region doubles the next."""

HALVINGS = 24
"""Bisections of the step that leaves the region: it is known to a part in 10 million of that step."""

POINTS = 200
"""Of the way between both ends, at which the interval of b1 is looked at."""

LOOKS = 12
"""Points at which all elements are looked at, for those that bound the interval there."""

ROUNDS = 6
"""How often elements are added."""

NEAREST_ONE = 1e-6
"""1 - b2, where the range of b2 ends."""


def region_ends(b1: float, b2: float, signs: Array, g: Array) -> tuple[Array, Array]:
    """(2, 2) the least and the largest b1, and b2, of the region around a point in it; (2,) a point in its middle.

    Args:
        b1: within the region.
        b2: likewise.
        signs: (steps, elements) of what is blended, 0 where a step says nothing.
        g: (steps, elements), the gradients.
    """
    bounding = np.unique(np.concatenate(list(_bounding(np.array([b2]), signs, g))))
    for _ in range(ROUNDS):
        ends = _ends(b2, signs[:, bounding], g[:, bounding])
        looked_at = _between(*ends, LOOKS)
        more = np.union1d(bounding, np.concatenate(list(_bounding(looked_at, signs, g))))
        if len(more) == len(bounding):
            break
        bounding = more
    ends = _ends(b2, signs[:, bounding], g[:, bounding])
    rates = _between(*ends, POINTS)
    intervals = np.array([_interval(at, signs[:, bounding], g[:, bounding]) for at in rates])
    left = intervals[:, 0] <= intervals[:, 1]
    lows, highs = intervals[left].T if left.any() else np.array([[b1], [b1]])
    middle = np.array([intervals[POINTS // 2].mean(), rates[POINTS // 2]])
    return np.array([[min(b1, lows.min()), max(b1, highs.max())], ends]), middle


def _ends(b2: float, signs: Array, g: Array) -> tuple[float, float]:
    """The least and the largest b2 up to which an interval of b1 is left all the way."""
    return _end(b2, -1, signs, g), _end(b2, 1, signs, g)


def _end(b2: float, way: int, signs: Array, g: Array) -> float:
    """Steps that double, on a scale on which rates near 1 lie as far apart as those near 0; the last is bisected."""
    last = -np.log(NEAREST_ONE) if way > 0 else 0.0
    here, step = float(-np.log1p(-b2)), FIRST

    def inside(at: float) -> bool:
        low, high = _interval(-np.expm1(-at), signs, g)
        return low <= high

    def stepped(step: float) -> float:
        return min(here + step, last) if way > 0 else max(here - step, last)

    while here != last and inside(stepped(step)):
        here, step = stepped(step), 2 * step
    for _ in range(HALVINGS if here != last else 0):
        step /= 2
        here = stepped(step) if inside(stepped(step)) else here
    return float(-np.expm1(-here))


def _between(low: float, high: float, count: int) -> Array:
    """Rates from one to the other, both among them."""
    at = np.linspace(-np.log1p(-low), -np.log1p(-high), count)
    return np.asarray(-np.expm1(-at))


def _interval(b2: float, signs: Array, g: Array) -> tuple[float, float]:
    """The least and the largest b1 that every sign allows; the least is the larger one where none is allowed."""
    low, high = _limits(b2, signs, g)
    return max(float(low.max(initial=0.0)), 0.0), min(float(high.min(initial=1.0)), 1.0)


def _bounding(rates: Array, signs: Array, g: Array) -> Iterator[NDArray[np.intp]]:
    """The elements that bound the interval of b1 at each of these b2."""
    for b2 in rates:
        low, high = _limits(float(b2), signs, g)
        yield np.unique([np.argmax(low.max(axis=0)), np.argmin(high.min(axis=0))])


def _limits(b2: float, signs: Array, g: Array) -> tuple[Array, Array]:
    """(steps, elements) what each inequality a + b1 b >= 0 says: at least so much, and at most so much."""
    m = decaying_sum(b2, (1 - b2) * g)
    m = np.concatenate([np.zeros_like(g[:1]), m[:-1]])
    a = signs * g + SIGN_EPS * np.abs(g)
    b = signs * (m - g) + SIGN_EPS * (np.abs(m) - np.abs(g))
    told, infinite = signs != 0, np.full_like(g, np.inf)
    limit = np.divide(-a, b, out=infinite.copy(), where=told & (b != 0))
    low = np.where(told & (b > 0), limit, np.where(told & (b == 0) & (a < 0), np.inf, -np.inf))
    return low, np.where(told & (b < 0), limit, np.inf)
