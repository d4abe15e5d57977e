"""Functions of two variables with gradients by hand: what a rule does can be followed by eye.

    Quadratic     f(x, y) = (x^2 + kappa y^2) / 2,                gradient (x, kappa y)
    Rosenbrock    f(x, y) = (1 - x)^2 + 100 (y - x^2)^2,          gradient (-2 (1 - x) - 400 x (y - x^2), 200 (y - x^2))

kappa is the quadratic's condition number.

Source: H. H. Rosenbrock, An automatic method for finding the greatest or least value of a function, The Computer
Journal 3 (1960)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from parity.study.experiment import Array, Landscape

__all__ = ["Problem", "Quadratic", "Rosenbrock", "distances", "landscape"]

GRID = 161


class Problem(Protocol):
    """A function to minimise; points are (..., 2), `start` and `optimum` (2,)."""

    @property
    def start(self) -> Array:
        """Where descents begin."""
        ...

    @property
    def optimum(self) -> Array:
        """Where it is least, 0."""
        ...

    def value(self, p: Array) -> Array:
        """(...) f at each point."""
        ...

    def gradient(self, p: Array) -> Array:
        """(..., 2) its gradient there."""
        ...


@dataclass(frozen=True, kw_only=True)
class Quadratic:
    """A valley along x that is `condition` times as steep along y."""

    condition: float = 20.0

    @property
    def start(self) -> Array:
        """Far along the valley, and off its floor."""
        return np.array([-4.0, 1.5])

    @property
    def optimum(self) -> Array:
        """The origin."""
        return np.zeros(2)

    def value(self, p: Array) -> Array:
        """See `Problem`."""
        x, y = p[..., 0], p[..., 1]
        height: Array = x * x / 2 + self.condition * y * y / 2
        return height

    def gradient(self, p: Array) -> Array:
        """See `Problem`."""
        slopes: Array = p * np.array([1.0, self.condition])
        return slopes


@dataclass(frozen=True, kw_only=True)
class Rosenbrock:
    """A bent valley with steep walls and a nearly flat floor."""

    @property
    def start(self) -> Array:
        """Rosenbrock's own."""
        return np.array([-1.2, 1.0])

    @property
    def optimum(self) -> Array:
        """See `Problem`."""
        return np.ones(2)

    def value(self, p: Array) -> Array:
        """See `Problem`."""
        height: Array = (1 - p[..., 0]) ** 2 + 100 * (p[..., 1] - p[..., 0] ** 2) ** 2
        return height

    def gradient(self, p: Array) -> Array:
        """See `Problem`."""
        rise = p[..., 1] - p[..., 0] ** 2
        return np.stack([-2 * (1 - p[..., 0]) - 400 * p[..., 0] * rise, 200 * rise], axis=-1)


def landscape(problem: Problem, x: Sequence[float], y: Sequence[float]) -> Landscape:
    """The function over a rectangle, from x[0] to x[1] and from y[0] to y[1]."""
    across, up = np.linspace(x[0], x[1], GRID), np.linspace(y[0], y[1], GRID)
    points = np.stack(np.meshgrid(across, up), axis=-1)
    best = problem.optimum
    return Landscape(x=across, y=up, z=problem.value(points), optimum=(float(best[0]), float(best[1])))


def distances(problem: Problem, path: Array) -> Array:
    """(n,) how far each point of a path (n, 2) is from the optimum, Euclidean."""
    gaps = path - problem.optimum
    # Not squares: a path that is climbed overflows early.
    lengths: Array = np.hypot(gaps[:, 0], gaps[:, 1])
    return lengths
