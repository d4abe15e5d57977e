"""What the pooling windows see: the pixels and the features that four neighbouring elements of a convolution read.

The four elements of a 2x2 pooling window, each the centre of 5x5 pixels, see 6x6 pixels between them. Those are one
column of W, in the order (j, i, channel) for column and row of the pixel; every window of every image is a position:

    W[(j, i, c), (p, q, image)] = x[c, 2 p + i, 2 q + j, image]

Images are the last axis of every array, and channels come before places, so that all of it is copies of blocks. The
positions of the first convolution are in the order (q mod 2, p mod 2, p div 2, q div 2, image): then the windows of the
second one, which take every second feature, are made of blocks too.
"""

from __future__ import annotations

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, UInt32
from numpy.typing import NDArray

from jax_impl.apart import apart

__all__ = ["image_windows", "pack", "unfold", "unpacked"]


def pack(images: NDArray[np.generic]) -> NDArray[np.uint32]:
    """Images as `image_windows` reads them: four neighbours of a row in a word, the first in its lowest byte.

    Args:
        images: (N, 32, 32, 3) uint8.

    Returns:
        (N, 768), of each image in the order (y mod 4, channel, y div 4, x div 4).
    """
    quarters = images.reshape(-1, 8, 4, 32, 3).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(quarters).view("<u4").reshape(-1, 768).astype(np.uint32)


def image_windows(
    words: UInt32[Array, "size 768"], rows: Int[Array, " batch"], table: Float[Array, " 256"]
) -> Float[Array, "108 positions"]:
    """W of the images in these rows, each pixel looked up in the table, for the first convolution.

    A pixel is looked up once and then copied, first into rows and then into columns: with lookups after the copies of
    rows, 2.6 times as many, and the columns in two copies, a step took 1.07 times as long at batch 64 (one core, jax
    0.10.2, float32).
    """
    pixels = apart(_normalised)(_gather(words, rows), table)
    quarters = _window_rows(pixels.reshape(4, 4, 3, 8, -1))
    return _window_columns(quarters.reshape(4, 6 * 3, 2 * 7, -1)).reshape(6 * 6 * 3, -1)


def unpacked(words: UInt32[Array, "batch 768"], table: Float[Array, " 256"]) -> Float[Array, "batch 3 32 32"]:
    """The normalised images."""
    pixels = _normalised(words.reshape(-1, 4, 3, 8, 8), table)
    return pixels.transpose(1, 3, 4, 2, 5, 0).reshape(-1, 3, 32, 32)


@apart
def _gather(words: UInt32[Array, "size 768"], rows: Int[Array, " batch"]) -> UInt32[Array, "768 batch"]:
    return words[rows].T


def _normalised(words: UInt32[Array, "..."], table: Float[Array, " 256"]) -> Float[Array, "4 ..."]:
    """The four pixels of each word. A formula in place of the table is no faster where it is as exact."""
    pixels = [(words >> jnp.uint32(8 * byte)) & jnp.uint32(255) for byte in range(4)]
    return table[jnp.stack(pixels)]


@apart
def _window_rows(pixels: Float[Array, "4 4 3 8 columns"]) -> Float[Array, "4 6 3 2 7 columns"]:
    """Row y = 4 P + 2 s + i of every window, from (x mod 4, y mod 4, channel, y div 4; x div 4 and image).

    A result is (x mod 4, i, channel, s, P; x div 4 and image).
    """

    def row(first: int) -> Array:
        return pixels[:, first % 4, :, first // 4 : first // 4 + 7]

    return jnp.stack([jnp.stack([row(2 * s + i) for s in (0, 1)], axis=2) for i in range(6)], axis=1)


@apart
def _window_columns(quarters: Float[Array, "4 18 14 columns"]) -> Float[Array, "6 18 2 14 columns_out"]:
    """Column x = 4 Q + 2 t + j of every window, from (x mod 4; i and channel; s and P; x div 4 and image).

    A result is (j; i and channel; t, s and P; Q and image).
    """
    batch = quarters.shape[-1] // 8

    def column(first: int) -> Array:
        return quarters[first % 4, :, :, first // 4 * batch : (first // 4 + 7) * batch]

    return jnp.stack([jnp.stack([column(2 * t + j) for t in (0, 1)], axis=1) for j in range(6)])


@jax.custom_vjp
def unfold(features: Float[Array, "channels 2 2 7 7 batch"]) -> Float[Array, "rows positions"]:
    """W of a 14x14 map of features, in the first convolution's order of positions, for the second convolution.

    Its gradient is added up first for rows and then for columns; JAX would derive nine sums of padded arrays.
    """
    return _feature_rows(_feature_columns(features)).reshape(36 * len(features), -1)


@apart
def _feature_columns(features: Float[Array, "channels 2 2 7 7 batch"]) -> Float[Array, "6 channels 2 7 columns"]:
    """Column x = 2 Q + j of every window: (j, channel, p mod 2, p div 2; Q and image)."""
    batch = features.shape[-1]
    flat = features.reshape(*features.shape[:4], 7 * batch)
    return jnp.stack([flat[:, j % 2, :, :, j // 2 * batch : (j // 2 + 5) * batch] for j in range(6)])


@apart
def _feature_rows(columns: Float[Array, "6 channels 2 7 columns"]) -> Float[Array, "6 6 channels 5 columns"]:
    """Row y = 2 P + i of every window: (j, i, channel, P; Q and image)."""
    return jnp.stack([columns[:, :, i % 2, i // 2 : i // 2 + 5] for i in range(6)], axis=1)


def _unfold_forward(features: Float[Array, "channels 2 2 7 7 batch"]) -> tuple[Array, None]:
    return unfold(features), None


def _unfold_backward(_: None, gradient: Float[Array, "rows positions"]) -> tuple[Array]:
    batch = gradient.shape[1] // 25
    windows = gradient.reshape(3, 2, 3, 2, -1, 5, 5 * batch)
    summed = _summed_columns(_summed_rows(windows))
    return (summed.transpose(2, 0, 1, 3, 4).reshape(-1, 2, 2, 7, 7, batch),)


@apart
def _summed_rows(windows: Float[Array, "3 2 3 2 channels 5 columns"]) -> Float[Array, "3 2 2 channels 7 columns"]:
    """The transpose of `_feature_rows`, which read row 2 (P + I) + s for i = 2 I + s."""
    return reduce(jnp.add, [_padded(windows[:, :, i], -2, i, 2 - i) for i in range(3)])


@apart
def _summed_columns(windows: Float[Array, "3 2 2 channels 7 columns"]) -> Float[Array, "2 2 channels 7 columns_in"]:
    """The transpose of `_feature_columns`."""
    batch = windows.shape[-1] // 5
    return reduce(jnp.add, [_padded(windows[j], -1, j * batch, (2 - j) * batch) for j in range(3)])


def _padded(values: Array, axis: int, before: int, after: int) -> Array:
    """With so many zeros before and after it."""
    width = [(0, 0)] * values.ndim
    width[axis] = (before, after)
    return jnp.pad(values, width)


unfold.defvjp(_unfold_forward, _unfold_backward)
