"""What train.py needs of a way to compute the CNN: convolutions.py is the readable one, products.py the fast one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jax import Array
from numpy.typing import NDArray

from parity.contract import Weights

__all__ = ["Formulation", "Params"]

Params = Mapping[str, Any]
"""The pytree that training differentiates."""


@runtime_checkable
class Formulation(Protocol):
    """A way to compute the same function; each has its own layouts.

    Everything but `name`, `resident` and the two canonical forms is traced by jit: pure functions of arrays.
    """

    @property
    def name(self) -> str:
        """For people: "XLA convolutions"."""
        ...

    @property
    def at_once(self) -> int | None:
        """How many images a step of `train_steps` computes at once at most, in pieces of its batch; None for all.

        Steps under observation and evaluation go by their own sizes.
        """
        ...

    def from_canonical(self, weights: Weights, *, dtype: str) -> Params:
        """Canonical weights, or anything of their names and shapes -> a new pytree on the default device.

        Raises:
            InputError: a tensor is missing, unknown or ill-shaped.
        """
        ...

    def to_canonical(self, params: Params) -> dict[str, NDArray[np.floating]]:
        """A pytree of parameters, gradients or momentum -> canonical arrays, copies."""
        ...

    def activation_to_canonical(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        """An activation of a batch, by its canonical name -> (B, C, H, W) or (B, features), a copy."""
        ...

    def resident(self, images: NDArray[np.generic]) -> NDArray[np.generic]:
        """(N, 32, 32, 3) uint8 images -> what lies on the device, image by image."""
        ...

    def images(self, table: Array, resident: Array, rows: Array) -> Array:
        """The normalised images in these rows, canonical: (B, 3, 32, 32)."""
        ...

    def batch(self, table: Array, resident: Array, rows: Array) -> Array:
        """The normalised images in these rows, as `logits` takes them; table holds every pixel value's own."""
        ...

    def logits(self, params: Params, batch: Array) -> Array:
        """(B, 10) outputs, which can be differentiated for the parameters."""
        ...

    def recorded(self, params: Params, batch: Array) -> tuple[Array, dict[str, Array]]:
        """Logits, and beside them all activations by canonical name."""
        ...
