"""Goes back to the last chunk boundary, and finds the step at which two sides part, and why.

Up to a boundary the sides were as close as rounding leaves them, at the next they are not. The steps between are taken
again one at a time and observed, until a stage differs by more than rounding or the gradients jump. That step is then
taken by both sides from the first side's state, so that nothing accumulated counts: what differs still is another
formula. Otherwise the choices on which the two forward passes differ are its cause: a flip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from parity.compare import (
    Finding,
    Flip,
    Stage,
    compare_formula,
    find_flips,
    first_break,
    formula_finding,
    in_order_of,
    largest_gap,
    nudge,
    relative_difference,
    stage_tensors,
)
from parity.contract import StepTrace, Tensors, Weights
from parity.pair import Pair

__all__ = ["Parting", "as_precision", "first_finding", "jumped", "local_finding", "replay"]

JUMP = 8.0
"""A gap that is so many times the largest before it has jumped. Gradients of honest float32 twins fluctuate by a factor
of four from step to step (real images, batch 4); a flip took them from 5e-7 to 3e-2."""

QUIET = 64
"""Gaps below so many eps are rounding, whatever they were before."""

FORWARD_STAGES = ("batch", "weights", "activations", "logits", "loss", "statistics")


@dataclass(frozen=True, kw_only=True)
class Parting:
    """Where two sides part.

    Args:
        step: 0-based, of the run.
        before: the largest relative gap of a gradient in the steps of the chunk before it.
        gap: of a gradient in the step.
        apart: the largest relative gap of a parameter tensor before the step.
        flips: the choices on which the sides differ in that step, in the order of the layers.
        finding: another formula, when the sides differ in that step although they take it from the same state.
    """

    step: int
    before: float
    gap: float
    apart: float
    flips: tuple[Flip, ...]
    finding: Finding | None

    @property
    def explained(self) -> bool:
        """Whether rounding explains it: a choice that is next to its switch, and no other formula."""
        return self.finding is None and any(flip.ordinary for flip in self.flips)


def jumped(gap: float, before: float, dtype: str) -> bool:
    """Whether a gap is no longer what the gaps before it have grown to."""
    return gap > max(JUMP * before, QUIET * float(np.finfo(dtype).eps))


def replay(before: Pair, plan: NDArray[np.int32], *, first_step: int, dtype: str) -> tuple[Parting, Pair] | None:
    """Find the step of a chunk at which two sides part: the first whose gradients jump, or a stage of which differs.

    Args:
        before: where the sides stood at the chunk's beginning.
        plan: (steps, batch), the chunk.
        first_step: the number of its first step.
        dtype: of the run.

    Returns:
        The first step that has a cause, a formula or a flip, and where the sides stood before it; None where they grow
        apart without one.
    """
    eps = float(np.finfo(dtype).eps)
    largest, pair = 0.0, before
    for step, rows in enumerate(plan, first_step):
        a, b = _observe(pair, rows)
        gap = _gradient_gap(a, b)
        if jumped(gap, largest, dtype) or first_break(compare_formula(step, a, b, eps=eps)):
            finding = local_finding(pair, rows, step=step, dtype=dtype)
            flips, apart = find_flips(a, b), _parameter_gap(pair)
            parting = Parting(step=step, before=largest, gap=gap, apart=apart, flips=flips, finding=finding)
            if finding or parting.explained:
                return parting, pair
        largest = max(largest, gap)
        pair = pair.run(rows[np.newaxis])  # not observe's own step, which may be rounded otherwise
    return None


def local_finding(pair: Pair, rows: NDArray[np.int32], *, step: int, dtype: str) -> Finding | None:
    """Another formula in this step: what differs when both sides take it from the first side's state.

    What that state makes of rounding is measured by taking the step once more on the first side, from parameters one
    ulp away: where the examples are learnt well, gradients are small differences of large numbers.

    Args:
        pair: before the step.
        rows: the step's.
        step: its number.
        dtype: of the pair.
    """
    eps = float(np.finfo(dtype).eps)
    together = pair.resynchronised()
    a, b = _observe(together, rows)
    rung = first_break(compare_formula(step, a, b, null=_null(together, rows, dtype), eps=eps))
    flipped = any(flip.ordinary for flip in find_flips(a, b))
    if rung is None or (flipped and rung.place.stage not in FORWARD_STAGES):
        return None  # with a flip: the same switch again, now by the rounding of one state
    since = _difference(*_observe(pair, rows), rung.place)
    finding = formula_finding(rung, eps=eps)
    detail = f"{finding.detail} in this step alone, {since:.1e} since the start"
    return replace(finding, difference=since, local=rung.difference, detail=detail)


def first_finding(
    pair: Pair, chunks: Sequence[tuple[int, NDArray[np.int32]]], dtype: str
) -> tuple[Finding, Pair, NDArray[np.int32]] | None:
    """The first step of several chunks that shows another formula by itself.

    Args:
        pair: before the first chunk.
        chunks: the number of each chunk's first step, and its plan.
        dtype: of the pair.

    Returns:
        The finding, where the sides stood before the step, and its rows; None where no step shows any.
    """
    for first, plan in chunks:
        for step, rows in enumerate(plan, first):
            if finding := local_finding(pair, rows, step=step, dtype=dtype):
                return finding, pair, rows
            pair = pair.run(rows[np.newaxis])
    return None


def _observe(pair: Pair, rows: NDArray[np.int32]) -> tuple[StepTrace, StepTrace]:
    """Both sides' step, in the first side's order of examples; activations only where names mean the same."""
    _, (a, b) = pair.observe(rows)
    if not pair.problem.is_cnn:
        a, b = replace(a, activations={}), replace(b, activations={})
    return a, in_order_of(a, b)


def _null(pair: Pair, rows: NDArray[np.int32], dtype: str) -> StepTrace:
    lane, state = pair.lanes[0], pair.states[0]
    weights, momentum = lane.tensors(state)
    moved = lane.restore(state, nudge(weights, seed=0, dtype=dtype), momentum)
    return lane.observe(moved, rows, pair.data[0])[1]


def _gradient_gap(a: StepTrace, b: StepTrace) -> float:
    """Infinite where the gradients are not the same tensors."""
    same = {name: value.shape for name, value in a.gradients.items()} == {
        name: value.shape for name, value in b.gradients.items()
    }
    gap = largest_gap(_floats(a.gradients), _floats(b.gradients)) if same else None
    return gap.difference if gap else float("inf")


def _parameter_gap(pair: Pair) -> float:
    first, second = (lane.weights(state) for lane, state in zip(pair.lanes, pair.states, strict=True))
    gap = largest_gap(first, second)
    return gap.difference if gap else 0.0


def _floats(tensors: Tensors) -> Weights:
    return {name: np.asarray(value, np.float64) for name, value in tensors.items()}


def _difference(a: StepTrace, b: StepTrace, place: Stage) -> float:
    mine, other = stage_tensors(a).get(place), stage_tensors(b).get(place)
    if mine is None or other is None or mine.shape != other.shape:
        return float("inf")
    return relative_difference(mine, other)


def as_precision(finding: Finding) -> Finding:
    """The finding of a step that float64 does not show."""
    return replace(finding, kind="precision", detail=f"{finding.detail}; the same step in float64 does not show it")
