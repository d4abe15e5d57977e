"""Null runs: a program beside itself, with its initial weights moved by the least that its number format can show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.contract import Stream, Weights

__all__ = ["nudge"]

_PURPOSE = 4  # keeps these random signs apart from other streams of the same seed


def nudge(weights: Weights, *, seed: int, dtype: str) -> dict[str, NDArray[np.floating]]:
    """Every weight moved to one of its two neighbours in `dtype`, up or down at random; zeros stay zero.

    Args:
        weights: canonical tensors, finite; rounded to `dtype` first.
        seed: of the signs, >= 0.
        dtype: "float32" or "float64", the dtype of the result.
    """
    stream = Stream(seed, _PURPOSE)
    nudged = {}
    for name, value in weights.items():
        near = np.asarray(value, dtype)
        target = np.where(stream.uniform(near.size).reshape(near.shape) < 0.5, -np.inf, np.inf)
        nudged[name] = np.where(near == 0, near, np.nextafter(near, target.astype(dtype)))
    return nudged
