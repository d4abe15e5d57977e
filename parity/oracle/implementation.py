"""The oracle as an Implementation. A state is never written to: a step makes new arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from parity.contract import (
    CNN_ACTIVATIONS,
    CNN_PARAMETERS,
    NUM_CLASSES,
    SGD,
    InputError,
    StepTrace,
    Weights,
    check_weights,
)
from parity.oracle.layers import Array
from parity.oracle.model import Arrays, Operations, backward, forward

__all__ = ["Oracle", "Resident", "State"]

ScalarT = TypeVar("ScalarT", bound=np.generic)

DTYPE = "float64"
DEVICE = "cpu"
IMAGE_SHAPE = (32, 32, 3)

EVALUATION_BATCH = 100  # images at once: conv1's unfolded windows take 0.5 MB for each

# Where training diverges the losses say so, as on every side: no warnings beside them.
_unwarned = np.errstate(over="ignore", invalid="ignore")


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """A snapshot: hyper-parameters, arrays by canonical name, and how many steps have led here.

    `buffers` is empty before the first step.
    """

    sgd: SGD
    parameters: Arrays
    buffers: Arrays
    steps: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Resident:
    """A data set as it came, copied: (N, 32, 32, 3) uint8 images and (N,) labels."""

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """The CNN trained by SGD, in float64 alone.

    Args:
        operations: what a step is made of.
    """

    operations: Operations = field(default_factory=Operations)

    def devices(self) -> tuple[str, ...]:
        """See `parity.contract.Implementation`; so for all methods."""
        return (DEVICE,)

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """A state with these weights and no momentum.

        Raises:
            InputError: another dtype or device is asked for, or the weights are not the CNN's.
        """
        if dtype != DTYPE:
            raise InputError("dtype", dtype, f"the oracle computes in {DTYPE} only", f"use --dtype {DTYPE}")
        if device != DEVICE:
            raise InputError("device", device, "the oracle has no such device", f"use {DEVICE}")
        return State(sgd=sgd, parameters=_cnn_tensors(weights, "weights"), buffers={})

    def describe(self, state: State) -> str:  # noqa: ARG002  all its states compute alike
        """Library, path and device."""
        return f"numpy {np.__version__}, gradients by hand, float64, CPU"

    def restore(self, state: State, weights: Weights, momentum: Weights) -> State:
        """The state with these tensors in place of its own; with {} for momentum the next step is a first step."""
        buffers = _cnn_tensors(momentum, "momentum") if momentum else {}
        return replace(state, parameters=_cnn_tensors(weights, "weights"), buffers=buffers)

    def place(self, state: State, *arrays: NDArray[np.generic]) -> Resident:  # noqa: ARG002  there is one device
        """Copy images and labels.

        Raises:
            InputError: they are not (N, 32, 32, 3) uint8 and (N,) integers from 0 to 9.
        """
        if len(arrays) != 2:
            raise InputError("data", f"{len(arrays)} arrays", "the CNN reads two", "give images and labels")
        images, labels = arrays
        return Resident(images=_images(images), labels=_labels(labels, len(images)))

    def run(self, state: State, data: Resident, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows; the given state stays as it was."""
        losses = np.empty(len(plan))
        for number, rows in enumerate(plan):
            state, trace = self._step(state, data, rows)
            losses[number] = trace.loss["loss"]
        return state, losses

    def observe(self, state: State, data: Resident, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """One step of `run`, equal to the last bit, with every stage recorded."""
        after, trace = self._step(state, data, rows)
        # The other stages' arrays are this step's alone; these belong to the two states.
        return after, replace(
            trace,
            weights=_copies(trace.weights),
            momentum=_copies(trace.momentum),
            parameters=_copies(trace.parameters),
        )

    @_unwarned
    def logits(self, state: State, data: Resident) -> NDArray[np.floating]:
        """(N, 10) outputs, in order."""
        ops = self.operations
        starts = range(0, len(data.images), EVALUATION_BATCH)
        batches = (ops.normalise(data.images[start : start + EVALUATION_BATCH]) for start in starts)
        outputs = [forward(ops, state.parameters, batch)["fc3"] for batch in batches]
        return np.concatenate([np.empty((0, NUM_CLASSES)), *outputs])

    def weights(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the parameters."""
        return _copies(state.parameters)

    def momentum(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the buffers; zeros before the first step, {} when there is none."""
        if not state.sgd.has_buffer:
            return {}
        return _copies(state.buffers or {name: np.zeros_like(p) for name, p in state.parameters.items()})

    @_unwarned
    def _step(self, state: State, data: Resident, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """The state after one step, and all that was computed: the live arrays, not copies."""
        ops, parameters = self.operations, state.parameters
        images, labels = ops.normalise(data.images[rows]), data.labels[rows]
        outputs = forward(ops, parameters, images)
        logits = outputs["fc3"]
        gradients = backward(ops, parameters, images, outputs, ops.cross_entropy_backward(logits, labels))
        gradients = ops.clip_gradients(gradients, state.sgd)
        after = _update(ops, state, gradients)
        return after, StepTrace(
            batch={"images": images, "labels": labels},
            weights=parameters,
            activations={name: outputs[name] for name in CNN_ACTIVATIONS},
            logits={"logits": logits},
            loss={"loss": ops.cross_entropy(logits, labels)},
            gradients=gradients,
            momentum=after.buffers,
            parameters=after.parameters,
        )


def _update(ops: Operations, state: State, gradients: Arrays) -> State:
    parameters: dict[str, Array] = {}
    buffers: dict[str, Array] = {}
    for name, parameter in state.parameters.items():
        buffer = state.buffers.get(name)
        parameters[name], buffer = ops.sgd_update(parameter, gradients[name], buffer, state.sgd, state.steps)
        if buffer is not None:
            buffers[name] = buffer
    return replace(state, parameters=parameters, buffers=buffers, steps=state.steps + 1)


def _cnn_tensors(tensors: Weights, argument: str) -> dict[str, Array]:
    """Float64 copies of the CNN's ten tensors, in canonical order."""
    check_weights(tensors, argument=argument)
    return {name: np.array(tensors[name], np.float64) for name in CNN_PARAMETERS}


def _copies(tensors: Mapping[str, NDArray[ScalarT]]) -> dict[str, NDArray[ScalarT]]:
    return {name: value.copy() for name, value in tensors.items()}


def _images(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.shape[1:] != IMAGE_SHAPE:
        problem = f"the CNN reads uint8 of shape (N, {', '.join(map(str, IMAGE_SHAPE))})"
        raise InputError("images", f"of shape {array.shape}, {array.dtype}", problem, "give such images")
    return np.array(array, np.uint8)


def _labels(array: NDArray[np.generic], size: int) -> NDArray[np.integer]:
    if not np.issubdtype(array.dtype, np.integer) or array.shape != (size,):
        problem = f"there are {size} images"
        raise InputError("labels", f"of shape {array.shape}, {array.dtype}", problem, f"give {size} integers")
    labels = np.array(array, np.int64)
    # A label out of range has no column in the one-hot matrix, and a negative one counts classes from the end.
    if (wrong := labels[(labels < 0) | (labels >= NUM_CLASSES)]).size:
        raise InputError("labels", wrong[0], "there is no such class", f"give 0 to {NUM_CLASSES - 1}")
    return labels
