"""Initial weights one ulp apart: the smallest change there is, to see how far a run parts from itself by rounding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.contract import InputError, Stream, Weights

__all__ = ["nudged"]

_PURPOSE = 5  # keeps this random stream apart from the others


def nudged(weights: Weights, seed: int, dtype: str) -> dict[str, NDArray[np.floating]]:
    """Every element moved to its neighbour in `dtype`, up or down at random.

    Args:
        weights: canonical tensors.
        seed: of the directions, >= 0.
        dtype: "float32" or "float64", the run's: an ulp of another dtype would be rounded away, or be no rounding.

    Returns:
        Canonical tensors of that dtype.

    Raises:
        InputError: the seed is negative.
    """
    if seed < 0:
        raise InputError("nudge", seed, "it is negative", "give 0 or more")
    stream = Stream(seed, _PURPOSE)
    moved = {}
    for name in sorted(weights):
        value = weights[name].astype(dtype)
        up = (stream.words(value.size) >> np.uint64(63)).astype(bool).reshape(value.shape)
        moved[name] = np.nextafter(value, np.where(up, np.inf, -np.inf).astype(dtype))
    return moved
