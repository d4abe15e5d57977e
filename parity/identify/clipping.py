"""Clipping by norm hidden in the learning rates: SGD without a buffer, or with Keras', gives each gradient its own.

    rate_t = lr_t                         where a step is not clipped
    rate_t = lr_t max_norm / size_t       where it is

Which steps are clipped follows from the bound: those with the largest gradients. For each number of them the rates are
made whole up to the bound; where they then follow a schedule, that is the bound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.identify.rule import Rule
from parity.identify.run import Array, RecordedRun
from parity.identify.schedules import name_schedule
from parity.identify.simulate import clip_factors, clip_sizes

__all__ = ["clipped_schedule"]

LIKELY = 10
"""How many numbers of clipped steps are looked at, those with the smoothest rates."""


def clipped_schedule(rates: Array, errors: Array, rule: Rule, run: RecordedRun) -> tuple[float, float] | None:
    """Where clipping by norm begins, if that leaves a schedule of the rates: the bound and its standard error.

    Args:
        rates: (steps,) each a learning rate times the step's clipping factor.
        errors: (steps,) of them.
        rule: with its clipping.
        run: whose gradients may be clipped.
    """
    order, sizes, eps = np.argsort(run.norms), clip_sizes(rule, run), run.eps
    errors = np.where(run.norms > 0, errors, np.inf)  # a step without a gradient says nothing
    # Every step is clipped: then lr times the bound is all that is known.
    held = name_schedule(rates * sizes, _times(errors, sizes), eps=eps)
    if held.name != "free" and not held.float32:
        return float(sizes[run.norms > 0].min()), np.inf
    counts = sorted(range(1, len(rates)), key=lambda count: _roughness(rates, sizes, order[-count:]))
    for clipped in counts[:LIKELY]:
        over = order[-clipped:]
        for limit, count in _limits(rates, errors, sizes, over, eps=eps):
            factors = clip_factors(rule, {"max_norm": limit}, run)
            held = name_schedule(rates / factors, _times(errors, 1 / factors), eps=eps)
            if np.any(factors < 1) and held.name != "free" and not held.float32:
                told = over[np.isfinite(errors[over])]
                share = np.median(errors[told] / np.abs(rates[told]).max()) / np.sqrt(count)
                return limit, float(limit * np.hypot(share, eps))
    return None


def _times(errors: Array, factors: Array) -> Array:
    """The errors of rates times these; what is not known stays so."""
    return np.multiply(errors, factors, out=np.full_like(errors, np.inf), where=np.isfinite(errors))


def _limits(
    rates: Array, errors: Array, sizes: Array, over: NDArray[np.intp], *, eps: float
) -> list[tuple[float, int]]:
    """What the bound may be if these steps are clipped, and how often each comes: from a schedule of the larger part.

    A step that is not clipped has its learning rate, one that is has the bound's share of it.
    """
    clipped = np.isin(np.arange(len(rates)), over)
    from_clipped = 2 * len(over) > len(rates)
    seen = rates * sizes if from_clipped else rates
    known = np.where(clipped == from_clipped, _times(errors, sizes) if from_clipped else errors, np.inf)
    schedule = name_schedule(seen, known, eps=eps)
    if schedule.name == "free":
        return []
    rest = np.flatnonzero((clipped != from_clipped) & np.isfinite(errors))
    rest = rest[np.abs(rates[rest]) > 1e-3 * np.abs(rates).max()]
    rest = rest[np.abs(schedule.rates[rest]) > 1e-3 * np.abs(schedule.rates).max()]
    ratios = schedule.rates[rest] / rates[rest]
    return _repeated(ratios if from_clipped else sizes[rest] / ratios, tolerance=max(1e-9, 64 * eps))


def _roughness(rates: Array, sizes: Array, over: NDArray[np.intp]) -> float:
    """How much the change of the rates changes if these steps are clipped: a sum, which forgives kinks and stairs.

    The bound is unknown; it is what the two kinds of steps differ by where they are neighbours.
    """
    seen = (np.abs(rates) > 1e-6 * np.abs(rates).max()) & (sizes > 0)
    clipped = np.isin(np.arange(len(rates)), over)[seen]
    logs = np.log(np.abs(rates[seen])) + np.where(clipped, np.log(sizes[seen]), 0.0)
    turns = np.diff(clipped.astype(np.float64))
    bounds = (np.diff(logs) * turns)[turns != 0]
    logs = logs - np.where(clipped, np.median(bounds), 0.0) if len(bounds) else logs
    return float(np.sum(np.abs(np.diff(logs, 2))))


def _repeated(values: Array, *, tolerance: float) -> list[tuple[float, int]]:
    """Values that come more than once, or a single one, with how often they come: the three most frequent.

    A step that is clipped shows the bound, one that is not its own norm.
    """
    ordered = np.sort(values[values > 0])
    groups = np.split(ordered, np.flatnonzero(np.diff(ordered) > tolerance * ordered[1:]) + 1) if len(ordered) else []
    frequent = sorted(groups, key=len, reverse=True)[:3]
    return [(float(np.median(group)), len(group)) for group in frequent if len(group) > 1 or len(values) == 1]
