"""One tensor of two sides, element by element: how its differences are distributed, and where they are largest.

Norms decide a verdict; this is for looking. Its size is bounded whatever the tensor's is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.compare.stages import Stage

__all__ = ["Detail", "Element", "tensor_detail"]

BINS = 41
"""Of a histogram: odd, so that a symmetric one has a bin around 0."""

LARGEST = 12
"""Elements that are listed."""


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
        unequal: elements that are not equal to the last bit; two that are not finite are counted too.
        edges: BINS + 1 ends of the bins, rising; empty where no difference is finite.
        counts: how many finite differences a - b each bin holds.
        largest: those that differ most, not finite ones first.
    """

    phase: str
    step: int
    place: Stage
    shape: tuple[int, ...]
    unequal: int
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
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        differences = np.ravel(x - y)
    edges, counts = _histogram(differences[np.isfinite(differences)])
    sizes = np.where(np.isfinite(differences), np.abs(differences), np.inf)
    return Detail(
        phase=phase,
        step=step,
        place=place,
        shape=a.shape,
        unequal=int(np.count_nonzero(sizes)),
        edges=edges,
        counts=counts,
        largest=tuple(_element(int(at), x, y) for at in _largest(sizes)),
    )


def _histogram(differences: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Of bins that lie symmetrically about 0."""
    reach = float(np.abs(differences).max(initial=0.0))
    if not differences.size:
        return (), ()
    # np.histogram cannot divide a range of a few denormal numbers.
    reach = max(reach, float(np.finfo(np.float64).tiny) * BINS)
    counts, _ = np.histogram(differences / reach, bins=BINS, range=(-1.0, 1.0))
    return tuple((np.linspace(-1.0, 1.0, BINS + 1) * reach).tolist()), tuple(counts.tolist())


def _largest(sizes: NDArray[np.float64]) -> NDArray[np.intp]:
    """The positions of the largest that are not 0, in falling order; of equals the first."""
    count = min(LARGEST, len(sizes))
    found = np.argpartition(-sizes, count - 1)[:count] if count else np.arange(0)
    found = found[sizes[found] > 0]
    return found[np.lexsort((found, -sizes[found]))]


def _element(at: int, a: NDArray[np.float64], b: NDArray[np.float64]) -> Element:
    index = tuple(int(axis) for axis in np.unravel_index(at, a.shape))
    return Element(index=index, a=float(a[index]), b=float(b[index]))
