"""The CIFAR-10 tutorial's CNN as an nnx.Module, and as a pure function of its parameters.

JAX works on NHWC images and HWIO kernels, so the features are flattened in (H, W, C) order; layout.py accounts for it.

Source: https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

__all__ = ["CNN", "ModelParams", "Pool", "apply", "max_pool", "merge", "parameter_shapes"]

ModelParams = Mapping[str, Mapping[str, Array]]
"""Layer -> "kernel" or "bias" -> array: the pytree that training differentiates."""

Pool = Callable[[Array], Array]
"""(B, H, W, C) features -> the largest of every 2x2 window."""


def max_pool(features: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
    """The largest of every 2x2 window, by XLA's window reduction; the gradient goes to the first of equals."""
    pooled: Array = nnx.max_pool(features, (2, 2), strides=(2, 2))
    return pooled


class CNN(nnx.Module):
    """conv 3->6 k5, pool 2, conv 6->16 k5, pool 2, then 400->120->84->10, with a ReLU after each layer but the last."""

    def __init__(self, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        def conv(channels: int, filters: int) -> nnx.Conv:
            return nnx.Conv(
                channels,
                filters,
                kernel_size=(5, 5),
                padding="VALID",
                param_dtype=dtype,
                rngs=rngs,
            )

        self.conv1 = conv(3, 6)
        self.conv2 = conv(6, 16)
        self.fc1 = nnx.Linear(5 * 5 * 16, 120, param_dtype=dtype, rngs=rngs)
        self.fc2 = nnx.Linear(120, 84, param_dtype=dtype, rngs=rngs)
        self.fc3 = nnx.Linear(84, 10, param_dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[Array, "batch 32 32 3"], pool: Pool = max_pool) -> Float[Array, "batch 10"]:
        """Normalised NHWC images -> logits; `pool` is another way to compute `max_pool`, where a device needs one."""
        x = pool(nnx.relu(self.conv1(images)))
        x = pool(nnx.relu(self.conv2(x)))
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(self.fc1(x))
        x = nnx.relu(self.fc2(x))
        return self.fc3(x)


def apply(
    params: ModelParams, images: Float[Array, "batch 32 32 3"], pool: Pool = max_pool
) -> Float[Array, "batch 10"]:
    """The model as a pure function: logits of normalised images under these parameters."""
    return merge(params, images.dtype)(images, pool)


def merge(params: ModelParams, dtype: jnp.dtype) -> CNN:
    """The model with these parameters in it."""
    model: CNN = nnx.merge(_graph(dtype)[0], params)
    return model


def parameter_shapes(dtype: jnp.dtype) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """The pytree that `apply` takes, as shapes and dtypes."""
    shapes: dict[str, dict[str, jax.ShapeDtypeStruct]] = _graph(dtype)[1]
    return shapes


@cache
def _graph(dtype: jnp.dtype) -> tuple[nnx.GraphDef[CNN], Any]:
    """The model's structure, and its parameters' shapes; nothing is drawn or computed."""
    model = nnx.eval_shape(lambda: CNN(dtype=dtype, rngs=nnx.Rngs(0)))
    graph, params = nnx.split(model)
    return graph, nnx.to_pure_dict(params)
