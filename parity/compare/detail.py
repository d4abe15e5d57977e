"""One tensor of two sides, element by element: how its differences are distributed, and where they are largest.

Norms decide a verdict; this is for looking. Its size is bounded whatever the tensor's is, and so is the memory that it
takes to make: a tensor is gone through block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.compare.stages import Stage

__all__ = ["Detail", "Element", "tensor_detail"]

BINS = 41
"""Of a histogram: odd, so that a symmetric one has a bin around 0."""

LARGEST = 12
"""Elements that are listed."""

BLOCK = 1 << 20
"""Elements that are looked at together."""

LEAST_REACH = 1e-300
"""Differences that reach less far have no histogram: bins between denormal numbers have no width."""

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Element:
    """One element: its index, and its value on each side."""

    index: tuple[int, ...]
    a: float
    b: float


@dataclass(frozen=True, kw_only=True)
class Detail:
    """One tensor of one step on both sides.

    Args:
        phase: "" for the ordinary steps, or what else was computed ("tie probe").
        step: 0-based.
        place: stage and tensor.
        shape: on both sides.
        unequal: elements that are not the same: of numbers to the last bit. NaN is the same as NaN.
        not_finite: elements that are NaN or infinite, on either side.
        not_finite_alike: of these, those that are the same on both sides.
        edges: BINS + 1 ends of the bins, rising; empty where no finite difference reaches LEAST_REACH.
        counts: how many finite differences a - b each bin holds.
        largest: those that differ most, not finite ones first.
    """

    phase: str
    step: int
    place: Stage
    shape: tuple[int, ...]
    unequal: int
    not_finite: int
    not_finite_alike: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    largest: tuple[Element, ...]


def tensor_detail(
    place: Stage, a: NDArray[np.generic], b: NDArray[np.generic], *, step: int, phase: str = ""
) -> Detail:
    """Look at one tensor.

    Args:
        place: stage and tensor.
        a: one side's.
        b: the other's, of the same shape.
        step: 0-based.
        phase: see `Detail`.

    Raises:
        ValueError: the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    unequal = not_finite = alike = 0
    reach = 0.0
    found: list[tuple[float, int]] = []
    for start, x, y in _blocks(a, b):
        differences, whole = _differences(x, y), np.isfinite(x) & np.isfinite(y)
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        unequal += int(np.count_nonzero(~same))
        not_finite += int(np.count_nonzero(~whole))
        alike += int(np.count_nonzero(same & ~whole))
        sizes = np.where(np.isfinite(differences), np.abs(differences), np.inf)
        reach = max(reach, float(sizes[np.isfinite(sizes)].max(initial=0.0)))
        found = _worst([*found, *((float(sizes[at]), start + int(at)) for at in _largest(sizes))])
    edges, counts = _histogram(a, b, reach)
    return Detail(
        phase=phase,
        step=step,
        place=place,
        shape=a.shape,
        unequal=unequal,
        not_finite=not_finite,
        not_finite_alike=alike,
        edges=edges,
        counts=counts,
        largest=tuple(_element(at, a, b) for _, at in found),
    )


def _blocks(a: NDArray[np.generic], b: NDArray[np.generic]) -> Iterator[tuple[int, Values, Values]]:
    """Where each block begins in the flat tensors, and the block of either in float64."""
    flat_a, flat_b = np.ravel(a), np.ravel(b)
    for start in range(0, flat_a.size, BLOCK):
        end = start + BLOCK
        yield start, flat_a[start:end].astype(np.float64), flat_b[start:end].astype(np.float64)


def _differences(x: Values, y: Values) -> Values:
    with np.errstate(invalid="ignore", over="ignore"):
        return x - y


def _histogram(
    a: NDArray[np.generic], b: NDArray[np.generic], reach: float
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Of bins that lie symmetrically about 0."""
    if reach < LEAST_REACH:
        return (), ()
    counts = np.zeros(BINS, np.int64)
    for _, x, y in _blocks(a, b):
        differences = _differences(x, y)
        counts += np.histogram(differences[np.isfinite(differences)] / reach, bins=BINS, range=(-1.0, 1.0))[0]
    return tuple((np.linspace(-1.0, 1.0, BINS + 1) * reach).tolist()), tuple(counts.tolist())


def _worst(found: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """The largest in falling order; of equals the first."""
    return sorted(found, key=lambda each: (-each[0], each[1]))[:LARGEST]


def _largest(sizes: Values) -> NDArray[np.intp]:
    """The positions of the largest that are not 0; of equals any."""
    count = min(LARGEST, len(sizes))
    found = np.argpartition(-sizes, count - 1)[:count] if count else np.arange(0)
    return found[sizes[found] > 0]


def _element(at: int, a: NDArray[np.generic], b: NDArray[np.generic]) -> Element:
    index = tuple(int(axis) for axis in np.unravel_index(at, a.shape))
    x, y = (float(np.asarray(side[index], np.float64)) for side in (a, b))
    return Element(index=index, a=x, b=y)
