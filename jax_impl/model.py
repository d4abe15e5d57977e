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

    `convolution` computes what lax.conv_general_dilated computes, with its arguments (nnx.Conv calls it), and may leave
    every 2x2 window's elements side by side, in an axis of their own before the channels; `max_pool` takes what it
    left, and computes the largest of every window.
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
) -> Float[Array, "batch rows_out columns_out 4 filters"]:
    """A VALID, stride-1 convolution as one matrix product, with the elements of each 2x2 window side by side.

    A window's four elements see (rows + 1) x (columns + 1) pixels between them: those are laid out as one row, and
    multiplied by four copies of the kernel, each at its own place among zeros. For a 5x5 kernel that is 1.44 times the
    arithmetic of the convolution, on rows that are a third as many numbers as one for each element would be.

    Inside a scan on the CPU, XLA's own convolution is slow, its gradient for the kernel above all: a training step of
    this CNN took 3.5 times as long with it at batch 4, and 12 times at batch 128 (jax 0.10.2, 2 cores).

    Raises:
        ValueError: another padding or stride is asked for, or the output does not divide into 2x2 windows.
    """
    if padding != "VALID" or set(window_strides) != {1}:
        raise ValueError(f"only VALID padding and stride 1, not {padding} and {window_strides}")
    rows, columns, _channels, filters = kernel.shape
    batch, height, width, _channels = images.shape
    out = (height - rows + 1, width - columns + 1)
    if out[0] % 2 or out[1] % 2 or rows % 2 == 0 or columns % 2 == 0:
        raise ValueError(f"only outputs of even size and kernels of odd size, not {out} and {(rows, columns)}")
    seen = _windows(images, rows + 1, columns + 1)
    return (seen @ _four_kernels(kernel)).reshape(batch, out[0] // 2, out[1] // 2, 4, filters)


def _windows(images: Float[Array, "batch height width channels"], rows: int, columns: int) -> Float[Array, "n seen"]:
    """Every rows x columns window at stride 2, cell by cell: cells of 2x2 pixels, which no window cuts, move whole."""
    batch, height, width, channels = images.shape
    cells = images.reshape(batch, height // 2, 2, width // 2, 2, channels).swapaxes(2, 3)
    cells = cells.reshape(batch, height // 2, width // 2, 4 * channels)
    down, right = height // 2 - rows // 2 + 1, width // 2 - columns // 2 + 1
    places = [(i, j) for i in range(rows // 2) for j in range(columns // 2)]
    seen = jnp.concatenate([cells[:, i : i + down, j : j + right] for i, j in places], axis=-1)
    return seen.reshape(-1, rows * columns * channels)


def _four_kernels(
    kernel: Float[Array, "rows columns channels filters"],
) -> Float[Array, "seen four_filters"]:
    """The kernel as each element of a 2x2 window applies it to what the window sees, in the order of `_windows`."""
    rows, columns, channels, filters = kernel.shape
    places = [(i, j) for i in (0, 1) for j in (0, 1)]
    four = [jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i, j in places]
    cells = jnp.stack(four, axis=-2).reshape((rows + 1) // 2, 2, (columns + 1) // 2, 2, channels, 4 * filters)
    return cells.swapaxes(1, 2).reshape(-1, 4 * filters)


def max_pool(features: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
    """The largest of every 2x2 window, by XLA's window reduction; the gradient goes to the first of equals."""
    pooled: Array = nnx.max_pool(features, (2, 2), strides=(2, 2))
    return pooled


def max_pool_of_four(
    features: Float[Array, "batch rows columns 4 channels"],
) -> Float[Array, "batch rows columns channels"]:
    """`max_pool` of windows side by side, as three choices; of equals the first is chosen, and gets the gradient.

    XLA computes the gradient of its own window reduction by scattering, which on the CPU took 30 times as long as that
    of choices (jax 0.10.2, 32 images of 28x28x6).
    """
    a, b, c, d = (features[..., element, :] for element in range(4))
    upper, lower = jnp.where(b > a, b, a), jnp.where(d > c, d, c)
    return jnp.where(lower > upper, lower, upper)


PLAIN = Operations(convolution=lax.conv_general_dilated, max_pool=max_pool)
UNFOLDED = Operations(convolution=unfolded_convolution, max_pool=max_pool_of_four)
