"""The CIFAR-10 tutorial's CNN as an nnx.Module, and as a pure function of its parameters.

JAX works on NHWC images and HWIO kernels, so the features are flattened in (H, W, C) order; layout.py accounts for it.

Source: https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jaxtyping import Float

__all__ = ["CNN", "Convolution", "Params", "apply", "merge", "parameter_shapes", "unfolded_convolution"]

Params = Mapping[str, Mapping[str, Array]]
"""Layer -> "kernel" or "bias" -> array: the pytree that training differentiates."""

Convolution = Callable[..., Array]
"""Computes what lax.conv_general_dilated computes, with its arguments; nnx.Conv calls it."""


class CNN(nnx.Module):
    """conv 3->6 k5, pool 2, conv 6->16 k5, pool 2, then 400->120->84->10, with a ReLU after each layer but the last."""

    def __init__(self, *, dtype: jnp.dtype, convolution: Convolution, rngs: nnx.Rngs) -> None:
        def conv(channels: int, filters: int) -> nnx.Conv:
            return nnx.Conv(
                channels,
                filters,
                kernel_size=(5, 5),
                padding="VALID",
                param_dtype=dtype,
                conv_general_dilated=convolution,
                rngs=rngs,
            )

        self.conv1 = conv(3, 6)
        self.conv2 = conv(6, 16)
        self.fc1 = nnx.Linear(5 * 5 * 16, 120, param_dtype=dtype, rngs=rngs)
        self.fc2 = nnx.Linear(120, 84, param_dtype=dtype, rngs=rngs)
        self.fc3 = nnx.Linear(84, 10, param_dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[Array, "batch 32 32 3"]) -> Float[Array, "batch 10"]:
        """Normalised NHWC images -> logits."""
        x = nnx.max_pool(nnx.relu(self.conv1(images)), (2, 2), strides=(2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(self.fc1(x))
        x = nnx.relu(self.fc2(x))
        return self.fc3(x)


def apply(params: Params, images: Float[Array, "batch 32 32 3"], convolution: Convolution) -> Float[Array, "batch 10"]:
    """The model as a pure function: logits of normalised images under these parameters."""
    return merge(params, images.dtype, convolution)(images)


def merge(params: Params, dtype: jnp.dtype, convolution: Convolution) -> CNN:
    """The model with these parameters in it."""
    model: CNN = nnx.merge(_graph(dtype, convolution)[0], params)
    return model


def parameter_shapes(dtype: jnp.dtype) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """The pytree that `apply` takes, as shapes and dtypes."""
    shapes: dict[str, dict[str, jax.ShapeDtypeStruct]] = _graph(dtype, lax.conv_general_dilated)[1]
    return shapes


@cache
def _graph(dtype: jnp.dtype, convolution: Convolution) -> tuple[nnx.GraphDef[CNN], Any]:
    """The model's structure, and its parameters' shapes; nothing is drawn or computed."""
    model = nnx.eval_shape(lambda: CNN(dtype=dtype, convolution=convolution, rngs=nnx.Rngs(0)))
    graph, params = nnx.split(model)
    return graph, nnx.to_pure_dict(params)


def unfolded_convolution(
    images: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels filters"],
    window_strides: Sequence[int],
    padding: object,
    **_: object,
) -> Float[Array, "batch height_out width_out filters"]:
    """A VALID, stride-1 convolution as one matrix product: every window of the images, laid out as a row.

    Inside a scan on the CPU, XLA's own convolution is slow, its gradient for the kernel above all: a training step of
    this CNN took 2.3 times as long with it at batch 4, and 4.9 times at batch 128 (jax 0.10.2, 2 cores).

    Raises:
        ValueError: another padding or stride is asked for.
    """
    if padding != "VALID" or set(window_strides) != {1}:
        raise ValueError(f"only VALID padding and stride 1, not {padding} and {window_strides}")
    rows, columns, channels, filters = kernel.shape
    batch, height, width, _channels = images.shape
    out = (height - rows + 1, width - columns + 1)
    windows = [images[:, i : i + out[0], j : j + out[1]] for i in range(rows) for j in range(columns)]
    unfolded = jnp.concatenate(windows, axis=-1).reshape(-1, rows * columns * channels)
    return (unfolded @ kernel.reshape(-1, filters)).reshape(batch, *out, filters)
