"""A median over rounds, and how sure it is: the bootstrap's percentile interval.

    the median of n rounds drawn from the n rounds, with repetition, many times;
    the interval holds the middle 95 % of those medians

Nothing is assumed of how times are distributed, which are skewed: nothing makes a round faster than it can be, and many
things make it slower. It holds what varies from round to round, not what differs from one day to the next.

No interval of n values holds the true median more often than the one from the least to the largest, which misses it
where all n lie on one side: in 2^(1 - n) of cases. So of 2 rounds it is 50 % at most, of 3 75 %, and of LEAST_ROUNDS,
the fewest that are taken, 94 %.

Source: B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parity.contract import Stream

__all__ = ["CONFIDENCE", "LEAST_ROUNDS", "SPREAD", "Interval", "median_interval"]

CONFIDENCE = 0.95
LEAST_ROUNDS = 5
SPREAD = 0.25
"""The widest interval, as a share of the median, of rounds that nothing has disturbed; wider ones say so."""
DRAWS = 1999
_PURPOSE = 12  # keeps these draws apart from those of weights and plans


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A median, and the ends of its interval."""

    median: float
    low: float
    high: float

    def scaled(self, factor: float) -> Interval:
        """In another unit; factor > 0."""
        return Interval(median=self.median * factor, low=self.low * factor, high=self.high * factor)

    @property
    def disturbed(self) -> bool:
        """Whether the rounds spread further than SPREAD of the median: something else was running beside them."""
        return self.high - self.low > SPREAD * self.median

    def beyond(self, other: Interval) -> bool:
        """Whether the two have no value in common."""
        return self.high < other.low or other.high < self.low


def median_interval(values: Sequence[float]) -> Interval:
    """The median of at least one value and its interval; the same for the same values.

    >>> median_interval([2.0, 1.0, 3.0]).median
    2.0
    """
    given = np.asarray(values, np.float64)
    drawn = Stream(0, _PURPOSE).integers(len(given), DRAWS * len(given)).reshape(DRAWS, len(given))
    medians = np.median(given[drawn], axis=1)
    low, high = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(median=float(np.median(given)), low=float(low), high=float(high))
