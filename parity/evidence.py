"""Takes steps again, each side by itself, and has them explained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from parity.compare import Finding, Rung, Stage, stage_tensors
from parity.contract import CNN_PARAMETERS, NUM_CLASSES, ParityError, StepTrace, Weights
from parity.explain import (
    Cause,
    Evidence,
    Explanation,
    Unknown,
    explain_evaluation,
    explain_programs,
    explain_side,
)
from parity.lane import Lane
from parity.matching import first_unmatched
from parity.oracle.layers import normalise
from parity.pair import Pair
from parity.problem import Problem
from parity.settings import Settings

__all__ = ["explain_difference", "explain_evidence", "explain_outputs", "explain_steps"]

Batch = NDArray[np.int32]


def explain_steps(
    start: Pair, batches: Sequence[Batch], settings: Settings, *, given: Weights | None = None, first_step: int = 0
) -> Explanation:
    """What each side does otherwise than the CNN's formulas, in consecutive steps.

    Args:
        start: where both sides begin, in float64.
        batches: the rows of each step.
        settings: what the sides were asked to do.
        given: the weights that they were given just before; None in the middle of a run.
        first_step: the number of the first of these steps.
    """
    found: list[Cause | Unknown] = []
    for lane, state, placed in zip(start.lanes, start.states, start.data, strict=True):
        traces = _observed(lane, state, placed, batches)
        if not traces:
            continue
        weights, momentum = lane.tensors(state)
        rows, images, labels = _examples(start.problem, batches[: len(traces)])
        found += explain_evidence(
            Evidence(
                side=lane.side.name,
                traces=tuple(traces),
                rows=rows,
                images=images,
                labels=labels,
                weights=given or weights,
                momentum=momentum,
                sgd=settings.sgd,
                batch_size=settings.batch_size,
                first_step=first_step,
            )
        )
    return Explanation.of(found)


def explain_evidence(evidence: Evidence) -> list[Cause | Unknown]:
    """What one side does otherwise than the CNN's formulas; or why it cannot be held against them."""
    if problem := _unreadable(evidence.traces[0]):
        return [_not_explained(evidence.side, problem, evidence.first_step)]
    return explain_side(evidence)


def _unreadable(trace: StepTrace) -> str | None:
    """Why a step cannot be held against the CNN's formulas; None if it can."""
    shapes = {name: value.shape for name, value in {**trace.batch, **trace.logits}.items()}
    examples = len(trace.batch.get("labels", ()))
    expected = {"images": (examples, 3, 32, 32), "labels": (examples,), "logits": (examples, NUM_CLASSES)}
    for name, shape in expected.items():
        if shapes.get(name) != shape:
            return f"its {name} are {shapes.get(name, 'missing')}, not {shape}"
    for name, value in trace.gradients.items():
        if value.shape != CNN_PARAMETERS.get(name):
            return f"its gradient by {name} is {value.shape}"
    return None


def _not_explained(side: str, problem: str, step: int) -> Unknown:
    place = Stage(stage="batch", tensor="batch")
    infinite = float("inf")
    return Unknown(side=side, place=place, step=step, difference=infinite, residual=infinite, best=None, why=problem)


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


def _examples(
    problem: Problem, batches: Sequence[Batch]
) -> tuple[tuple[Batch, ...], NDArray[np.float64], NDArray[np.integer]]:
    """The rows, counted among those examples that are kept: all of a small set, of a large one those that come up."""
    images, labels = np.asarray(problem.train[0], np.uint8), np.asarray(problem.train[1], np.int64)
    if len(images) <= FEW:
        return tuple(batches), normalise(images), labels
    used, numbers = np.unique(np.concatenate(batches), return_inverse=True)
    ends = np.cumsum([len(rows) for rows in batches])[:-1]
    return tuple(np.split(numbers.astype(np.int32), ends)), normalise(images[used]), labels[used]


FEW = 1000


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
