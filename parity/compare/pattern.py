"""What a difference looks like, where that is simple: a factor, or a multiple of the parameter (weight decay)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.compare.measure import frobenius
from parity.compare.stages import Stage, in_order_of, stage_tensors
from parity.contract import StepTrace

__all__ = ["describe_difference"]

_FROM_GRADIENTS = ("gradients", "momentum", "update")

Array = NDArray[np.float64]


def describe_difference(
    place: Stage, a: StepTrace, b: StepTrace, *, allowed: float, names: tuple[str, str]
) -> str | None:
    """One clause on how two sides' tensors differ; None if it is neither of the two. Chance makes it neither.

    Args:
        place: of the tensors; single numbers are not judged: any is a multiple of any other.
        a: one side's step.
        b: the other's.
        allowed: the relative difference that is rounding.
        names: the sides'.
    """
    ours, theirs = stage_tensors(a), stage_tensors(in_order_of(a, b))
    x, y = ours.get(place), theirs.get(place)
    if x is None or y is None or x.shape != y.shape or x.size < 2 or not np.isfinite([x, y]).all():
        return None
    error = allowed * max(frobenius(x), frobenius(y))
    factor = _factor(y, x, error)
    if factor is not None:
        return f"{names[1]}'s is {factor:.4g} times {names[0]}'s"
    parameter = ours.get(Stage(stage="weights", tensor=place.tensor)) if place.stage in _FROM_GRADIENTS else None
    share = _factor(y - x, parameter, error) if parameter is not None else None
    if share is not None:
        return f"{names[1]}'s is {names[0]}'s plus {share:.4g} times the parameter: see the weight decay"
    return None


def _factor(y: Array, x: Array, error: float) -> float | None:
    """The c for which |y - c x| <= error, by least squares; None if there is none, or it is 0."""
    square = float(np.vdot(x, x))
    factor = float(np.vdot(x, y)) / square if square else 0.0
    return factor if factor and frobenius(y - factor * x) <= error else None
