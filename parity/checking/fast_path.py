"""The fast path (`run`), on which programs are trained, against what `observe` shows of the same program's steps.

In float64 `run` must repeat the steps that were observed, by the first rule (`parity.compare.formula`). In float32 it
is judged as one more side of lower precision might be, by the second (`parity.compare.rounding`), two steps at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.checking.ladder import Climb, Taken
from parity.compare import (
    Errors,
    Finding,
    Rung,
    Stage,
    Trials,
    first_break,
    first_unproved,
    formula_finding,
    measure_rounding,
    relative_difference,
)
from parity.compare.formula import EPS, ULPS, rounding_allowed, small_loss_share, vacuous_problem
from parity.compare.measure import frobenius
from parity.contract import StepTrace, Tensors
from parity.lane import Lane
from parity.pair import Pair
from parity.progress import Progress, tell

__all__ = ["fast_finding", "fast_formulas", "fast_rounding", "group_ends", "grouped", "make_rung"]

Batch = NDArray[np.int32]
Traces = tuple[StepTrace, StepTrace]

_STAGES = {"momentum": "momentum", "parameters": "update"}
"""The stage at which the ladder shows what the fast path leaves."""

_LEFT = ("loss", "statistics", *_STAGES.values())


def grouped(batches: Sequence[Batch]) -> list[Batch]:
    """The (steps, batch) plans that hold these batches: a call of `run` takes batches of one size."""
    return [np.stack(list(group)) for _, group in itertools.groupby(batches, key=len)]


def group_ends(batches: Sequence[Batch]) -> list[int]:
    """The last step of each of those plans."""
    return [end - 1 for end in itertools.accumulate(map(len, grouped(batches)))]


def fast_formulas(start: Pair, batches: Sequence[Batch], climbed: Climb) -> tuple[tuple[Rung, ...], tuple[Rung, ...]]:
    """What each side's `run` makes of the steps, against what its `observe` recorded of them.

    Args:
        start: where both began, in float64.
        batches: the rows of each step.
        climbed: with the tensors of `group_ends` kept.
    """
    first, second = (
        tuple(_rerun(lane, state, batches, climbed, number))
        for number, (lane, state) in enumerate(zip(start.lanes, start.states, strict=True))
    )
    return first, second


def fast_finding(names: tuple[str, str], rungs: tuple[Sequence[Rung], Sequence[Rung]]) -> Finding | None:
    """The first side whose `run` is not what its `observe` shows, or of whose `run` nothing can be said."""
    for name, side in zip(names, rungs, strict=True):
        if rung := first_break(side) or first_unproved(side):
            finding = formula_finding(rung, phase="fast path")
            if rung.vacuous:
                return replace(finding, detail=f"{name}'s run() beside its observe(): {finding.detail}")
            detail = f"{name}: run() is not what observe() shows; {finding.detail}"
            return replace(finding, off=(name,), detail=detail)
    return None


def _rerun(lane: Lane, state: Any, batches: Sequence[Batch], climbed: Climb, number: int) -> Iterator[Rung]:
    """The steps again by `run`, in pieces of equal batches: losses at each step, tensors after each piece."""
    first = 0
    for plan in grouped(batches):
        tell(Progress(what=f"fast path of {lane.side.name}", done=first, total=len(batches)))
        state, losses = lane.run(state, plan)
        end = first + len(plan) - 1
        for step, loss in enumerate(losses, first):
            yield from _compared(step, "loss", {"loss": loss}, climbed.taken[step], number)
        first = end + 1
        yield from _compared(end, "momentum", lane.momentum(state), climbed.taken[end], number)
        yield from _compared(end, "parameters", lane.weights(state), climbed.taken[end], number)
    tell(Progress(what=f"fast path of {lane.side.name}", done=len(batches), total=len(batches)))


def _compared(step: int, kind: str, found: Tensors, taken: Taken, number: int) -> Iterator[Rung]:
    """One kind of tensor after a step."""
    observed: Tensors = getattr(taken.sides[number], kind)
    null: Tensors = getattr(taken.nulls[number], kind) if taken.nulls else {}
    for name in dict.fromkeys([*observed, *found]):
        if name.partition(":")[0] not in taken.unjudged:
            place = Stage(stage=_STAGES.get(kind, kind), tensor=name)
            moved = [(observed.get(name), null.get(name))]
            lost = taken.sides[number].cancelled if kind == "loss" else 0.0
            yield make_rung(step, place, found.get(name), observed.get(name), moved=moved, lost=lost)


def make_rung(step: int, place: Stage, a: Any, b: Any, *, moved: Sequence[tuple[Any, Any]], lost: float = 0.0) -> Rung:
    """One comparison outside the ladder; None stands for a tensor that is not there.

    `moved` are one side's tensor, or each side's, each with the same in its null run; `lost` is what a small loss has
    lost, absolute.
    """
    empty = place.stage in _STAGES.values() and np.size(a) == np.size(b) == 0  # a parameter may have no elements
    if missing := _missing(a, b, empty=empty):
        return Rung(step=step, place=place, difference=float("inf"), allowed=0.0, problem=missing)
    difference = relative_difference(np.asarray(a), np.asarray(b))
    scale = max(frobenius(np.asarray(a)), frobenius(np.asarray(b)))
    known = [(np.asarray(x), np.asarray(null)) for x, null in moved if x is not None and null is not None]
    allowed = rounding_allowed(known, stage=place.stage, scale=scale) if known else ULPS * EPS
    allowed += small_loss_share(lost, scale)
    problem = None if empty else vacuous_problem(allowed)
    return Rung(step=step, place=place, difference=difference, allowed=allowed, problem=problem, zero=empty)


def _missing(a: Any, b: Any, *, empty: bool) -> str | None:
    if a is None or b is None:
        return "only one side has it"
    if np.shape(a) != np.shape(b):
        return "the shapes differ"
    return None if np.size(a) or empty else "nothing is in it"


def fast_rounding(
    start: Pair, observed: Sequence[tuple[Pair, Traces]], plan: Batch, *, unjudged: frozenset[str]
) -> tuple[dict[Stage, Errors], dict[Stage, Errors]]:
    """What `run` makes of a few steps in float32 beside what `observe` does, on each side.

    Compared are the last loss, the momentum, running statistics, and the update of all steps together.

    Args:
        start: before the steps, in float32.
        observed: the first step in float32, in float64, and in float32 from weights moved by one ulp: where it led, and
            what both sides computed in it.
        plan: (steps, batch), the rows.
        unjudged: parameters whose gradient is zero in exact arithmetic.
    """
    seen = [_last(pair, first, plan[1:]) for pair, first in observed]
    first, second = (
        _side_rounding(start, number, plan, [traces[number] for traces in seen], unjudged) for number in (0, 1)
    )
    return first, second


def _last(pair: Pair, first: Traces, following: Batch) -> Traces:
    """The last step of several, from the first one's weights, so that its update is that of all of them."""
    last = first
    for rows in following:
        pair, last = pair.observe(rows)
    return replace(last[0], weights=first[0].weights), replace(last[1], weights=first[1].weights)


def _side_rounding(
    start: Pair, number: int, plan: Batch, observed: Sequence[StepTrace], unjudged: frozenset[str]
) -> dict[Stage, Errors]:
    """`observed`: the steps in float32, in float64, and in the null run."""
    seen, exact, null = observed
    lane = start.lanes[number]
    after, losses = lane.run(start.states[number], plan, timed=False)
    ran = replace(
        seen, loss={"loss": np.asarray(losses[-1])}, momentum=lane.momentum(after), parameters=lane.weights(after)
    )
    trials = Trials(a32=seen, b32=ran, a64=exact, b64=exact, a_null=null, b_null=None)
    measured = measure_rounding(trials, unjudged=unjudged)
    return {place: errors for place, errors in measured.items() if place.stage in _LEFT}
