"""Faults inside the model: the oracle with operations replaced.

An operation is called for every layer alike, so a fault of one layer knows it by the shape of what it is given. Each
function mirrors the honest one in `parity.oracle.layers`; where the fault has a gradient, that is derived by hand too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from parity.contract import AnyImplementation
from parity.drill.fault import Host, Mutation
from parity.oracle import Operations, Oracle, layers
from parity.oracle.layers import Array, Labels, Pixels

__all__ = [
    "CONV1",
    "FC1",
    "FC2",
    "average_pool",
    "average_pool_backward",
    "chain_softmax",
    "log_softmax",
    "only",
    "operate",
    "pool_sharing_ties",
    "scaled_pixels",
    "smooth_log",
    "softmax",
]

CONV1, FC1, FC2 = (6, 28, 28), (120,), (84,)
"""Layers by the shape of their output for one image."""


def operate(**operations: Callable[..., Any]) -> Mutation:
    """The mutation: the oracle with these operations in place of its own; the host's program is not used."""

    def plant(host: Host) -> AnyImplementation:  # noqa: ARG001  as `Mutation` has it
        return Oracle(operations=replace(Operations(), **operations))

    return plant


def only(shape: tuple[int, ...], fault: Callable[..., Array], honest: Callable[..., Array]) -> Callable[..., Array]:
    """The fault where the last argument has this shape for one image, the honest operation elsewhere."""

    def operation(*arguments: Array) -> Array:
        return (fault if arguments[-1].shape[1:] == shape else honest)(*arguments)

    return operation


def scaled_pixels(scale: Array | float, shift: Array | float) -> Callable[[Pixels], Array]:
    """The images as scale x + shift, channel by channel: (B, H, W, C) pixels to (B, C, H, W)."""

    def normalise(images: Pixels) -> Array:
        x = images.astype(np.float64) * scale + shift
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))

    return normalise


def average_pool(images: Array) -> Array:
    """The mean of each window."""
    batch, channels, height, width = images.shape
    windows = images.reshape(batch, channels, height // 2, 2, width // 2, 2)
    mean: Array = windows.mean(axis=(3, 5))
    return mean


def average_pool_backward(upstream: Array, images: Array) -> Array:  # noqa: ARG001  as `Operations` has it
    """A quarter of dy for each element of a window."""
    spread: Array = np.repeat(np.repeat(upstream / 4, 2, axis=2), 2, axis=3)
    return spread


def pool_sharing_ties(upstream: Array, images: Array) -> Array:
    """The gradient shared out among a window's equal maxima, as a reshape and a max of it do in JAX."""
    largest = np.repeat(np.repeat(layers.max_pool(images), 2, axis=2), 2, axis=3)
    winners = (images == largest).astype(np.float64)
    share = winners / (4 * np.repeat(np.repeat(average_pool(winners), 2, axis=2), 2, axis=3))
    shared: Array = share * np.repeat(np.repeat(upstream, 2, axis=2), 2, axis=3)
    return shared


def log_softmax(logits: Array) -> Array:
    """Log p[n,c] = z[n,c] - log sum_k exp z[n,k]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_p


def softmax(logits: Array) -> Array:
    """p[n,c] = exp z[n,c] / sum_k exp z[n,k]."""
    return np.exp(log_softmax(logits))


def chain_softmax(upstream: Array, logits: Array) -> Array:
    """dz[n,c] = p[n,c] (dp[n,c] - sum_k dp[n,k] p[n,k])."""
    p = softmax(logits)
    by_logits: Array = p * (upstream - (upstream * p).sum(axis=1, keepdims=True))
    return by_logits


def smooth_log(epsilon: float) -> tuple[Callable[[Array, Labels], Array], Callable[[Array, Labels], Array]]:
    """The loss -1/N sum_n log(p[n,y[n]] + epsilon), and its gradient by the logits."""

    def loss(logits: Array, labels: Labels) -> Array:
        chosen = np.take_along_axis(softmax(logits), labels[:, np.newaxis], axis=1)
        return np.asarray(-np.log(chosen + epsilon).mean())

    def backward(logits: Array, labels: Labels) -> Array:
        p = softmax(logits)
        onehot = labels[:, np.newaxis] == np.arange(p.shape[1])
        return chain_softmax(np.where(onehot, -1 / (p + epsilon), 0.0) / len(labels), logits)

    return loss, backward
