"""The third rule: over thousands of steps, do two sides part no further than one of them parts from itself?

Training amplifies rounding, and a flip (see `parity.compare.flips`) does so at once. So a pair is compared with an
ensemble: runs of one side whose initial weights are one unit in the last place away. The envelope after so many steps
is the largest distance that any member has had from the side's own run by then. An honest twin is as one more member:
it passes the largest of M others in one of M + 1 cases, but not by far, so the pair may be up to FACTOR times as far
apart. A flip of the pair's alone is let through where it was found and named; after it only distributions are compared.

The horizon is the step up to which a comparison step by step means anything: where the pair, or a member, first parts
by a flip. Beyond it the final accuracy of the other side and the share of equal predictions are held against those of
the ensemble: each is one more draw from the distribution that the runs of the ensemble are draws from, so its distance
from their mean, over their standard deviation times sqrt(1 + 1/n), follows Student's t with n - 1 degrees of freedom,
and a value beyond the 99.9 % quantile is another distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["FACTOR", "Distribution", "Spread", "compare_distribution", "envelope", "student_t"]

FACTOR = 4.0
"""The other side's rounding may be up to twice the ensemble's (`parity.compare.rounding`: CAP), which makes the pair
sqrt(1 + 2^2) / sqrt(2) = 1.6 times as far apart as two members; and the furthest of a few members stands for a
distribution, in a phase where distances double within tens of steps."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How far each member of an ensemble is from its side's own run after so many steps.

    The relative difference of the parameter tensor that differs most, as for the pair.
    """

    steps: int
    members: tuple[float, ...]


def envelope(spreads: Sequence[Spread]) -> list[float]:
    """The largest distance of any member so far, at each of the spreads' steps."""
    return np.maximum.accumulate([max(spread.members) for spread in spreads]).tolist() if spreads else []


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """One figure of the other side among the same figures of the ensemble.

    Args:
        name: what it is.
        value: the other side's.
        ensemble: the runs' own.
        t: distance from the ensemble's mean in standard deviations of a further draw.
        limit: the 99.9 % quantile of Student's t.
    """

    name: str
    value: float
    ensemble: tuple[float, ...]
    t: float
    limit: float

    @property
    def inside(self) -> bool:
        """Whether the value is one that the ensemble could have drawn."""
        return self.t <= self.limit


def compare_distribution(
    name: str, value: float, ensemble: Sequence[float], *, resolution: float, more_is_fine: bool = False
) -> Distribution:
    """Whether a figure could be one more draw of the ensemble's.

    Args:
        name: of the figure.
        value: the other side's, from 0 to 1.
        ensemble: at least two.
        resolution: the least step that the figure can make (1 / test images): the standard deviation is at least so
            large, because runs that agree by chance have none.
        more_is_fine: whether only a smaller value can be another distribution: a twin may agree better than the
            ensemble's runs do, the same program run twice for example.
    """
    runs = np.asarray(ensemble, np.float64)
    deviation = max(float(runs.std(ddof=1)), resolution) * math.sqrt(1 + 1 / len(runs))
    below = float(runs.mean()) - value
    t = (max(below, 0.0) if more_is_fine else abs(below)) / deviation
    return Distribution(name=name, value=value, ensemble=tuple(runs.tolist()), t=t, limit=student_t(len(runs) - 1))


_T999 = (636.62, 31.599, 12.924, 8.6103, 6.8688, 5.9588, 5.4079, 5.0413, 4.7809, 4.5869, 4.4370, 4.3178, 4.2208, 4.1405)
"""Two-sided 99.9 % quantiles of Student's t for 1, 2, ... degrees of freedom, from any table of them."""


def student_t(freedom: int) -> float:
    """The two-sided 99.9 % quantile of Student's t; beyond the table that of its last row, which is larger."""
    return _T999[min(freedom, len(_T999)) - 1]
