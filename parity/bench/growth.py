"""How a time grows: a fixed part and one in proportion to the work, fitted to what was measured.

    t(w) = a + b w,    a, b >= 0

by least squares of the relative residuals, so that short times count as much as long ones. Up to the work a / b the
fixed part dominates, beyond it the work does. The largest residual says whether the line describes the times at all.

Source: C. L. Lawson, R. J. Hanson, Solving Least Squares Problems, 1974, chapter 23 (by scipy.optimize.nnls)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parity.bench.interval import Interval

__all__ = ["Axis", "Growth", "Point", "grow", "sentence"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What is varied.

    Args:
        name: of the quantity.
        of: what takes the time: "a step" or "a call".
        unit: of the work, in the singular.
    """

    name: str
    of: str
    unit: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """The quantity's value, the work that goes with it, and the median seconds, with its interval and every round's."""

    x: float
    work: float
    seconds: float
    interval: Interval | None = None
    rounds: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The fitted line: seconds whatever the work is, seconds for each unit of it, and the largest relative residual."""

    fixed: float
    slope: float
    residual: float

    def at(self, work: float) -> float:
        """The line's seconds."""
        return self.fixed + self.slope * work

    def share(self, work: float) -> float:
        """The fixed part of them, from 0 to 1."""
        return self.fixed / self.at(work)


def grow(points: Sequence[Point]) -> Growth:
    """Fit at least two points; their seconds are above 0."""
    from scipy.optimize import nnls  # slow to import, and only needed here

    work, seconds = (np.array([getattr(point, name) for point in points]) for name in ("work", "seconds"))
    # In units of the largest work, so that both columns are of one size.
    columns = np.stack([np.ones_like(work), work / work.max()], axis=1) / seconds[:, np.newaxis]
    (fixed, slope), _ = nnls(columns, np.ones_like(work))
    residual = np.abs(columns @ [fixed, slope] - 1).max()
    return Growth(fixed=float(fixed), slope=float(slope / work.max()), residual=float(residual))


def sentence(name: str, axis: Axis, points: Sequence[Point]) -> str:
    """What dominates where, in words made of the numbers."""
    line = grow(points)
    first, last = points[0], points[-1]
    return (
        f"{name}: {axis.of} takes {_time(line.fixed)} + {_time(line.slope)} for each {axis.unit} "
        f"(within {100 * line.residual:.0f} %); fixed cost is {100 * line.share(first.work):.0f} % of it at "
        f"{first.x:,g} and {100 * line.share(last.work):.0f} % at {last.x:,g}: {_dominates(line, points)}"
    )


def _dominates(line: Growth, points: Sequence[Point]) -> str:
    beyond = [point.x for point in points if line.share(point.work) < 0.5]
    if len(beyond) == len(points):
        return "the work dominates everywhere"
    return f"the work dominates from {beyond[0]:,g} on" if beyond else "the fixed cost dominates everywhere"


def _time(seconds: float) -> str:
    """Three digits, in the unit that fits.

    >>> _time(0.00123)
    '1.23 ms'
    """
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns" if seconds else "0 s"
