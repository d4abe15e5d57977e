"""Climbs the ladder of stages: observes two sides step by step in float64 until the first tensor that differs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parity.checking.details import Details
from parity.compare import (
    Rung,
    Stage,
    compare_formula,
    difference_at,
    first_break,
    first_unproved,
    in_order_of,
    stage_tensors,
)
from parity.compare.formula import EPS, cancelled
from parity.contract import InputError, StepTrace, Tensors
from parity.pair import Pair
from parity.progress import Progress, tell

__all__ = ["Broken", "Climb", "Done", "Taken", "climb"]

Batch = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Broken:
    """Where the sides part.

    Args:
        rung: the first tensor that differs.
        traces: both sides' step there.
        before: where they stood before it.
        local: the difference when the second side takes the step from the first side's parameters and momentum, so that
            nothing accumulated counts.
    """

    rung: Rung
    traces: tuple[StepTrace, StepTrace]
    before: Pair
    local: float


@dataclass(frozen=True, kw_only=True)
class Done:
    """What is kept of one side's step: the loss, and what a small one would have lost (`parity.compare.formula`).

    Momentum and parameters only where they are asked for, else {}.
    """

    loss: Tensors
    cancelled: float
    momentum: Tensors
    parameters: Tensors


@dataclass(frozen=True, kw_only=True)
class Taken:
    """One step of both sides and of their null runs.

    Args:
        sides: what each side did.
        nulls: what their null runs did; None without one.
        unjudged: parameters whose gradient is zero in exact arithmetic here, or was and left weights that differ.
        moving: those of "gradients" and "update" that have a value that is not 0, on either side.
    """

    sides: tuple[Done, Done]
    nulls: tuple[Done, Done] | None
    unjudged: frozenset[str]
    moving: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Climb:
    """What was compared, where the sides stand afterwards, and the break if there is one.

    Args:
        rungs: every tensor of every step.
        standings: where the sides stood before each of the first steps, as many as were asked for.
        taken: what each step did.
        opening: all of the first step on both sides; None without one.
        end: where the sides stand afterwards.
        null_end: where their null runs do; None without one.
        broken: the break.
    """

    rungs: tuple[Rung, ...]
    standings: tuple[Pair, ...]
    taken: tuple[Taken, ...] = field(repr=False)
    opening: tuple[StepTrace, StepTrace] | None = field(repr=False)
    end: Pair
    null_end: Pair | None
    broken: Broken | None

    @property
    def unproved(self) -> Rung | None:
        """A tensor of which no step says anything, because rounding may move it by its own size in each."""
        return first_unproved(self.rungs)


def climb(
    pair: Pair,
    batches: Sequence[Batch],
    *,
    null: Pair | None = None,
    standings: int = 0,
    keep: Collection[int] = (),
    first_step: int = 0,
    details: Details | None = None,
    phase: str = "",
) -> Climb:
    """Take the steps on both sides, comparing every stage; stop at the first step that differs.

    Memory is that of one step, and of what is asked to be kept.

    Args:
        pair: where to begin, in float64.
        batches: the rows of each step.
        null: the null runs: the same, with weights moved by one ulp.
        standings: of how many steps to keep where the sides stood before them.
        keep: the steps (0 is the first of these) of which to keep momentum and parameters.
        first_step: the number of the first of these steps.
        details: what is to keep the tensors that differ most; None to keep none.
        phase: under which it keeps them.
    """
    rungs: list[Rung] = []
    stood: list[Pair] = []
    taken: list[Taken] = []
    unjudged: frozenset[str] = frozenset()
    opening = broken = None
    for number, rows in enumerate(batches):
        before = pair
        tell(Progress(what="steps in float64", done=number, total=len(batches)))
        pair, seen = before.observe(rows)
        null, moved = null.observe(rows) if null else (None, None)
        nulls = before.comparable(*moved) if moved else None
        both = pair.comparable(*seen)
        compared = compare_formula(first_step + number, *both, null=nulls, unjudged=unjudged)
        if details is not None:
            details.look(compared, *both, phase=phase)
        opening = opening or seen
        rungs += compared
        stood += [before] if number < standings else []
        unjudged = frozenset(rung.place.tensor for rung in compared if rung.zero and rung.place.stage == "update")
        taken.append(_taken(seen, moved, unjudged, whole=number in keep))
        if rung := first_break(compared):
            local = _local(before, rows, seen[0], rung.place)
            broken = Broken(rung=rung, traces=seen, before=before, local=local)
            break
    tell(Progress(what="steps in float64", done=len(batches), total=len(batches)))
    return Climb(
        rungs=tuple(rungs),
        standings=tuple(stood),
        taken=tuple(taken),
        opening=opening,
        end=pair,
        null_end=null,
        broken=broken,
    )


def _taken(
    seen: tuple[StepTrace, StepTrace],
    moved: tuple[StepTrace, StepTrace] | None,
    unjudged: frozenset[str],
    *,
    whole: bool,
) -> Taken:
    def done(trace: StepTrace) -> Done:
        momentum, parameters = (trace.momentum, trace.parameters) if whole else ({}, {})
        return Done(
            loss=trace.loss,
            cancelled=cancelled(trace.logits, eps=EPS),
            momentum=momentum,
            parameters=parameters,
        )

    values = [(place.stage, value) for trace in seen for place, value in stage_tensors(trace).items()]
    moving = frozenset(stage for stage, value in values if stage in ("gradients", "update") and np.any(value))
    nulls = (done(moved[0]), done(moved[1])) if moved else None
    return Taken(sides=(done(seen[0]), done(seen[1])), nulls=nulls, unjudged=unjudged, moving=moving)


def _local(before: Pair, rows: Batch, reference: StepTrace, place: Stage) -> float:
    """The second side's step from the first side's state; infinite where a tensor is missing or has another shape."""
    try:
        _, (_, trace) = before.resynchronised().observe(rows)
    except InputError:  # the first side's optimizer keeps what the second has no place for: Adam's beside SGD's
        return float("inf")
    return difference_at(place, reference, in_order_of(reference, trace))
