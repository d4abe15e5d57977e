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
    Rung,
    compare_formula,
    difference_at,
    find_flips,
    first_break,
    formula_finding,
    largest_gap,
)
from parity.compare.stages import FORWARD
from parity.contract import StepTrace, Tensors, Weights
from parity.pair import Pair

__all__ = ["Parting", "first_finding", "jumped", "local_finding", "replay"]

JUMP = 8.0
"""A gap that is so many times the largest before it has jumped. Gradients of honest float32 twins fluctuate by a factor
of four from step to step (real images, batch 4); a flip took them from 5e-7 to 3e-2."""

QUIET = 64
"""Gaps below so many eps are rounding, whatever they were before."""


@dataclass(frozen=True, kw_only=True)
class Parting:
    """Where two sides part.

    Args:
        step: 0-based, of the run.
        before: the largest relative gap of a gradient in the steps of the chunk before it.
        gap: of a gradient in the step.
        apart: the largest relative gap of a parameter tensor before the step.
        explained: whether rounding explains it: a choice next to its switch, no other formula, and steps that lead,
            taken one by one, to where the chunk led.
        flips: the choices on which the sides differ in that step, in the order of the layers.
        finding: another formula, when the sides differ in that step although they take it from the same state.
    """

    step: int
    before: float
    gap: float
    apart: float
    flips: tuple[Flip, ...]
    finding: Finding | None
    explained: bool


def jumped(gap: float, before: float, dtype: str) -> bool:
    """Whether a gap is no longer what the gaps before it have grown to."""
    return gap > max(JUMP * before, QUIET * float(np.finfo(dtype).eps))


def replay(
    before: Pair, plan: NDArray[np.int32], after: Pair | None = None, *, first_step: int, dtype: str
) -> tuple[Parting, Pair] | None:
    """Find the step of a chunk at which two sides part: the first whose gradients jump, or a stage of which differs.

    Args:
        before: where the sides stood at the chunk's beginning.
        plan: (steps, batch), the chunk.
        after: where they stood at its end; None where that is not known.
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
            flips = find_flips(a, b)
            flipped = any(flip.ordinary(eps) for flip in flips)
            if finding or flipped:
                repeated = after is None or _leads_to(pair.run_steps(plan[step - first_step :]), after)
                explained = flipped and finding is None and repeated
                return Parting(
                    step=step,
                    before=largest,
                    gap=gap,
                    apart=_parameter_gap(pair),
                    flips=flips,
                    finding=finding,
                    explained=explained,
                ), pair
        largest = max(largest, gap)
        pair = pair.run(rows[np.newaxis])  # not observe's own step, which may be rounded otherwise
    return None


def local_finding(pair: Pair, rows: NDArray[np.int32], *, step: int, dtype: str) -> Finding | None:
    """Another formula in this step: what differs when both sides take it from the first side's state.

    What that state makes of rounding is measured by taking the step once more from parameters one ulp away: where the
    examples are learnt well, gradients are small differences of large numbers. Examples for which the rounding of one
    state makes a choice fall the other way are left out, and the step is taken without them.

    Args:
        pair: before the step.
        rows: the step's.
        step: its number.
        dtype: of the pair.
    """
    together, left = pair.resynchronised(), rows
    rung, flipped = _compare_together(together, left, step=step, dtype=dtype)
    while flipped:
        left = np.delete(left, flipped)
        if not left.size:
            return None
        rung, flipped = _compare_together(together, left, step=step, dtype=dtype)
    if rung is None:
        return None
    since = difference_at(rung.place, *_observe(pair, rows))
    finding = formula_finding(rung, eps=float(np.finfo(dtype).eps))
    without = (
        f" (without {len(rows) - len(left)} examples, for which rounding flips a choice)" if left is not rows else ""
    )
    detail = f"{finding.detail} in this step alone{without}, {since:.1e} since the start"
    return replace(finding, difference=since, local=rung.difference, detail=detail)


def _compare_together(
    together: Pair, rows: NDArray[np.int32], *, step: int, dtype: str
) -> tuple[Rung | None, list[int]]:
    """The first stage that differs in a step from one state; and the examples for which rounding has made a choice.

    Not only between the sides: where a null run's choice falls the other way, the null level is no longer rounding.
    """
    eps = float(np.finfo(dtype).eps)
    a, b = _observe(together, rows)
    null_a, null_b = _observe(together.nudged(seed=0, dtype=dtype), rows)
    rungs = compare_formula(step, a, b, null=(null_a, null_b), eps=eps)
    flips = [flip for pair in ((a, b), (a, null_a), (b, null_b)) for flip in find_flips(*pair) if flip.ordinary(eps)]
    rung = first_break(rungs)
    if rung and rung.place.stage in FORWARD:
        return rung, []
    return rung, sorted({flip.sample for flip in flips})


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
    """Both sides' step, ready to be compared."""
    return pair.comparable(*pair.observe(rows)[1])


def _gradient_gap(a: StepTrace, b: StepTrace) -> float:
    """Infinite where the gradients are not the same tensors."""
    same = {name: value.shape for name, value in a.gradients.items()} == {
        name: value.shape for name, value in b.gradients.items()
    }
    gap = largest_gap(_floats(a.gradients), _floats(b.gradients)) if same else None
    return gap.difference if gap else float("inf")


def _leads_to(found: Pair, expected: Pair) -> bool:
    """Whether both sides stand where they stood, by a tenth of the sides' own gap.

    They stand exactly there where a step's bits do not depend on how many steps are taken at once, as on the CPU.
    """
    allowed = 0.1 * _parameter_gap(expected)
    pairs = zip(found.lanes, found.states, expected.states, strict=True)
    gaps = [largest_gap(lane.weights(state), lane.weights(other)) for lane, state, other in pairs]
    return all(gap is None or gap.difference <= allowed for gap in gaps)


def _parameter_gap(pair: Pair) -> float:
    first, second = (lane.weights(state) for lane, state in zip(pair.lanes, pair.states, strict=True))
    gap = largest_gap(first, second)
    return gap.difference if gap else 0.0


def _floats(tensors: Tensors) -> Weights:
    return {name: np.asarray(value, np.float64) for name, value in tensors.items()}
