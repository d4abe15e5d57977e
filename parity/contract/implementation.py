"""What a training program must offer to be compared: the Implementation protocol.

It is functional: `run` returns a new state and leaves the old one as it was, so that a driver can go back to any state
that it has kept. Images come as uint8 in (N, H, W, C), labels as integers; everything that leaves an implementation is
NumPy in the canonical layout (see `parity.contract.cnn`), and a copy: a live buffer would change under the reader.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from parity.contract.cnn import Weights
from parity.contract.sgd import SGD

__all__ = ["DTYPES", "AnyImplementation", "Implementation"]

DTYPES = ("float32", "float64")

StateT = TypeVar("StateT")
ResidentT = TypeVar("ResidentT")


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
            dtype: "float32" or "float64", for parameters, activations and updates alike.
            device: one of `devices()`.

        Raises:
            InputError: the weights are not the model's, or the device cannot be used.
        """
        ...

    def describe(self, state: StateT) -> str:
        """One line on how it computes: framework and version, path chosen, device."""
        ...

    def place(self, state: StateT, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> ResidentT:
        """Copy a data set to the state's device, once, for `run` and `logits` to read.

        Args:
            state: says which device; its weights do not matter.
            images: (N, H, W, C) uint8.
            labels: (N,) class numbers.
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

    def logits(self, state: StateT, data: ResidentT) -> NDArray[np.floating]:
        """The model's outputs, (N, classes), for every image of `data`, in order."""
        ...

    def weights(self, state: StateT) -> dict[str, NDArray[np.floating]]:
        """The parameters: canonical tensors, copies."""
        ...

    def momentum(self, state: StateT) -> dict[str, NDArray[np.floating]]:
        """The momentum buffers: canonical tensors, copies; zeros before the first step.

        Empty when sgd.momentum is 0: there is no buffer then.
        """
        ...


AnyImplementation = Implementation[Any, Any]
