"""2x2 max-pooling as choices: what nnx.max_pool computes, for a GPU that is to compute the same bits again.

XLA makes the gradient of a window reduction a select-and-scatter, and refuses to compile one under
`--xla_gpu_deterministic_ops`, which device.py sets: it has no deterministic implementation on a GPU. Here each window
keeps which of its elements it chose, so that the gradient is a comparison and nothing is scattered:

    y = max(a, b, c, d),    dL/de = dL/dy for the first e of the four with e = y, else 0

Sources: https://openxla.org/xla/determinism, https://github.com/google/flax/issues/4233
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

__all__ = ["chosen_of_four", "max_pool_by_choice"]


@jax.custom_vjp
def max_pool_by_choice(
    features: Float[Array, "batch height width channels"],
) -> Float[Array, "batch rows columns channels"]:
    """The largest of every 2x2 window; height and width are even. The gradient goes to the first of equals."""
    return _forward(features)[0]


def chosen_of_four(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array]:
    """The largest, element by element, and its number, 0 to 3: of equals, the first's."""
    right_above, right_below = b > a, d > c
    above, below = jnp.where(right_above, b, a), jnp.where(right_below, d, c)
    is_below = below > above
    largest = jnp.where(is_below, below, above)
    return largest, jnp.where(is_below, jnp.where(right_below, 3, 2), jnp.where(right_above, 1, 0))


def _forward(features: Array) -> tuple[Array, Int[Array, "batch rows columns channels"]]:
    batch, height, width, channels = features.shape
    windows = features.reshape(batch, height // 2, 2, width // 2, 2, channels)
    a, b, c, d = (windows[:, :, row, :, column] for row in (0, 1) for column in (0, 1))
    _, chosen = chosen_of_four(a, b, c, d)
    # Not the largest of those comparisons: they are false for NaN, which must not be lost.
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d)), chosen


def _backward(chosen: Int[Array, "batch rows columns channels"], gradient: Array) -> tuple[Array]:
    batch, rows, columns, channels = gradient.shape
    elements = jnp.arange(4, dtype=chosen.dtype).reshape(2, 1, 2, 1)  # (row, 1, column, 1) of a window
    is_chosen = chosen[:, :, jnp.newaxis, :, jnp.newaxis] == elements
    windows = jnp.where(is_chosen, gradient[:, :, jnp.newaxis, :, jnp.newaxis], 0)
    return (windows.reshape(batch, 2 * rows, 2 * columns, channels),)


max_pool_by_choice.defvjp(_forward, _backward)
