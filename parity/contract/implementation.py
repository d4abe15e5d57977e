"""What a training program must offer to be compared: the Implementation protocol.

It is functional: `run` returns a new state and leaves the old one as it was, so that a driver can go back to any state
that it has kept. Images come as uint8 in (N, H, W, C), labels as integers; everything that leaves an implementation is
NumPy in the canonical layout (see `parity.contract.cnn`), and a copy: a live buffer would change under the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from parity.contract.cnn import Weights
from parity.contract.sgd import SGD
from parity.contract.step_trace import StepTrace

__all__ = [
    "DTYPES",
    "PRECISIONS",
    "AnyImplementation",
    "CompiledAhead",
    "Contestant",
    "Ensemble",
    "Implementation",
    "Metered",
    "Scored",
    "SelfContained",
    "storage",
]

DTYPES = ("float32", "float64")

PRECISIONS = (*DTYPES, "tf32")
"""What `parity bench` times: "tf32" is float32 whose products may be TF32's, on a GPU that has them."""

StateT = TypeVar("StateT")
ResidentT = TypeVar("ResidentT")
StateT_contra = TypeVar("StateT_contra", contravariant=True)
ResidentT_contra = TypeVar("ResidentT_contra", contravariant=True)


def storage(precision: str) -> str:
    """The dtype in which tensors are kept.

    >>> [storage(precision) for precision in PRECISIONS]
    ['float32', 'float64', 'float32']
    """
    return "float32" if precision == "tf32" else precision


@runtime_checkable
class Implementation(Protocol[StateT, ResidentT]):
    """A training program: weights and hyper-parameters in, losses and weights out.

    StateT is the implementation's own state (parameters, momentum, whatever its fast path needs), ResidentT its own
    form of a data set that lies on the device.
    """

    def devices(self) -> tuple[str, ...]:
        """The devices it can use here, the preferred one first: ("cpu",) or ("cuda", "cpu")."""
        ...

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> StateT:
        """A state before the first step: these weights, no momentum yet.

        Args:
            weights: canonical tensors; copied.
            sgd: hyper-parameters.
            dtype: "float32" or "float64", for parameters, activations and updates alike. `parity bench` alone may ask
                for "tf32" too: float32, but operands of products may be rounded to TF32's 11 significant bits.
            device: one of `devices()`.

        Raises:
            InputError: the weights are not the model's, the device cannot be used, it has no TF32 and that is asked
                for, or a schedule, clipping or decay_biases=False is asked for and not offered. Whatever else `sgd`
                says is to be done.
        """
        ...

    def describe(self, state: StateT) -> str:
        """One line on how it computes: framework and version, path chosen, device."""
        ...

    def restore(self, state: StateT, weights: Weights, momentum: Weights) -> StateT:
        """The given state with these tensors in place of its own: settings, device and step count stay.

        Args:
            state: left as it was.
            weights: what `weights` returns; copied, rounded to the state's dtype.
            momentum: what `momentum` returns; copied likewise. {} for buffers that do not exist yet.
        """
        ...

    def place(self, state: StateT, *arrays: NDArray[np.generic]) -> ResidentT:
        """Copy a data set to the state's device, once, for `run`, `observe` and `logits` to read.

        Args:
            state: says which device and dtype; its weights do not matter.
            arrays: equally long. For the CNN two: (N, H, W, C) uint8 images and (N,) class numbers.
        """
        ...

    def run(self, state: StateT, data: ResidentT, plan: NDArray[np.int32]) -> tuple[StateT, NDArray[np.floating]]:
        """Train for len(plan) steps on the fast path.

        Args:
            state: left as it was.
            data: from `place`.
            plan: (steps, batch) int32, the rows of `data` that each step sees.

        Returns:
            The new state, and (steps,) losses: each the mean cross-entropy of its batch before the update.
        """
        ...

    def observe(self, state: StateT, data: ResidentT, rows: NDArray[np.int32]) -> tuple[StateT, StepTrace]:
        """Train for one step, as `run` does, and record every stage of it.

        Args:
            state: left as it was.
            data: from `place`.
            rows: (batch,) int32, the rows of `data` that the step sees.

        Returns:
            The state after the step, and what the step computed. The arithmetic may be grouped otherwise than in `run`,
            so the two agree to rounding, not to the last bit.
        """
        ...

    def logits(self, state: StateT, data: ResidentT) -> NDArray[np.floating]:
        """The model's outputs, (N, classes), for every image of `data`, in order."""
        ...

    def weights(self, state: StateT) -> dict[str, NDArray[np.floating]]:
        """The parameters: canonical tensors, copies."""
        ...

    def momentum(self, state: StateT) -> dict[str, NDArray[np.floating]]:
        """The momentum buffers: canonical tensors, copies; zeros before the first step.

        Empty when `sgd.has_buffer` is False.
        """
        ...


@runtime_checkable
class Contestant(Protocol[StateT, ResidentT]):
    """What `parity bench` times: those methods of `Implementation` that a run needs, with the same meaning.

    Every implementation has them. The losses that `run` returns are NumPy arrays, so that a call ends when the device
    has finished.
    """

    def devices(self) -> tuple[str, ...]:
        """See `Implementation`; so for all methods."""
        ...

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> StateT:
        """A state before the first step."""
        ...

    def describe(self, state: StateT) -> str:
        """One line on how it computes."""
        ...

    def place(self, state: StateT, *arrays: NDArray[np.generic]) -> ResidentT:
        """Copy a data set to the state's device."""
        ...

    def run(self, state: StateT, data: ResidentT, plan: NDArray[np.int32]) -> tuple[StateT, NDArray[np.floating]]:
        """Train for len(plan) steps: the new state, and (steps,) losses."""
        ...

    def weights(self, state: StateT) -> dict[str, NDArray[np.floating]]:
        """The parameters: canonical tensors, copies."""
        ...


@runtime_checkable
class Metered(Protocol):
    """A contestant that knows how much memory of its device it has used."""

    def peak_memory(self) -> int | None:
        """The most bytes of device memory that were in use at once in this process; None on the CPU."""
        ...


@runtime_checkable
class CompiledAhead(Protocol[StateT_contra, ResidentT_contra]):
    """An implementation that compiles what it runs, and can begin with that before it is asked to run it."""

    def compile_ahead(
        self,
        state: StateT_contra,
        train: ResidentT_contra,
        test: ResidentT_contra | None,
        *,
        observed: Sequence[int],
        plans: Sequence[tuple[int, int]],
    ) -> Callable[[], None]:
        """Begin to compile what these calls will need, in the background; what they return does not change by it.

        A call that comes while its program is being compiled waits for that. The device may be used for it, and memory
        as by the calls themselves.

        Args:
            state: of the settings that the calls will have; left as it was.
            train: what `observe` and `run` will read, from `place`.
            test: what `logits` will read, from `place`; None where it will not be called.
            observed: the batch sizes of the calls of `observe`.
            plans: the shapes, (steps, batch), of the calls of `run`.

        Returns:
            Drops what has not been begun; to be called when no more is wanted, and does not wait.
        """
        ...


@runtime_checkable
class SelfContained(Protocol):
    """A program that brings its own initial weights, data and optimizer, beside the methods of `Implementation`.

    Its `start` takes its own tensors in its own names and layout, and refuses an `SGD` other than the default, because
    it does not use it.
    """

    def example(self) -> tuple[Weights, tuple[NDArray[np.generic], ...]]:
        """Initial weights, and a data set: equally long arrays, as `place` takes them."""
        ...


@runtime_checkable
class Ensemble(Protocol[StateT, ResidentT_contra]):
    """An implementation that trains several states at once for less than one after the other costs."""

    def run_many(
        self, states: Sequence[StateT], data: ResidentT_contra, plan: NDArray[np.int32]
    ) -> tuple[tuple[StateT, ...], NDArray[np.floating]]:
        """As `run`, for states of equal settings on the same batches.

        Returns:
            The new states, and (members, steps) losses.
        """
        ...


@runtime_checkable
class Scored(Protocol[StateT_contra, ResidentT_contra]):
    """An implementation of the CNN that states its own accuracy, so that its metric can be checked beside its outputs.

    Outputs may agree to the last bit while what is reported of them is wrong: an argmax over the wrong axis, or a mean
    over batches of unequal sizes.
    """

    def accuracy(self, state: StateT_contra, data: ResidentT_contra) -> float:
        """The share of the data's images, from 0 to 1, whose largest output (the first of equals) is their label's."""
        ...


AnyImplementation = Implementation[Any, Any]
