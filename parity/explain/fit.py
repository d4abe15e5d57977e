"""Fit, then simulate: of the faults that may explain a deviation, those are causes that predict it to rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.compare import Stage, relative_difference
from parity.compare.formula import EPS, ULPS
from parity.explain.cause import Cause, Unknown

__all__ = ["ALLOWED", "Deviation", "Fit", "dot", "far", "first_deviation", "settle"]

ALLOWED = ULPS * EPS
"""What is rounding, as for two sides: see `parity.compare.formula`."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fault with its fitted constants, and what it leaves of the deviation (relative, the worst of all steps)."""

    key: str
    sentence: str
    residual: float


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """Where a side first deviates from what its formula makes of its own inputs; `allowed` is rounding there."""

    side: str
    step: int
    place: Stage
    difference: float
    allowed: float = ALLOWED


def dot(x: NDArray[np.generic], y: NDArray[np.generic]) -> float:
    """The sum of the products of their elements, in float64."""
    return float(np.vdot(np.asarray(x, np.float64), np.asarray(y, np.float64)))


def far(found: NDArray[np.generic] | None, expected: NDArray[np.generic] | None) -> float:
    """The relative difference; infinite where one is missing, or the shapes differ."""
    if found is None or expected is None or np.shape(found) != np.shape(expected):
        return float("inf")
    return relative_difference(np.asarray(found, np.float64), np.asarray(expected, np.float64))


def first_deviation(deviations: Sequence[Deviation]) -> Deviation | None:
    """The first that is not rounding, in the order given."""
    return next((each for each in deviations if not each.difference <= each.allowed), None)


def settle(deviation: Deviation, fits: Sequence[Fit]) -> Cause | Unknown:
    """The cause: every fit that leaves nothing but rounding. Several are a class, none is picked by guess."""
    good = [fit for fit in fits if fit.residual <= deviation.allowed]
    if not good:
        best = min(fits, key=lambda fit: fit.residual, default=None)
        closer = best is not None and best.residual < 0.5 * deviation.difference
        return Unknown(
            side=deviation.side,
            place=deviation.place,
            step=deviation.step,
            difference=deviation.difference,
            residual=best.residual if best and closer else deviation.difference,
            best=best.sentence if best and closer else None,
        )
    first, others = good[0], dict.fromkeys(fit.sentence for fit in good[1:])
    return Cause(
        key=first.key,
        side=deviation.side,
        place=deviation.place,
        step=deviation.step,
        sentence=first.sentence,
        residual=first.residual,
        before=deviation.difference,
        alike=tuple(sentence for sentence in others if sentence != first.sentence),
        keys=tuple(dict.fromkeys(fit.key for fit in good)),
    )
