"""Climbs the ladder of stages: observes two sides step by step in float64 until the first tensor that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.compare import (
    Rung,
    Stage,
    compare_formula,
    difference_at,
    first_break,
    in_order_of,
)
from parity.contract import StepTrace
from parity.pair import Pair

__all__ = ["Broken", "Climb", "climb"]

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
class Climb:
    """What was compared, where the sides stand afterwards, and the break if there is one.

    `standings` are where they stood before each step, `traces` what they computed in it, `nulls` what the null run did,
    and `null_end` is its state afterwards; `unjudged` are the parameters whose gradient is zero in exact arithmetic.
    """

    rungs: tuple[Rung, ...]
    standings: tuple[Pair, ...]
    traces: tuple[tuple[StepTrace, StepTrace], ...] = field(repr=False)
    nulls: tuple[StepTrace | None, ...] = field(repr=False)
    end: Pair
    null_end: Any
    unjudged: frozenset[str]
    broken: Broken | None


def climb(pair: Pair, batches: Sequence[Batch], *, null: Any = None, first_step: int = 0) -> Climb:
    """Take the steps on both sides, comparing every stage; stop at the first step that differs.

    Args:
        pair: where to begin, in float64.
        batches: the rows of each step.
        null: a null run's state: the first side's program, its weights moved by one ulp.
        first_step: the number of the first of these steps.
    """
    rungs: list[Rung] = []
    standings: list[Pair] = []
    traces: list[tuple[StepTrace, StepTrace]] = []
    nulls: list[StepTrace | None] = []
    unjudged: frozenset[str] = frozenset()
    broken = None
    for step, rows in enumerate(batches, first_step):
        before = pair
        pair, seen = before.observe(rows)
        null, moved = _observe_null(before, null, rows)
        compared = compare_formula(step, *pair.comparable(*seen), null=moved, unjudged=unjudged)
        standings.append(before)
        traces.append(seen)
        nulls.append(moved)
        rungs += compared
        unjudged |= {rung.place.tensor for rung in compared if rung.zero and rung.place.stage == "gradients"}
        if rung := first_break(compared):
            local = _local(before, rows, seen[0], rung.place)
            broken = Broken(rung=rung, traces=seen, before=before, local=local)
            break
    return Climb(
        rungs=tuple(rungs),
        standings=tuple(standings),
        traces=tuple(traces),
        nulls=tuple(nulls),
        end=pair,
        null_end=null,
        unjudged=unjudged,
        broken=broken,
    )


def _observe_null(pair: Pair, null: Any, rows: Batch) -> tuple[Any, StepTrace | None]:
    return pair.lanes[0].observe(null, rows, pair.data[0]) if null is not None else (None, None)


def _local(before: Pair, rows: Batch, reference: StepTrace, place: Stage) -> float:
    """The second side's step from the first side's state; infinite where a tensor is missing or has another shape."""
    _, (_, trace) = before.resynchronised().observe(rows)
    return difference_at(place, reference, in_order_of(reference, trace))
