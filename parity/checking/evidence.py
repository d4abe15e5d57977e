"""Takes the steps of a check again, side by side, and has them explained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from parity.checking.claims import known_labels
from parity.compare import Finding, Rung, stage_tensors
from parity.contract import ParityError, StepTrace
from parity.explain import (
    Cause,
    Evidence,
    Explanation,
    Unknown,
    explain_evaluation,
    explain_programs,
    explain_score,
    explain_side,
)
from parity.lane import Lane
from parity.matching import first_unmatched
from parity.oracle.layers import normalise
from parity.pair import Pair
from parity.settings import Settings

__all__ = ["explain_difference", "explain_outputs", "explain_statement", "explain_steps"]

Batch = NDArray[np.int32]


def explain_steps(start: Pair, batches: Sequence[Batch], settings: Settings) -> Explanation:
    """What each side does otherwise than the CNN's formulas, in steps that begin at the same place.

    Args:
        start: both sides, in float64.
        batches: the rows of each step.
        settings: what the sides were asked to do.
    """
    found: list[Cause | Unknown] = []
    for lane, state, placed in zip(start.lanes, start.states, start.data, strict=True):
        traces = _observed(lane, state, placed, batches)
        if not traces:
            continue
        found += explain_side(_evidence(start, lane, state, traces, batches, settings=settings))
    return Explanation.of(found)


def explain_difference(start: Pair, rung: Rung, batches: Sequence[Batch]) -> Explanation:
    """What the second of two programs does otherwise than the first, whose formulas are its own."""
    first, second = (
        _observed(lane, state, placed, batches)
        for lane, state, placed in zip(start.lanes, start.states, start.data, strict=True)
    )
    forward = rung.place.stage in ("logits", "loss")
    parting = first_unmatched(first[rung.step], second[rung.step]) if forward and _both(rung, first, second) else None
    activation = parting.activation if parting and parting.activation not in ("logits", "loss") else None
    return Explanation.of(explain_programs(start.names, rung, (first, second), activation))


def _both(rung: Rung, first: Sequence[StepTrace], second: Sequence[StepTrace]) -> bool:
    """Whether both sides got as far as the step."""
    return min(len(first), len(second)) > rung.step


def explain_outputs(end: Pair, finding: Finding) -> Explanation:
    """Why the outputs for test examples differ, though everything before them matched."""
    images = normalise(np.asarray(end.problem.test[0]))
    return Explanation.of(
        explain_evaluation(finding, lane.side.name, lane.logits(state), images, lane.weights(state))
        for lane, state in zip(end.lanes, end.states, strict=True)
    )


def explain_statement(end: Pair, finding: Finding, settings: Settings) -> Explanation:
    """Why a side's accuracy is not that of its own outputs."""
    number = end.names.index(finding.off[0])
    lane, state = end.lanes[number], end.states[number]
    outputs = lane.logits(state)
    labels = known_labels(outputs)
    stated = lane.accuracy(state, (end.problem.test[0], labels)) or 0.0
    return explain_score(finding, stated, outputs, labels, settings.batch_size)


def _evidence(
    start: Pair, lane: Lane, state: object, traces: Sequence[StepTrace], batches: Sequence[Batch], *, settings: Settings
) -> Evidence:
    images, labels = start.problem.train
    weights, momentum = lane.tensors(state)
    return Evidence(
        side=lane.side.name,
        traces=tuple(traces),
        rows=tuple(batches[: len(traces)]),
        images=normalise(np.asarray(images)),
        labels=np.asarray(labels),
        weights=start.problem.weights if not momentum else weights,
        momentum=momentum,
        sgd=settings.sgd,
        batch_size=settings.batch_size,
    )


def _observed(lane: Lane, state: object, placed: object, batches: Sequence[Batch]) -> list[StepTrace]:
    """The side's steps, as far as it gets: after a fault it may fail, or overflow, and what was there before counts."""
    traces: list[StepTrace] = []
    for rows in batches:
        try:
            state, trace = lane.observe(state, rows, placed)
        except ParityError:
            break
        if not _finite(trace):
            break
        traces.append(trace)
    return traces


def _finite(trace: StepTrace) -> bool:
    """No formula can be fitted to what is not a number."""
    return all(np.isfinite(value).all() for value in stage_tensors(trace).values())
