"""Derivatives by complex steps (Squire and Trapp, 1998): f(x + ih) = f(x) + ih f'(x), exact to rounding.

There is no difference of nearly equal numbers, so the step may be so small that its square is nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from parity.identify.run import Array

__all__ = ["along", "jacobian"]

STEP = 1e-30


def along(function: Callable[[Array], Array], x: Array, direction: Array) -> Array:
    """The derivative of an analytic function at x, in a direction."""
    return np.imag(function(cast(Array, x + 1j * STEP * direction))) / STEP


def jacobian(function: Callable[[Array], Array], x: Array) -> Array:
    """(values, variables) of a function that gives a vector."""
    return np.stack([along(function, x, unit) for unit in np.eye(len(x))], axis=1)
