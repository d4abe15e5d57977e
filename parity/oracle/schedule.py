"""Learning rates and momenta by count, in closed form: `parity.contract.schedule`'s equations in float64 NumPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from parity.contract import (
    SGD,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    Schedule,
    SequentialLR,
    StepLR,
)

__all__ = ["Rates", "learning_rates", "rates"]

Rows = NDArray[np.float64]


class Rates(NamedTuple):
    """What one update is made with."""

    lr: float
    momentum: float


def rates(sgd: SGD, step: int) -> Rates:
    """The learning rate and the momentum of the update of a training step, counted from 0.

    Raises:
        InputError: the step is beyond the schedule's end.
    """
    if sgd.schedule is None:
        return Rates(sgd.lr, sgd.momentum)
    counts = np.array([sgd.schedule.count(step)])
    return Rates(float(learning_rates(sgd, counts)[0]), float(momenta(sgd, counts)[0]))


def learning_rates(sgd: SGD, counts: NDArray[np.integer]) -> Rows:
    """(steps,) the learning rate at each of these counts, >= 0."""
    n = np.asarray(counts, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # gamma > 1 ends in infinity, as in torch
        return np.full(n.shape, sgd.lr) if sgd.schedule is None else learning_rate(sgd.schedule, n, sgd.lr)


def momenta(sgd: SGD, counts: NDArray[np.integer]) -> Rows:
    """(steps,) the momentum at each of these counts."""
    n, schedule = np.asarray(counts, np.float64), sgd.schedule
    if not (isinstance(schedule, OneCycleLR) and schedule.cycle_momentum):
        return np.full(n.shape, sgd.momentum)
    least, most = schedule.base_momentum, schedule.max_momentum
    return _one_cycle(schedule, n, [(most, least), (least, most), (most, most)])


@singledispatch
def learning_rate(schedule: Schedule, n: Rows, eta: float) -> Rows:
    """(steps,) the learning rate at the counts n, where the constant one is eta."""
    raise NotImplementedError(type(schedule).__name__)


@learning_rate.register
def _(schedule: StepLR, n: Rows, eta: float) -> Rows:
    return eta * np.power(schedule.gamma, n // schedule.step_size)


@learning_rate.register
def _(schedule: MultiStepLR, n: Rows, eta: float) -> Rows:
    passed = np.searchsorted(np.sort(schedule.milestones), n, side="right")
    return eta * np.power(schedule.gamma, passed.astype(np.float64))


@learning_rate.register
def _(schedule: ExponentialLR, n: Rows, eta: float) -> Rows:
    return eta * np.power(schedule.gamma, n)


@learning_rate.register
def _(schedule: LinearLR, n: Rows, eta: float) -> Rows:
    done = np.minimum(n, schedule.total_iters) / schedule.total_iters
    return eta * (schedule.start_factor + (schedule.end_factor - schedule.start_factor) * done)


@learning_rate.register
def _(schedule: PolynomialLR, n: Rows, eta: float) -> Rows:
    return eta * (1 - np.minimum(n, schedule.total_iters) / schedule.total_iters) ** schedule.power


@learning_rate.register
def _(schedule: CosineAnnealingLR, n: Rows, eta: float) -> Rows:
    return schedule.eta_min + (eta - schedule.eta_min) * (1 + np.cos(np.pi * n / schedule.T_max)) / 2


@learning_rate.register
def _(schedule: OneCycleLR, n: Rows, eta: float) -> Rows:  # noqa: ARG001  it has a learning rate of its own
    high, low = schedule.max_lr, schedule.max_lr / schedule.div_factor
    least = low / schedule.final_div_factor
    between = [(high, low), (low, least)] if schedule.three_phase else [(high, least)]
    return _one_cycle(schedule, n, [(low, high), *between])


@learning_rate.register
def _(schedule: SequentialLR, n: Rows, eta: float) -> Rows:
    begins = np.array([0, *schedule.milestones])
    which = np.searchsorted(schedule.milestones, n, side="right")
    pairs = zip(schedule.schedules, begins, strict=True)
    parts = [learning_rate(part, np.maximum(n - begin, 0), eta) for part, begin in pairs]
    return np.choose(which, parts)


def _one_cycle(schedule: OneCycleLR, n: Rows, phases: list[tuple[float, float]]) -> Rows:
    """Values that go from start to end in each phase, at the counts n."""
    ends = np.array(schedule.ends)
    which = np.minimum(np.searchsorted(ends, n, side="left"), len(ends) - 1)
    begins = np.array([0.0, *ends[:-1]])
    start, end = np.array(phases[: len(ends)]).T[:, which]
    # A phase of no length has no counts; which of its two ends is divided by zero does not matter.
    with np.errstate(divide="ignore", invalid="ignore"):
        done = (n - begins[which]) / (ends - begins)[which]
    return ANNEALINGS[schedule.anneal_strategy](start, end, done)


ANNEALINGS: dict[str, Callable[[Rows, Rows, Rows], Rows]] = {
    "cos": lambda start, end, done: end + (start - end) / 2 * (1 + np.cos(np.pi * done)),
    "linear": lambda start, end, done: start + (end - start) * done,
}
