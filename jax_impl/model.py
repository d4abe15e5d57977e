"""The CIFAR-10 tutorial's CNN as an nnx.Module, and as a pure function of its parameters.

JAX works on NHWC images and HWIO kernels, so the features are flattened in (H, W, C) order; layout.py accounts for it.

Source: https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jaxtyping import Float

__all__ = ["CNN", "PLAIN", "UNFOLDED", "Operations", "Params", "apply", "merge", "parameter_shapes"]

Params = Mapping[str, Mapping[str, Array]]
"""Layer -> "kernel" or "bias" -> array: the pytree that training differentiates."""


class Operations(NamedTuple):
    """How the model convolves and pools.

    `convolution` computes what lax.conv_general_dilated computes, with its arguments (nnx.Conv calls it); `max_pool`
    the largest of every 2x2 window, with stride 2.
    """

    convolution: Callable[..., Array]
    max_pool: Callable[[Array], Array]


class CNN(nnx.Module):
    """conv 3->6 k5, pool 2, conv 6->16 k5, pool 2, then 400->120->84->10, with a ReLU after each layer but the last."""

    def __init__(self, *, dtype: jnp.dtype, operations: Operations, rngs: nnx.Rngs) -> None:
        def conv(channels: int, filters: int) -> nnx.Conv:
            return nnx.Conv(
                channels,
                filters,
                kernel_size=(5, 5),
                padding="VALID",
                param_dtype=dtype,
                conv_general_dilated=operations.convolution,
                rngs=rngs,
            )

        self.max_pool = operations.max_pool
        self.conv1 = conv(3, 6)
        self.conv2 = conv(6, 16)
        self.fc1 = nnx.Linear(5 * 5 * 16, 120, param_dtype=dtype, rngs=rngs)
        self.fc2 = nnx.Linear(120, 84, param_dtype=dtype, rngs=rngs)
        self.fc3 = nnx.Linear(84, 10, param_dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[Array, "batch 32 32 3"]) -> Float[Array, "batch 10"]:
        """Normalised NHWC images -> logits."""
        x = self.max_pool(nnx.relu(self.conv1(images)))
        x = self.max_pool(nnx.relu(self.conv2(x)))
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(self.fc1(x))
        x = nnx.relu(self.fc2(x))
        return self.fc3(x)


def apply(params: Params, images: Float[Array, "batch 32 32 3"], operations: Operations) -> Float[Array, "batch 10"]:
    """The model as a pure function: logits of normalised images under these parameters."""
    return merge(params, images.dtype, operations)(images)


def merge(params: Params, dtype: jnp.dtype, operations: Operations) -> CNN:
    """The model with these parameters in it."""
    model: CNN = nnx.merge(_graph(dtype, operations)[0], params)
    return model


def parameter_shapes(dtype: jnp.dtype) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """The pytree that `apply` takes, as shapes and dtypes."""
    shapes: dict[str, dict[str, jax.ShapeDtypeStruct]] = _graph(dtype, PLAIN)[1]
    return shapes


@cache
def _graph(dtype: jnp.dtype, operations: Operations) -> tuple[nnx.GraphDef[CNN], Any]:
    """The model's structure, and its parameters' shapes; nothing is drawn or computed."""
    model = nnx.eval_shape(lambda: CNN(dtype=dtype, operations=operations, rngs=nnx.Rngs(0)))
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


def max_pool(features: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
    """The largest of every 2x2 window, by XLA's window reduction; the gradient goes to the first of equals."""
    pooled: Array = nnx.max_pool(features, (2, 2), strides=(2, 2))
    return pooled


def max_pool_of_four(
    features: Float[Array, "batch height width channels"],
) -> Float[Array, "batch rows columns channels"]:
    """`max_pool` as three choices between elements; of equals the first is chosen, and gets the gradient.

    XLA computes the gradient of its own window reduction by scattering, which on the CPU took 30 times as long
    (jax 0.10.2, 32 images of 28x28x6).
    """
    a, b = features[:, 0::2, 0::2], features[:, 0::2, 1::2]
    c, d = features[:, 1::2, 0::2], features[:, 1::2, 1::2]
    upper, lower = jnp.where(b > a, b, a), jnp.where(d > c, d, c)
    return jnp.where(lower > upper, lower, upper)


PLAIN = Operations(convolution=lax.conv_general_dilated, max_pool=max_pool)
UNFOLDED = Operations(convolution=unfolded_convolution, max_pool=max_pool_of_four)
