"""One step's stages as a flat list of tensors, in the order in which a verdict looks for the first that breaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from parity.compare.measure import relative_difference
from parity.contract import STAGES, StepTrace, Tensors

__all__ = ["BACKWARD", "FORWARD", "OPTIMIZER", "Stage", "difference_at", "in_order_of", "pair_stages", "stage_tensors"]

FORWARD = ("batch", "weights", "activations", "logits")
"""Stages that hold what the forward pass reads and computes, before anything is summed over the batch."""

BACKWARD = ("gradients", "momentum", "update")
"""Stages that hold what is computed from the loss."""

OPTIMIZER = ("momentum", "update", "weights")
"""Stages that hold what the optimizer makes of gradients: the weights are those of the step before."""


@dataclass(frozen=True, kw_only=True, order=True)
class Stage:
    """A tensor's place in a step: one of `STAGES`, and its name there."""

    stage: str
    tensor: str

    def __str__(self) -> str:
        parameter, colon, slot = self.tensor.rpartition(":")
        if self.stage == "momentum" and colon and slot.isdigit():
            return f"{self.stage}, {parameter}, slot {slot}"
        return self.stage if self.stage == self.tensor else f"{self.stage}, {self.tensor}"


def stage_tensors(trace: StepTrace) -> dict[Stage, NDArray[np.float64]]:
    """Every tensor of a step as float64, in the order of `STAGES`.

    Gradients come last layer first, as the backward pass computes them. The update is the difference of the parameters
    after and before the step; tensors without a gradient (running statistics) have a stage of their own, after the
    forward pass that changes them.
    """
    trained = [name for name in trace.parameters if name in trace.gradients]
    others = {name: value for name, value in trace.parameters.items() if name not in trace.gradients}
    stages: dict[str, Tensors] = {
        "batch": trace.batch,
        "weights": trace.weights,
        "activations": trace.activations,
        "logits": trace.logits,
        "loss": trace.loss,
        "statistics": others,
        "gradients": {name: trace.gradients[name] for name in reversed(list(trace.gradients))},
        "momentum": trace.momentum,
        "update": {name: _difference(trace.parameters[name], trace.weights[name]) for name in trained},
    }
    return {
        Stage(stage=stage, tensor=name): np.asarray(value, np.float64)
        for stage in STAGES
        for name, value in stages.get(stage, {}).items()
    }


def _difference(after: NDArray[np.generic], before: NDArray[np.generic]) -> NDArray[np.float64]:
    """In float64, so that the difference of two float32 values is exact."""
    return np.asarray(after, np.float64) - np.asarray(before, np.float64)


def pair_stages(
    a: Mapping[Stage, NDArray[np.float64]], b: Mapping[Stage, NDArray[np.float64]]
) -> dict[Stage, tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]]:
    """Both sides' tensors by place, in order; None where a side has no such tensor.

    Momentum that one side does not keep stands at zero: a program without momentum is compared with one that has it.
    """
    places = [*a, *(place for place in b if place not in a)]
    order = {stage: number for number, stage in enumerate(STAGES)}
    pairs = {}
    for place in sorted(places, key=lambda place: order[place.stage]):
        first, second = a.get(place), b.get(place)
        if place.stage == "momentum":
            first = np.zeros_like(second) if first is None and second is not None else first
            second = np.zeros_like(first) if second is None and first is not None else second
        pairs[place] = (first, second)
    return pairs


def difference_at(place: Stage, a: StepTrace, b: StepTrace) -> float:
    """The relative difference of one tensor of two steps; infinite where one lacks it, or the shapes differ."""
    first, second = stage_tensors(a).get(place), stage_tensors(b).get(place)
    if first is None or second is None or first.shape != second.shape:
        return float("inf")
    return relative_difference(first, second)


def in_order_of(reference: StepTrace, trace: StepTrace) -> StepTrace:
    """The trace with its examples in the reference's order, where both saw the same examples in another order.

    A loss is the mean over its batch, so the order inside a batch is no part of the formula. Only what has an axis of
    examples first is reordered: batch, activations and logits.
    """
    expected, found = _examples(reference), _examples(trace)
    if expected == found or sorted(expected) != sorted(found):
        return trace
    order = np.empty(len(found), int)
    order[_ranks(expected)] = _ranks(found)

    def reordered(tensors: Tensors) -> Tensors:
        return {name: value[order] if value.shape[:1] == order.shape else value for name, value in tensors.items()}

    return replace(
        trace,
        batch=reordered(trace.batch),
        activations=reordered(trace.activations),
        logits=reordered(trace.logits),
    )


def _examples(trace: StepTrace) -> list[bytes]:
    """Each example of the batch as bytes: all arrays' rows, as float64 so that integer types do not matter."""
    rows = [np.asarray(array, np.float64) for array in trace.batch.values()]
    if len({len(array) for array in rows if array.ndim}) != 1 or any(array.ndim == 0 for array in rows):
        return []
    return [b"".join(array[number].tobytes() for array in rows) for number in range(len(rows[0]))]


def _ranks(examples: list[bytes]) -> list[int]:
    """The positions that sort the examples."""
    return sorted(range(len(examples)), key=lambda number: examples[number])
