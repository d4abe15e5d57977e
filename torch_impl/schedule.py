"""Learning-rate schedules: torch.optim.lr_scheduler itself, and what it makes of an optimizer as a table by count.

torch's schedulers step forward only, and compute most rates from the one before. A state of this package may go back,
so a scheduler is stepped once, on an optimizer of its own, and what it sets there is kept.

Source: https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

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
from torch_impl.sgd import make_optimizer

__all__ = ["RateTable", "Rates", "make_scheduler", "set_rates"]


class Rates(NamedTuple):
    """What a scheduler sets in an optimizer."""

    lr: float
    momentum: float


def make_scheduler(schedule: Schedule, optimizer: torch.optim.Optimizer) -> LRScheduler:  # noqa: PLR0911  one a kind
    """The scheduler of that kind, at count 0."""
    match schedule:
        case StepLR(step_size=size, gamma=gamma):
            return lr_scheduler.StepLR(optimizer, size, gamma)
        case MultiStepLR(milestones=milestones, gamma=gamma):
            return lr_scheduler.MultiStepLR(optimizer, milestones, gamma)
        case ExponentialLR(gamma=gamma):
            return lr_scheduler.ExponentialLR(optimizer, gamma)
        case LinearLR(start_factor=start, end_factor=end, total_iters=total):
            return lr_scheduler.LinearLR(optimizer, start, end, total)
        case PolynomialLR(total_iters=total, power=power):
            return lr_scheduler.PolynomialLR(optimizer, total, power)
        case CosineAnnealingLR(T_max=half_period, eta_min=eta_min):
            return lr_scheduler.CosineAnnealingLR(optimizer, half_period, eta_min)
        case OneCycleLR():
            return _one_cycle(schedule, optimizer)
        case SequentialLR(schedules=schedules, milestones=milestones):
            parts = [make_scheduler(part, optimizer) for part in schedules]
            return lr_scheduler.SequentialLR(optimizer, parts, list(milestones))
    raise NotImplementedError(schedule.kind)


def _one_cycle(schedule: OneCycleLR, optimizer: torch.optim.Optimizer) -> LRScheduler:
    return lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=schedule.max_lr,
        total_steps=schedule.total_steps,
        pct_start=schedule.pct_start,
        anneal_strategy="cos" if schedule.anneal_strategy == "cos" else "linear",
        cycle_momentum=schedule.cycle_momentum,
        base_momentum=schedule.base_momentum,
        max_momentum=schedule.max_momentum,
        div_factor=schedule.div_factor,
        final_div_factor=schedule.final_div_factor,
        three_phase=schedule.three_phase,
    )


class RateTable:
    """The rates of each training step, which a scheduler sets; it is stepped as far as steps are asked for."""

    def __init__(self, sgd: SGD, schedule: Schedule) -> None:
        self._schedule = schedule
        self._optimizer = make_optimizer([nn.Parameter(torch.zeros(1, 1))], sgd)
        self._scheduler = make_scheduler(schedule, self._optimizer)
        self._optimizer.step()  # without a gradient: torch warns where a scheduler is stepped before its optimizer
        self._rates = [self._current()]

    def __call__(self, first: int, steps: int) -> list[Rates]:
        """The rates of so many training steps, from this one on.

        Raises:
            InputError: a step is beyond the schedule's end.
        """
        counts = [self._schedule.count(step) for step in range(first, first + steps)]
        while len(self._rates) <= max(counts, default=0):
            self._scheduler.step()
            self._rates.append(self._current())
        return [self._rates[count] for count in counts]

    def _current(self) -> Rates:
        group = self._optimizer.param_groups[0]
        return Rates(lr=group["lr"], momentum=group["momentum"])


def set_rates(optimizer: torch.optim.Optimizer, rates: Rates) -> None:
    """Make the optimizer's next step with these rates, in all its groups."""
    for group in optimizer.param_groups:
        group.update(rates._asdict())
