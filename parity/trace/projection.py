"""64 numbers that tell how far two tensors are apart.

    (P x)_j = sum of s_i x_i over the elements i in bucket j,    s_i = +1 or -1 at random

Each element lies in one of 64 random buckets of equal size. P is linear, and with independent signs the mixed terms of
|P x|^2 vanish on average, so |P a - P b|^2 is an unbiased estimate of |a - b|^2. Its variance is at most 2/64 of its
square: with many elements in each bucket the estimate is spread as chi-square with 64 degrees of freedom over 64, so a
distance is estimated to 9 %. A difference in one element alone is measured exactly. One pass over the tensor: 64 dense
rows of random signs would estimate no better and cost 64 times as much.

A tensor of at most 64 elements is its own projection.

Source: Charikar, Chen, Farach-Colton, Finding frequent items in data streams, 2002 (the count sketch).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.contract import Stream, Weights

__all__ = ["NUMBERS", "Projection", "Projector", "columns_of", "width_of"]

NUMBERS = 64

_VERSION = "parity.projection/1"  # enters the seed: another scheme draws other signs
_PURPOSE = 5  # keeps this random stream apart from others


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """The projection of one tensor.

    Args:
        order: (64, places) the elements of each bucket; where the size is no multiple of 64, places of sign 0 fill up.
        signs: (64, places) +1, -1 or 0.
    """

    order: NDArray[np.intp]
    signs: NDArray[np.float64]

    @classmethod
    def draw(cls, name: str, size: int) -> Projection:
        """The projection for a tensor of that name and number of elements: the same everywhere, for good."""
        stream = Stream(int.from_bytes(hashlib.sha256(f"{_VERSION}/{name}".encode()).digest()[:16]), _PURPOSE)
        places = -(-size // NUMBERS) * NUMBERS
        order, signs = np.zeros(places, np.intp), np.zeros(places)
        order[:size] = stream.permutation(size)
        signs[:size] = 1 - 2 * (stream.words(size) >> np.uint64(63)).astype(np.float64)
        # Element k of the permutation goes to bucket k mod 64: sizes differ by one at most.
        return cls(order=order.reshape(-1, NUMBERS).T.copy(), signs=signs.reshape(-1, NUMBERS).T.copy())

    def __call__(self, flat: NDArray[np.float64]) -> NDArray[np.float64]:
        """(size,) -> (64,)."""
        # Along the last axis NumPy sums pairwise, whose rounding does not grow with the tensor.
        projected: NDArray[np.float64] = (flat[self.order] * self.signs).sum(axis=1)
        return projected


def columns_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, slice]:
    """Where each tensor's projection lies in a row that holds those of all tensors, in their order."""
    ends = np.cumsum([min(math.prod(shape), NUMBERS) for shape in shapes.values()]).tolist()
    return {name: slice(first, last) for name, first, last in zip(shapes, [0, *ends[:-1]], ends, strict=True)}


def width_of(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The length of such a row."""
    return sum(min(math.prod(shape), NUMBERS) for shape in shapes.values())


class Projector:
    """The projections of a model's tensors, side by side in one row of numbers.

    Args:
        shapes: canonical name -> shape, in the order in which they lie in the row.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.columns = columns_of(shapes)
        self.width = width_of(shapes)
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        self._projections = {name: Projection.draw(name, size) for name, size in sizes.items() if size > NUMBERS}

    def __call__(self, tensors: Weights) -> NDArray[np.float64]:
        """(width,): every tensor's projection, worked out in float64."""
        row = np.empty(self.width)
        for name, columns in self.columns.items():
            flat = tensors[name].ravel().astype(np.float64)
            row[columns] = self._projections[name](flat) if name in self._projections else flat
        return row
