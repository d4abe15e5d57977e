"""The third rule: over thousands of steps, do two sides part no further than one of them parts from itself?

Training amplifies rounding, and a flip (see `parity.compare.flips`) does so at once. So a pair is compared with an
ensemble: runs of one side whose initial weights are one unit in the last place away. The envelope after so many steps
is the largest distance that any member has had from the side's own run by then. An honest twin is as one more member:
it passes the largest of M others in one of M + 1 cases, but not by far, so the pair may be up to FACTOR times as far
apart. A flip of the pair's alone is let through where it was found and named; after it only distributions are compared.

The horizon is the step up to which a comparison step by step means anything: where the pair, or a member, first parts
by a flip. Beyond it the final accuracy of the other side, in all and in each class, and the share of equal predictions
are held against those of the ensemble: each is one more draw from the distribution that the runs of the ensemble are
draws from, so its distance from their mean, over their standard deviation times sqrt(1 + 1/n), follows Student's t with
n - 1 degrees of freedom, and a value that fewer than one honest run in 1,000 reaches is another distribution; for the
classes one in 1,000 for all of them together (Bonferroni). Of two runs that t is 637: figures by which no value from 0
to 1 would be another distribution prove nothing.
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
        limit: the largest t that is no other distribution.
        lowest, highest: the values that have it, which may lie outside 0 and 1.
        among: how many figures of its kind there are.
    """

    name: str
    value: float
    ensemble: tuple[float, ...]
    t: float
    limit: float
    lowest: float
    highest: float
    among: int

    @property
    def share(self) -> float:
        """T as a share of the limit."""
        return self.t / self.limit

    @property
    def judged(self) -> bool:
        """Whether there is a value that the ensemble could not have drawn."""
        return self.lowest > 0 or self.highest < 1

    @property
    def inside(self) -> bool:
        """Whether the value is one that the ensemble could have drawn."""
        return self.t <= self.limit


def compare_distribution(
    name: str,
    value: float,
    ensemble: Sequence[float],
    *,
    resolution: float,
    more_is_fine: bool = False,
    among: int = 1,
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
        among: how many figures of its kind share the one false alarm in 1,000.
    """
    runs = np.asarray(ensemble, np.float64)
    deviation = max(float(runs.std(ddof=1)), resolution) * math.sqrt(1 + 1 / len(runs))
    below = float(runs.mean()) - value
    limit = student_t(len(runs) - 1, FALSE_ALARMS / among)
    return Distribution(
        name=name,
        value=value,
        ensemble=tuple(runs.tolist()),
        t=(max(below, 0.0) if more_is_fine else abs(below)) / deviation,
        limit=limit,
        lowest=float(runs.mean()) - limit * deviation,
        highest=math.inf if more_is_fine else float(runs.mean()) + limit * deviation,
        among=among,
    )


FALSE_ALARMS = 1e-3
"""The share of honest runs that a figure may call another distribution."""


def student_t(freedom: int, beyond: float) -> float:
    """The t that a share `beyond` of draws is further from 0 than, in either direction."""
    from scipy.special import stdtrit  # here, so that traces can be compared where only NumPy is installed

    return float(stdtrit(freedom, 1 - beyond / 2))
