"""The plain formulation: the nnx.Module of model.py, with XLA's own convolutions and pooling.

On a GPU it is `WINDOWED`: the same module, but for the pooling, which is written as choices (pooling.py says why).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray

from jax_impl import layout
from jax_impl.formulation import Params
from jax_impl.model import CNN, Pool, apply, max_pool, merge
from jax_impl.pooling import max_pool_by_choice
from parity.contract import Weights

__all__ = ["PLAIN", "WINDOWED", "Plain"]

INPUTS = {"conv2": "pool1", "fc1": "pool2", "fc2": "relu3", "fc3": "relu4"}
"""Layer -> what its input is called."""


@dataclass(frozen=True)
class Plain:
    """See `jax_impl.formulation.Formulation`; so for all methods.

    Args:
        name: see there.
        at_once: see there.
        pool: how the model pools.
    """

    name: str = "XLA convolutions"
    at_once: int | None = None
    pool: Pool = max_pool

    def from_canonical(self, weights: Weights, *, dtype: str) -> Params:
        """HWIO kernels and (in, out) weights, layer by layer."""
        return layout.from_canonical(weights, dtype=dtype)

    def to_canonical(self, params: Params) -> dict[str, NDArray[np.floating]]:
        """Back."""
        return layout.to_canonical(params)

    def activation_to_canonical(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        """From NHWC."""
        return layout.activation_to_canonical(name, value)

    def resident(self, images: NDArray[np.generic]) -> NDArray[np.generic]:
        """As they are."""
        return images

    def images(
        self, table: Float[Array, " 256"], resident: UInt8[Array, "size 32 32 3"], rows: Int[Array, " batch"]
    ) -> Float[Array, "batch 3 32 32"]:
        """Channels first."""
        return jnp.moveaxis(self.batch(table, resident, rows), -1, 1)

    def batch(
        self, table: Float[Array, " 256"], resident: UInt8[Array, "size 32 32 3"], rows: Int[Array, " batch"]
    ) -> Float[Array, "batch 32 32 3"]:
        """Each pixel is looked up; the table's values are the same bits on every side."""
        return table[resident[rows]]

    def logits(self, params: Params, batch: Float[Array, "batch 32 32 3"]) -> Float[Array, "batch 10"]:
        """The model's."""
        return apply(params, batch, self.pool)

    def recorded(
        self, params: Params, batch: Float[Array, "batch 32 32 3"]
    ) -> tuple[Float[Array, "batch 10"], dict[str, Array]]:
        """The model's own code, run on layers that note what goes in and out of them.

        A layer's input is what the functions before it made of the previous layer's output, so the five layers also
        show what ReLU and pooling computed.
        """
        model = merge(params, batch.dtype)
        seen: dict[str, Array] = {}

        def recording(name: str, layer: Callable[[Array], Array]) -> Callable[[Array], Array]:
            def call(inputs: Array) -> Array:
                if name in INPUTS:
                    seen[INPUTS[name]] = inputs
                seen[name] = layer(inputs)
                return seen[name]

            return call

        # The model's own __call__, with these in place of its layers.
        layers = SimpleNamespace(**{name: recording(name, getattr(model, name)) for name in params})
        return CNN.__call__(layers, batch, self.pool), seen  # type: ignore[arg-type]


PLAIN = Plain()
WINDOWED = Plain(name="XLA convolutions, pooling by choice", pool=max_pool_by_choice)
