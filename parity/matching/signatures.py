"""What a tensor's values say about it whatever its layout: two tensors are the same if their sorted values are.

Sorting cannot enlarge a distance: over all ways to pair the elements of a and b, pairing them in sorted order makes
|a - b| smallest (the rearrangement inequality). So if b is a, transposed or reshaped in any way and computed with
errors of relative size e, the sorted values differ by e at most. Honest float64 twins have e of about 1e-15 in a
forward pass; the verdict's bound of 1e-9 leaves six orders of magnitude to rounding, while n values drawn independently
from one distribution, once sorted, still differ by about 1/sqrt(n).

Each difference is measured against the element's own size, but not less than the lower quartile of the sizes: smaller
elements are what is left of larger ones that cancelled, and carry their error. A plain norm would not do: attention
scores masked with -1e9 would all be the same, whatever the others are.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.compare import BOUND, relative_difference

__all__ = ["Signature", "aligned_distance", "distance", "same", "signature"]

_SAMPLE = 64
_DISTINCT = 4  # fewer different values than this (masks, constants, scalars) may be equal by chance


@dataclass(frozen=True, kw_only=True, eq=False)
class Signature:
    """A tensor's values without their order.

    Args:
        size: how many.
        values: the finite ones, float64, ascending.
        others: how many are NaN, -infinity and infinity.
        floor: the size below which an element's error is measured against its neighbours'.
        telling: it has several different values, so that another tensor does not equal it by chance.
    """

    size: int
    values: NDArray[np.float64]
    others: tuple[int, int, int]
    floor: float
    telling: bool


def signature(value: NDArray[Any]) -> Signature:
    """The signature of a tensor of floats, of any shape."""
    flat = value.astype(np.float64).ravel()
    finite = np.sort(flat[np.isfinite(flat)])
    return Signature(
        size=flat.size,
        values=finite,
        others=(int(np.isnan(flat).sum()), int(np.isneginf(flat).sum()), int(np.isposinf(flat).sum())),
        floor=_floor(finite),
        telling=_distinct(finite) >= _DISTINCT,
    )


def _floor(values: NDArray[np.float64]) -> float:
    """The lower quartile of the sizes; the smallest and the largest value may be a mask's or ReLU's, not computed."""
    if not len(values):
        return 0.0
    inner = np.abs(values[(values > values[0]) & (values < values[-1]) & (values != 0)])
    return float(np.quantile(inner, 0.25)) if len(inner) else 0.0


def _distinct(values: NDArray[np.float64]) -> int:
    """How many different values there are, to rounding."""
    if not len(values):
        return 0
    with np.errstate(over="ignore"):
        gaps = np.diff(values)
    return 1 + int(np.sum(gaps > BOUND * np.maximum(np.abs(values[1:]), np.abs(values[:-1]))))


def same(a: Signature, b: Signature) -> bool:
    """Whether two tensors hold the same values, to 1e-9, in any order."""
    if a.size != b.size or a.others != b.others:
        return False
    floor = min(a.floor, b.floor)
    allowed = len(a.values) * BOUND**2
    # A sum over some elements bounds the sum over all from below: most pairs need no more than that.
    stride = max(1, len(a.values) // _SAMPLE)
    sample = _squares(a.values[::stride], b.values[::stride], floor)
    return sample <= allowed and (stride == 1 or _squares(a.values, b.values, floor) <= allowed)


def distance(a: Signature, b: Signature) -> float:
    """How far the values of two tensors of one size are apart: the root mean square that `same` holds against 1e-9."""
    return math.sqrt(_squares(a.values, b.values, min(a.floor, b.floor)) / max(len(a.values), 1))


def _squares(a: NDArray[np.float64], b: NDArray[np.float64], floor: float) -> float:
    """The sum of the squared relative differences; infinite rather than a warning where they overflow."""
    size = np.maximum(np.maximum(np.abs(a), np.abs(b)), floor)
    with np.errstate(over="ignore"):
        return float(np.sum(np.square((a - b) / np.where(size == 0, 1.0, size))))


def aligned_distance(a: NDArray[Any], b: NDArray[Any]) -> tuple[float, tuple[int, ...] | None]:
    """How far b is from a when its axes are put in the best order.

    Args:
        a: a tensor of floats.
        b: one with as many elements.

    Returns:
        The relative difference, and the order of b's axes that reaches it, axes of length 1 left out. Where the shapes
        are no permutation of each other, the distance of the sorted values, which no reordering falls below, and None.
    """
    a, b = a.squeeze(), b.squeeze()
    orders = [axes for axes in itertools.permutations(range(b.ndim)) if b.transpose(axes).shape == a.shape]
    if sorted(a.shape) != sorted(b.shape):
        return relative_difference(np.sort(a, axis=None), np.sort(b, axis=None)), None
    return min((relative_difference(a, b.transpose(axes)), axes) for axes in orders)
