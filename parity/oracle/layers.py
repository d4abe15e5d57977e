"""The layers of the CNN and their gradients, derived by hand: pure functions of float64 arrays.

Each `f_backward` takes first `upstream`, the loss's gradient by the output y of `f`, then what it needs of the
arguments of `f`, and returns the loss's gradients by all of them, in their order. Its docstring opens with the equation
that it implements, where dy is `upstream`, dx, dw and db are the gradients by the input x, the weight or kernel w and
the bias, and the indices are those of the forward equation.

Images are channels first, (batch, channels, height, width).

Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, https://arxiv.org/abs/1603.07285
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from parity.contract import normalisation_table

__all__ = [
    "Array",
    "Labels",
    "Pixels",
    "conv2d",
    "conv2d_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "linear",
    "linear_backward",
    "max_pool",
    "max_pool_backward",
    "normalise",
    "relu",
    "relu_backward",
]

Array = NDArray[np.float64]
Labels = NDArray[np.integer]
Pixels = NDArray[np.uint8]

POOL = 2

_TABLE: Array = normalisation_table("float64").astype(np.float64)


def normalise(images: Pixels) -> Array:
    """y[n,c,i,j] = (x[n,i,j,c] / 255 - 0.5) / 0.5: (B, H, W, C) pixels to (B, C, H, W) from -1 to 1."""
    return _TABLE[images.transpose(0, 3, 1, 2)]


def conv2d(images: Array, kernel: Array, bias: Array) -> Array:
    """y[n,o,i,j] = bias[o] + sum_ckl w[o,c,k,l] x[n,c,i+k,j+l]: no padding, stride 1, the kernel not flipped.

    Args:
        images: (batch, channels, height, width).
        kernel: (filters, channels, rows, columns).
        bias: (filters,).

    Returns:
        (batch, filters, height - rows + 1, width - columns + 1).
    """
    y = np.tensordot(_windows(images, kernel), kernel, axes=((1, 4, 5), (1, 2, 3)))
    return np.ascontiguousarray(np.moveaxis(y + bias, -1, 1))


def conv2d_backward(upstream: Array, images: Array, kernel: Array) -> tuple[Array, Array, Array]:
    """dx[n,c,i,j] = sum_okl w[o,c,k,l] dy[n,o,i-k,j-l], dw[o,c,k,l] = sum_nij dy[n,o,i,j] x[n,c,i+k,j+l].

    And db[o] = sum_nij dy[n,o,i,j]. With dy taken as 0 outside its bounds, dx is itself a convolution: of the padded dy
    with the kernel flipped in both directions, filters and channels exchanged.

    Returns:
        The gradients by images, kernel and bias.
    """
    _, channels, rows, columns = kernel.shape
    padded = np.pad(upstream, ((0, 0), (0, 0), (rows - 1, rows - 1), (columns - 1, columns - 1)))
    flipped = kernel[:, :, ::-1, ::-1].swapaxes(0, 1)
    by_images = conv2d(padded, flipped, np.zeros(channels))
    by_kernel = np.tensordot(upstream, _windows(images, kernel), axes=((0, 2, 3), (0, 2, 3)))
    return by_images, by_kernel, upstream.sum(axis=(0, 2, 3))


def _windows(images: Array, kernel: Array) -> Array:
    """x[n,c,i+k,j+l] as a view of (batch, channels, height, width, rows, columns); the last two are the window's."""
    return sliding_window_view(images, kernel.shape[2:], axis=(2, 3))


def relu(x: Array) -> Array:
    """y[i] = max(x[i], 0), for an array of any shape."""
    return np.maximum(x, 0.0)


def relu_backward(upstream: Array, x: Array) -> Array:
    """dx[i] = dy[i] where x[i] > 0, else 0.

    At x[i] = 0 any slope from 0 to 1 would do; torch and jax.nn.relu take 0.
    """
    return np.where(x > 0, upstream, 0.0)


def max_pool(images: Array) -> Array:
    """y[n,c,i,j] = max_kl x[n,c,2i+k,2j+l], k and l in {0, 1}: windows of 2 by 2 side by side.

    Args:
        images: (batch, channels, height, width), height and width even.

    Returns:
        (batch, channels, height / 2, width / 2).
    """
    y: Array = _pools(images).max(axis=-1)
    return y


def max_pool_backward(upstream: Array, images: Array) -> Array:
    """dx[n,c,2i+k,2j+l] = dy[n,c,i,j] for the (k, l) whose element is its window's maximum, 0 for the others.

    Of several maxima the first gets it all, in the order (0, 0), (0, 1), (1, 0), (1, 1): torch's choice and XLA's.
    """
    winners = _pools(images).argmax(axis=-1)
    by_pool = np.where(np.arange(POOL * POOL) == winners[..., np.newaxis], upstream[..., np.newaxis], 0.0)
    batch, channels, height, width = upstream.shape
    by_row = by_pool.reshape(batch, channels, height, width, POOL, POOL).swapaxes(3, 4)
    return by_row.reshape(images.shape)


def _pools(images: Array) -> Array:
    """The windows side by side: (batch, channels, height / 2, width / 2, 4), each window row by row."""
    batch, channels, height, width = images.shape
    split = images.reshape(batch, channels, height // POOL, POOL, width // POOL, POOL)
    return split.swapaxes(3, 4).reshape(batch, channels, height // POOL, width // POOL, POOL * POOL)


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """y[n,o] = bias[o] + sum_i w[o,i] x[n,i].

    Args:
        x: (batch, inputs).
        weight: (outputs, inputs).
        bias: (outputs,).

    Returns:
        (batch, outputs).
    """
    y: Array = x @ weight.T + bias
    return y


def linear_backward(upstream: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """dx[n,i] = sum_o w[o,i] dy[n,o], dw[o,i] = sum_n dy[n,o] x[n,i], db[o] = sum_n dy[n,o].

    Returns:
        The gradients by x, weight and bias.
    """
    return upstream @ weight, upstream.T @ x, upstream.sum(axis=0)


def cross_entropy(logits: Array, labels: Labels) -> Array:
    """L = -1/N sum_n log p[n,y[n]], log p[n,c] = z[n,c] - log sum_k exp z[n,k]: the mean over a batch of N.

    Args:
        logits: z, (batch, classes).
        labels: y, (batch,) class numbers from 0.

    Returns:
        A 0-d array.
    """
    chosen = np.take_along_axis(_log_softmax(logits), labels[:, np.newaxis], axis=1)
    return np.asarray(-chosen.mean())


def cross_entropy_backward(logits: Array, labels: Labels) -> Array:
    """dz[n,c] = (p[n,c] - [c = y[n]]) / N. The loss is the end of the chain: there is no `upstream`."""
    classes = np.arange(logits.shape[1])
    onehot = (labels[:, np.newaxis] == classes).astype(np.float64)
    by_logits: Array = (np.exp(_log_softmax(logits)) - onehot) / len(labels)
    return by_logits


def _log_softmax(logits: Array) -> Array:
    """Shifted by the largest logit, which changes nothing but lets no exponential overflow."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_p
