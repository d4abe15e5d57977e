"""Fit, then simulate: of the faults that may explain a deviation, those are causes that predict it to rounding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from parity.compare import Stage, relative_difference
from parity.compare.formula import EPS, ULPS
from parity.explain.cause import Cause, Unknown

__all__ = ["ALLOWED", "Deviation", "Fit", "factor_of", "far", "first_deviation", "settle"]

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

    def cause(self, *, key: str, sentence: str, residual: float = 0.0) -> Cause:
        """A fault that explains it by itself."""
        return Cause(
            key=key,
            side=self.side,
            place=self.place,
            step=self.step,
            sentence=sentence,
            residual=residual,
            before=self.difference,
            keys=(key,),
        )


Arrays = Iterable[NDArray[np.generic]]


def factor_of(found: Arrays, base: Arrays) -> float:
    """The c of found = c base, by least squares over pairs of arrays; 0 where the base is."""
    pairs = [(np.asarray(y, np.float64), np.asarray(x, np.float64)) for y, x in zip(found, base, strict=True)]
    square = sum(float(np.vdot(x, x)) for _, x in pairs)
    return sum(float(np.vdot(x, y)) for y, x in pairs) / square if square else 0.0


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
    return replace(
        deviation.cause(key=first.key, sentence=first.sentence, residual=first.residual),
        alike=tuple(sentence for sentence in others if sentence != first.sentence),
        keys=tuple(dict.fromkeys(fit.key for fit in good)),
    )
