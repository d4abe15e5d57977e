"""The programs of benchmarks/widths_torch.py in JAX: the same names and layouts of tensors, weights of their own."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_impl import AdaptedFunction, adapt

ROWS, FEATURES, SIDE, CLASSES = 256, 12, 10, 5

LAYOUT = ("NCHW", "OIHW", "NCHW")


def linear(p: dict[str, jax.Array], layer: str, x: jax.Array) -> jax.Array:
    """(batch, in) -> (batch, out), by a weight (out, in)."""
    return x @ p[f"{layer}.weight"].T + p[f"{layer}.bias"]


def conv(p: dict[str, jax.Array], layer: str, x: jax.Array) -> jax.Array:
    """Channels first, no padding."""
    y = jax.lax.conv_general_dilated(x, p[f"{layer}.weight"], (1, 1), "VALID", dimension_numbers=LAYOUT)
    return y + p[f"{layer}.bias"][:, None, None]


def mlp_apply(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """`MLP` of widths_torch.py: (batch, 12) -> (batch, 1)."""
    return linear(p, "c", jnp.tanh(linear(p, "b", jnp.tanh(linear(p, "a", x)))))


def conv_apply(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """`Conv` of widths_torch.py: (batch, 3, 10, 10) -> (batch, 5)."""
    x = jax.nn.relu(conv(p, "a", x))
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
    return linear(p, "c", jax.nn.relu(conv(p, "b", x)).mean((2, 3)))


def mse(y: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared error."""
    return ((y - target) ** 2).mean()


def cross_entropy(y: jax.Array, target: jax.Array) -> jax.Array:
    """Mean cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(y, target).mean()


def rows(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets."""
    rng = np.random.default_rng(5)
    if kind == "mlp":
        return rng.normal(size=(ROWS, FEATURES)).astype("f4"), rng.normal(size=(ROWS, 1)).astype("f4")
    return rng.normal(size=(ROWS, 3, SIDE, SIDE)).astype("f4"), rng.integers(0, CLASSES, ROWS)


def parameters(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Uniform within 1 / sqrt(fan-in), biases too; the fan-in is that of the layer's weight."""
    rng = np.random.default_rng(6)
    values = {}
    for layer, shape in shapes.items():
        bound = 1 / np.sqrt(np.prod(shape[1:]))
        values[f"{layer}.weight"] = rng.uniform(-bound, bound, shape).astype("f4")
        values[f"{layer}.bias"] = rng.uniform(-bound, bound, shape[0]).astype("f4")
    return values


@cache
def program(kind: str, width: int) -> AdaptedFunction:
    """The program of that kind and width."""
    shapes = {
        "mlp": {"a": (width, FEATURES), "b": (width, width), "c": (1, width)},
        "conv": {"a": (width, 3, 3, 3), "b": (2 * width, width, 3, 3), "c": (CLASSES, 2 * width)},
    }[kind]
    apply, loss = (mlp_apply, mse) if kind == "mlp" else (conv_apply, cross_entropy)
    tx = optax.chain(optax.add_decayed_weights(0.001), optax.sgd(0.05, momentum=0.9))
    return adapt(apply, parameters(shapes), loss, tx, data=rows(kind))


def __getattr__(name: str) -> AdaptedFunction:
    kind, _, width = name.partition("_")
    if kind not in ("mlp", "conv") or not width.isdecimal():
        raise AttributeError(name)
    return program(kind, int(width))
