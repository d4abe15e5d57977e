"""The CNN with k times as many channels in both convolutions: its shapes, initial weights and an example of its data.

NumPy only; torch_cnn.py and jax_cnn.py make programs of it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from parity.contract import Stream

__all__ = ["example", "initial_weights", "layer_shapes", "width_of"]

ROWS = 16

_PURPOSE = 15  # keeps weights and pixels apart from other streams


def layer_shapes(k: int) -> dict[str, tuple[int, ...]]:
    """Each layer's weight, in torch's layout; a bias has the first of its dimensions."""
    return {
        "conv1": (6 * k, 3, 5, 5),
        "conv2": (16 * k, 6 * k, 5, 5),
        "fc1": (120, 400 * k),
        "fc2": (84, 120),
        "fc3": (10, 84),
    }


def initial_weights(k: int) -> dict[str, NDArray[np.float32]]:
    """Uniform within 1 / sqrt(fan-in), as torch draws them, biases too; the same for both frameworks."""
    values: dict[str, NDArray[np.float32]] = {}
    for layer, shape in layer_shapes(k).items():
        stream, bound = Stream(k, _PURPOSE, len(values)), 1 / math.sqrt(math.prod(shape[1:]))
        draws = stream.uniform(math.prod(shape) + shape[0]) * 2 * bound - bound
        values[f"{layer}.weight"] = draws[shape[0] :].reshape(shape).astype(np.float32)
        values[f"{layer}.bias"] = draws[: shape[0]].astype(np.float32)
    return values


def example() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A few images of noise, with labels: what is timed is placed in their stead."""
    pixels = Stream(0, _PURPOSE).integers(256, ROWS * 32 * 32 * 3).reshape(ROWS, 32, 32, 3)
    return pixels.astype(np.uint8), np.arange(ROWS) % 10


def width_of(name: str) -> int:
    """The k of "cnn_k".

    Raises:
        AttributeError: it is another name.
    """
    kind, _, width = name.partition("_")
    if kind != "cnn" or not width.isdecimal() or not int(width):
        raise AttributeError(name)
    return int(width)
