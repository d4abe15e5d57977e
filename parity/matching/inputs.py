"""Whether two programs' data sets are the same, up to the order of their axes: images NCHW and NHWC, for example."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import InputError

__all__ = ["input_axes", "shared_rows"]

Array = NDArray[Any]
Axes = tuple[int, ...]


def input_axes(a: Sequence[Array], b: Sequence[Array]) -> tuple[Axes | None, ...]:
    """For each array of A's data set the transpose that makes it B's; None where the shapes are the same.

    Equal shapes are taken to mean the same. Where they differ, the values decide.

    Raises:
        InputError: the sets have different numbers of arrays, or arrays that no transpose makes equal.
    """
    if len(a) != len(b):
        raise _refused(f"A has {len(a)} arrays, B has {len(b)}")
    return tuple(_axes(number, x, y) for number, (x, y) in enumerate(zip(a, b, strict=True)))


def _axes(number: int, a: Array, b: Array) -> Axes | None:
    if a.shape[1:] == b.shape[1:]:
        return None
    common = min(len(a), len(b))
    for order in itertools.permutations(range(1, a.ndim)):
        axes = (0, *order)
        if np.array_equal(a[:common].transpose(axes), b[:common]):
            return axes
    raise _refused(f"array {number} is {a.shape} in A and {b.shape} in B, and not the same values in another order")


def _refused(problem: str) -> InputError:
    return InputError("example", "the two programs' data", problem, "give both programs the same data set")


def shared_rows(
    a: Sequence[Array], axes: Sequence[Axes | None], rows: int
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """The first rows of A's data set, in A's layout and in B's."""
    ours = tuple(array[:rows] for array in a)
    theirs = (array if order is None else array.transpose(order) for array, order in zip(ours, axes, strict=True))
    return ours, tuple(np.ascontiguousarray(array) for array in theirs)
