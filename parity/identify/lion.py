"""Lion: the one rule whose constants are seen through signs alone.

    -u_t = lr_t (s_t + decay p_t),  s_t = sign(b1 m + (1 - b1) g_t),  then m = b2 m + (1 - b2) g_t

Every sign is an inequality for b1 and b2. What satisfies all of them is a region of the plane, long and bent where a
run is short. A point in its middle is given as the constants, and as their errors how far the region reaches from there
(lion_region.py): it is an interval, and no run says more. The region is looked for on a few elements
first, whose own is wide enough for a grid to hit its neighbourhood, then on more of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from parity.identify.fit import Fit
from parity.identify.lion_region import NEAREST_ONE, region_ends
from parity.identify.replay import Observed
from parity.identify.rule import Constants
from parity.identify.run import Array
from parity.identify.simulate import SIGN_EPS, decaying_sum

__all__ = ["beta_errors", "follows_gradient", "lion_betas"]

LIMIT = 4.0
"""Units of rounding, root mean square in a step, that a constant length of all updates may leave."""

TIGHTEST = 4000
"""Inequalities that are kept: those nearest to being violated."""

GRID = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.86, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9997)
STARTS = 12
"""Points of the grid, those with the fewest wrong signs first, from which the region is looked for."""

ZOOMS = 4
SPACING = 0.2
"""Half the grid's, in -log(1 - rate): how far from the best points the next ones lie where none leads into the region.
It is halved every time."""

HALVINGS = 5
END = 1e-9
"""How near to 0 a rate is at the end of its range."""

FEW = 160
"""Elements that are looked at first."""

FEWEST = 100
"""Elements of the smallest part that is worth a look of its own."""


def lion_betas(observed: Observed, lead: Observed) -> Constants | None:
    """Both rates, where every update is a sign times a length, plus decay, and some rates explain every sign.

    Args:
        observed: all elements.
        lead: elements with one decay.
    """
    if observed.skipped is not None or not _are_signs(lead):
        return None
    points: list[tuple[float, float]] = list(product(GRID, GRID))
    for part in (observed.of(_telling(observed)), *_growing(observed)):
        signs, g = _signs(part), part.run.gradients
        for zoom in range(ZOOMS):
            points = sorted(points, key=partial(_violated, signs=signs, g=g))[:STARTS]
            centres = (_centred(np.array(betas), signs, g) for betas in points)
            centre = next((found for found in centres if found is not None), None)
            if centre is not None:
                break
            points = [*points, *_around(points, SPACING / 2**zoom)]
        if centre is None:
            return None
        points = [(float(centre[0]), float(centre[1])), *points]
    return dict(zip(("b1", "b2"), points[0], strict=True))


def _around(points: Sequence[tuple[float, float]], distance: float) -> Iterator[tuple[float, float]]:
    """The eight neighbours of each point, on a scale on which rates near 1 lie as far apart as those near 0."""
    for point, *moves in product(points, (-distance, 0.0, distance), (-distance, 0.0, distance)):
        if any(moves):
            moved = np.exp(-np.maximum(-np.log1p(-np.array(point)) + moves, 0.0))
            yield float(1 - moved[0]), float(1 - moved[1])


def _signs(observed: Observed) -> Array:
    """(steps, elements) of what moves the parameters, as a descent has them: the first step is its gradient's sign."""
    signs = -np.sign(observed.updates)
    return signs if np.sum(signs[0] * observed.run.gradients[0]) >= 0 else -signs


def _telling(observed: Observed) -> NDArray[np.intp]:
    """Elements whose gradients change their sign most often: elsewhere every rate gives the same sign."""
    changes = np.count_nonzero(np.diff(np.sign(observed.run.gradients), axis=0), axis=0)
    return np.sort(np.argsort(-changes, kind="stable")[:FEW])


def _growing(observed: Observed) -> Iterator[Observed]:
    """Every hundredth element, every tenth, all of them."""
    count = len(observed.run.tensor)
    for stride in (100, 10, 1):
        if count >= FEWEST * stride:
            yield observed.of(np.arange(0, count, stride)) if stride > 1 else observed
    if count < FEWEST:
        yield observed


def follows_gradient(observed: Observed) -> bool:
    """Whether every sign is that of the step's own gradient: any momentum's part in it is unseen."""
    return _wrong(np.zeros(2), _signs(observed), observed.run.gradients) == 0


def beta_errors(found: Fit, observed: Observed) -> Fit:
    """The fit with the middle of what these elements leave of both rates, and how far that reaches from there."""
    start = np.array([found.constants["b1"], found.constants["b2"]], np.float64)
    signs, g = _signs(observed), observed.run.gradients
    centre = _centred(start, signs, g)
    if centre is None:
        return found
    ends, middle = region_ends(float(centre[0]), float(centre[1]), signs, g)
    centre = middle if _wrong(middle, signs, g) == 0 else centre
    reach = np.max(np.abs(ends - centre[:, None]), axis=1)
    everything = (ends[:, 0] < END) & (ends[:, 1] > 1 - 2 * NEAREST_ONE)
    b1, b2 = map(float, centre)
    e1, e2 = map(float, np.where(everything, np.inf, reach))
    return replace(
        found, constants={**found.constants, "b1": b1, "b2": b2}, errors={**found.errors, "b1": e1, "b2": e2}
    )


def _are_signs(observed: Observed) -> bool:
    """Whether -u is lr sign + decay p in every step, with one number and one for each tensor a step."""
    u, p, w = observed.updates, observed.run.parameters, observed.weights
    own = observed.run.tensor == np.arange(len(observed.run.names))[:, None]
    begun = np.cumsum(np.abs(observed.run.gradients), axis=0) > 0  # before it, an element decays and has no sign
    for t in range(len(u)):
        moved = (u[t] != 0) & begun[t]
        if not moved.any():
            continue
        columns = np.concatenate([-np.sign(u[t])[None], -p[t] * own])[:, moved] * w[t, moved]
        scale = np.maximum(np.abs(columns).max(axis=1, keepdims=True), 1e-300)
        target = u[t, moved] * w[t, moved]
        left = target - (columns / scale).T @ np.linalg.lstsq((columns / scale).T, target, rcond=None)[0]
        if moved.sum() < len(columns) + 2 or np.sqrt(np.mean(left**2)) > LIMIT:
            return False
    return True


def _blend(betas: Array, g: Array) -> tuple[Array, Array, Array, Array]:
    """b1 m + (1 - b1) g, its derivatives by both rates, and the size of its terms."""
    b1, b2 = betas
    m = decaying_sum(b2, (1 - b2) * g)
    before = np.concatenate([np.zeros_like(g[:1]), m[:-1]])
    # m = (1 - b2) sum: its derivative follows the same recursion, driven by what b2 multiplies.
    slope = decaying_sum(b2, before - g)
    slope = np.concatenate([np.zeros_like(g[:1]), slope[:-1]])
    return b1 * before + (1 - b1) * g, before - g, b1 * slope, np.abs(b1 * before) + np.abs((1 - b1) * g)


def _violated(betas: tuple[float, float], signs: Array, g: Array) -> float:
    blend = _blend(np.array(betas), g)[0]
    return float(np.mean(np.sign(blend) != signs))


def _wrong(betas: Array, signs: Array, g: Array) -> int:
    """How many signs are other than these rates would give."""
    blend, _, _, size = _blend(betas, g)
    return int(np.count_nonzero((np.sign(blend) != signs) & (signs != 0) & (np.abs(blend) > SIGN_EPS * size)))


def _centred(betas: Array, signs: Array, g: Array) -> Array | None:
    """The centre of the region around here where every sign is right; None if there is none.

    The inequalities are linearised, and solved by linear programs, a few times over. A step that leads out of the
    region, which is long and bent where a run is short, is halved.
    """
    from scipy.optimize import linprog

    wrong = _wrong(betas, signs, g)
    for _ in range(8):
        blend, by1, by2, size = _blend(betas, g)
        told = (size > 0) & (signs != 0)
        rows = np.stack([by1[told], by2[told]], axis=1) * -signs[told, None]
        room = (signs * blend)[told]
        lengths = np.maximum(np.hypot(rows[:, 0], rows[:, 1]), 1e-300)
        distances = room / lengths
        keep = np.argpartition(distances, TIGHTEST)[:TIGHTEST] if len(distances) > TIGHTEST else np.arange(len(room))
        rows, room = rows[keep] / lengths[keep, None], room[keep] / lengths[keep]
        box = [(max(-b, -0.2), min(1 - 1e-9 - b, 0.2)) for b in betas]
        inner = linprog([0, 0, -1], np.column_stack([rows, np.ones(len(rows))]), room, bounds=[*box, (None, 1)])
        if not inner.success:
            return None
        steps = [betas + inner.x[:2] / 2**halvings for halvings in range(HALVINGS)]
        step = next((step for step in steps if _wrong(step, signs, g) <= wrong), None)
        if step is None:
            break
        betas, wrong = step, _wrong(step, signs, g)
        if inner.x[2] > 0 and np.abs(inner.x[:2]).max() < 1e-2 * inner.x[2]:
            break
    return None if wrong else betas
