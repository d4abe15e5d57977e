"""Goes back to the last chunk boundary, and finds the step at which two sides part, and why.

Up to a boundary the sides were as close as rounding leaves them, at the next they are not. The steps between are taken
again one at a time and observed, until a stage differs by more than rounding or the gradients jump. That step is then
taken by both sides from the first side's state, so that nothing accumulated counts: what differs still is another
formula. Otherwise the choices on which the two forward passes differ are its cause: a flip.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from parity.compare import (
    Finding,
    Flip,
    Rung,
    Stage,
    compare_formula,
    find_flips,
    first_break,
    formula_finding,
    in_order_of,
    largest_gap,
    relative_difference,
    stage_tensors,
)
from parity.contract import StepTrace, Tensors, Weights
from parity.pair import Pair

__all__ = ["Parting", "as_precision", "jumped", "repeats", "replay"]

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
        flips: the choices on which the sides differ in that step, in the order of the layers.
        finding: another formula, when the sides differ in that step although they take it from the same state.
        state: the first side's parameters and momentum before the step.
    """

    step: int
    before: float
    gap: float
    flips: tuple[Flip, ...]
    finding: Finding | None
    state: tuple[Weights, Weights] = field(repr=False)

    @property
    def explained(self) -> bool:
        """Whether rounding explains it: a choice that is next to its switch, and no other formula."""
        return self.finding is None and any(flip.ordinary for flip in self.flips)


def jumped(gap: float, before: float, dtype: str) -> bool:
    """Whether a gap is no longer what the gaps before it have grown to."""
    return gap > max(JUMP * before, QUIET * float(np.finfo(dtype).eps))


def replay(before: Pair, plan: NDArray[np.int32], *, first_step: int, dtype: str) -> Parting | None:
    """Find the step of a chunk at which two sides part: the first whose gradients jump.

    Args:
        before: where the sides stood at the chunk's beginning.
        plan: (steps, batch), the chunk.
        first_step: the number of its first step.
        dtype: of the run.

    Returns:
        The first step that has a cause, a formula or a flip; None where the sides grow apart without one.
    """
    eps = float(np.finfo(dtype).eps)
    largest, pair = 0.0, before
    for step, rows in enumerate(plan, first_step):
        _, (a, b) = pair.observe(rows)
        b = in_order_of(a, b)
        gap = _gradient_gap(a, b)
        if jumped(gap, largest, dtype) or _first_break(pair, step, (a, b), eps):
            finding = _local_finding(pair, rows, step, (a, b), eps)
            state = pair.lanes[0].tensors(pair.states[0])
            flips = find_flips(a, b)
            parting = Parting(step=step, before=largest, gap=gap, flips=flips, finding=finding, state=state)
            if finding or parting.explained:
                return parting
        largest = max(largest, gap)
        pair = pair.run(rows[np.newaxis])  # not observe's own step, which may be rounded otherwise
    return None


def _gradient_gap(a: StepTrace, b: StepTrace) -> float:
    """Infinite where the gradients are not the same tensors."""
    same = {name: value.shape for name, value in a.gradients.items()} == {
        name: value.shape for name, value in b.gradients.items()
    }
    gap = largest_gap(_floats(a.gradients), _floats(b.gradients)) if same else None
    return gap.difference if gap else float("inf")


def _floats(tensors: Tensors) -> Weights:
    return {name: np.asarray(value, np.float64) for name, value in tensors.items()}


def _first_break(pair: Pair, step: int, seen: tuple[StepTrace, StepTrace], eps: float) -> Rung | None:
    a, b = seen
    if not pair.problem.is_cnn:  # such programs name their activations each in its own way
        a, b = replace(a, activations={}), replace(b, activations={})
    return first_break(compare_formula(step, a, b, eps=eps))


def _local_finding(
    pair: Pair, rows: NDArray[np.int32], step: int, accumulated: tuple[StepTrace, StepTrace], eps: float
) -> Finding | None:
    """Another formula in this step: what differs when both sides take it from the first side's state."""
    _, (a, b) = pair.resynchronised().observe(rows)
    b = in_order_of(a, b)
    rung = _first_break(pair, step, (a, b), eps)
    flipped = any(flip.ordinary for flip in find_flips(a, b))
    if rung is None or (flipped and rung.place.stage not in FORWARD_STAGES):
        return None  # with a flip: the same switch again, now by the rounding of one state
    since = _difference(*accumulated, rung.place)
    finding = formula_finding(rung, eps=eps)
    detail = f"{finding.detail} in this step alone, {since:.1e} since the start"
    return replace(finding, difference=since, local=rung.difference, detail=detail)


def _difference(a: StepTrace, b: StepTrace, place: Stage) -> float:
    mine, other = stage_tensors(a).get(place), stage_tensors(b).get(place)
    if mine is None or other is None or mine.shape != other.shape:
        return float("inf")
    return relative_difference(mine, other)


def repeats(exact: Pair, parting: Parting, rows: NDArray[np.int32]) -> bool:
    """Whether the step shows another formula in float64 too, from the same state.

    Args:
        exact: both sides, started in float64.
        parting: found in float32.
        rows: the step's.
    """
    _, (a, b) = exact.restore(*parting.state).observe(rows)
    return _first_break(exact, parting.step, (a, in_order_of(a, b)), float(np.finfo(np.float64).eps)) is not None


def as_precision(finding: Finding) -> Finding:
    """The finding of a step that float64 does not show."""
    return replace(finding, kind="precision", detail=f"{finding.detail}; the same step in float64 does not show it")
