"""The CNN with k times as many channels in both convolutions, in JAX: `cnn_1`, `cnn_2`, `cnn_16`, any k will do.

torch_cnn.py has their twins, from the same initial weights (`parity_widths.cnn`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import jax
import jax.numpy as jnp
import optax

from jax_impl import AdaptedFunction, adapt
from parity.contract import SGD
from parity_widths.cnn import example, initial_weights, width_of

__all__ = ["apply", "program"]

LAYOUT = ("NCHW", "OIHW", "NCHW")

Params = Mapping[str, jax.Array]


def conv(p: Params, layer: str, x: jax.Array) -> jax.Array:
    """A 5x5 convolution without padding, channels first, ReLU, and 2x2 max-pooling."""
    y = jax.lax.conv_general_dilated(x, p[f"{layer}.weight"], (1, 1), "VALID", dimension_numbers=LAYOUT)
    y = jax.nn.relu(y + p[f"{layer}.bias"][:, None, None])
    pooled: jax.Array = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return pooled


def linear(p: Params, layer: str, x: jax.Array) -> jax.Array:
    """(batch, in) -> (batch, out)."""
    return x @ p[f"{layer}.weight"].T + p[f"{layer}.bias"]


def apply(p: Params, pixels: jax.Array) -> jax.Array:
    """(batch, 32, 32, 3) uint8 -> (batch, 10)."""
    x = pixels.transpose(0, 3, 1, 2).astype(p["fc1.weight"].dtype) / 127.5 - 1
    x = conv(p, "conv2", conv(p, "conv1", x)).reshape(len(pixels), -1)
    return linear(p, "fc3", jax.nn.relu(linear(p, "fc2", jax.nn.relu(linear(p, "fc1", x)))))


def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy."""
    mean: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return mean


@cache
def program(k: int) -> AdaptedFunction:
    """Trained by SGD with the tutorial's learning rate and momentum."""
    sgd = SGD()
    return adapt(apply, initial_weights(k), loss, optax.sgd(sgd.lr, momentum=sgd.momentum), data=example())


def __getattr__(name: str) -> AdaptedFunction:
    return program(width_of(name))
