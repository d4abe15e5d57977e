"""How far apart two arrays are, relative to their own size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.contract import Weights

__all__ = [
    "Gap",
    "frobenius",
    "gaps",
    "largest",
    "largest_gap",
    "loss_differences",
    "momentum_gaps",
    "ratio",
    "relative_difference",
]


SMALL_LOSS = 1e-3
"""Below it a loss is compared with this instead of itself: of examples that are learnt by heart it is almost nothing,
and its last digits are those of the outputs that it is a small difference of."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The largest relative difference in a set of tensors, and which tensor has it."""

    difference: float
    tensor: str


def relative_difference(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """|a - b| / max(|a|, |b|) in the Frobenius norm; 0 for two zeros, infinite where either is not finite.

    Normwise, so that elements which cancel to almost nothing do not decide; symmetric, so that no side is the
    reference.

    Raises:
        ValueError: the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    # Halved first: the difference of two huge values may overflow.
    return ratio(2 * frobenius(a / 2 - b / 2), max(frobenius(a), frobenius(b)))


def frobenius(values: NDArray[np.floating]) -> float:
    """Frobenius norm; infinite or NaN where a value is.

    Scaled to its largest element first, because squares of float64 may overflow, or vanish. By a pairwise sum:
    np.linalg.norm may call a BLAS, whose threads wait where the cores are busy.
    """
    scale = float(np.abs(values).max(initial=0.0))
    if scale == 0 or not np.isfinite(scale):
        return scale
    return scale * float(np.sqrt(np.sum(np.square(values / scale))))


def ratio(part: float, whole: float) -> float:
    """The quotient; 0 for 0 / 0, infinite for anything else over 0."""
    return part / whole if whole else (0.0 if part == 0 else float("inf"))


def largest_gap(a: Weights, b: Weights) -> Gap | None:
    """The tensor in which two sets of canonical tensors differ most; None when both are empty.

    Raises:
        ValueError: the sets hold different tensors.
    """
    return largest(gaps(a, b))


def gaps(a: Weights, b: Weights) -> dict[str, float]:
    """The relative difference of each tensor, by name.

    Raises:
        ValueError: the sets hold different tensors.
    """
    if a.keys() != b.keys():
        raise ValueError(f"tensors differ: {sorted(a.keys() ^ b.keys())} are on one side only")
    return {name: relative_difference(a[name], b[name]) for name in a}


def momentum_gaps(a: Weights, b: Weights) -> dict[str, float]:
    """`gaps` of two sides' momentum, where a missing buffer stands at zero."""
    zeros = {name: np.zeros_like(value) for name, value in {**a, **b}.items()}
    return gaps({**zeros, **a}, {**zeros, **b})


def largest(differences: Mapping[str, float]) -> Gap | None:
    """The largest of them and whose it is; None when there are none."""
    found = [Gap(difference=difference, tensor=name) for name, difference in differences.items()]
    return max(found, key=lambda gap: gap.difference, default=None)


def loss_differences(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """|a - b| / max(|a|, |b|, SMALL_LOSS) at each step, (steps,); infinite where either is not finite."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = np.where(finite, a, 1.0), np.where(finite, b, 1.0)
    differences = np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), SMALL_LOSS)
    return np.where(finite, differences, np.inf)
