"""Learning-rate schedules with torch's meaning and torch's errors, in closed form.

A schedule is read at a count n: how many times torch's scheduler has been stepped. With eta the learning rate of `SGD`:

    StepLR              eta gamma^floor(n / step_size)
    MultiStepLR         eta gamma^(how many milestones are <= n; one that is listed twice counts twice)
    ExponentialLR       eta gamma^n
    LinearLR            eta (start_factor + (end_factor - start_factor) min(n, total_iters) / total_iters)
    PolynomialLR        eta (1 - min(n, total_iters) / total_iters)^power
    CosineAnnealingLR   eta_min + (eta - eta_min) (1 + cos(pi n / T_max)) / 2, which rises again after T_max
    OneCycleLR          from max_lr / div_factor to max_lr and far below, whatever eta is; see there
    SequentialLR        one after the other, each counted from its own beginning

torch itself computes most of these from the value before, so that its rounding grows with n. The n-th value is meant
here, and float64's rounding is the only difference allowed.

Source: https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from itertools import pairwise
from typing import Any

from parity.contract.errors import InputError
from parity.contract.nearest import nearest_name

__all__ = [
    "SCHEDULES",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "schedule_from",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """What all schedules have. Not a schedule by itself: a constant learning rate is `SGD(schedule=None)`.

    Args:
        every: training steps in one count, >= 1: 1 to change the rate after each step, the steps of an epoch to change
            it after each epoch.
        taken: training steps that were taken before the program's first, >= 0: of a program that goes on from the
            middle of another's run.

    Raises:
        InputError: a value is out of range; so for all schedules, with torch's sentence where torch raises ValueError.
    """

    kind: str = field(default="", init=False, repr=False)
    every: int = 1
    taken: int = 0

    def __post_init__(self) -> None:
        _require_integer("every", self.every, 1)
        _require_integer("taken", self.taken, 0)

    def __str__(self) -> str:
        """As a constructor call, and how often it changes.

        >>> print(StepLR(step_size=10, every=26))
        StepLR(step_size=10, gamma=0.1) per 26 steps
        """
        given = (argument.name for argument in fields(self) if argument.name not in ("kind", "every", "taken"))
        arguments = ", ".join(f"{name}={_text(getattr(self, name))}" for name in given)
        pace = f" per {self.every} steps" if self.every > 1 else ""
        after = f" after {self.taken} steps" if self.taken else ""
        return f"{type(self).__name__}({arguments}){pace}{after}"

    @property
    def limit(self) -> int | None:
        """The last count that it is defined for; None for no end."""
        return None

    @property
    def cycles_momentum(self) -> bool:
        """Whether it sets the momentum too."""
        return False

    def count(self, step: int) -> int:
        """The count that the update of this training step (from 0) is made with.

        Raises:
            InputError: it is beyond the schedule's end, with torch's sentence.

        >>> StepLR(step_size=10, every=3).count(7)
        2
        """
        count = (self.taken + step) // self.every
        if self.limit is not None and count > self.limit:
            problem = f"Tried to step {count} times. The specified number of total steps is {self.limit}"
            raise InputError("schedule", self.kind, problem, "give it more total_steps, or train for fewer")
        return count


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLR(Schedule):
    """Times gamma after every `step_size` (>= 1) counts; gamma >= 0."""

    kind: str = field(default="step", init=False, repr=False)
    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        _require_integer("step_size", self.step_size, 1)
        _require_number("gamma", self.gamma)


@dataclass(frozen=True, kw_only=True, slots=True)
class MultiStepLR(Schedule):
    """Times gamma (>= 0) at each milestone: counts >= 0 in any order, one that is listed twice counts twice."""

    kind: str = field(default="multistep", init=False, repr=False)
    milestones: tuple[int, ...]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        # A list would make the schedule unhashable.
        object.__setattr__(self, "milestones", tuple(self.milestones))
        for milestone in self.milestones:
            _require_integer("milestones", milestone, 0)
        _require_number("gamma", self.gamma)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExponentialLR(Schedule):
    """Times gamma (>= 0) at each count."""

    kind: str = field(default="exponential", init=False, repr=False)
    gamma: float

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        _require_number("gamma", self.gamma)


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearLR(Schedule):
    """From start_factor (0 to 1, not 0) to end_factor (0 to 1) within `total_iters` (>= 1) counts: a warm-up."""

    kind: str = field(default="linear", init=False, repr=False)
    start_factor: float = 1 / 3
    end_factor: float = 1.0
    total_iters: int = 5

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        if not 0 < self.start_factor <= 1:
            problem = "Starting multiplicative factor expected to be greater than 0 and less or equal to 1."
            raise InputError("start_factor", self.start_factor, problem, "give such a number")
        if not 0 <= self.end_factor <= 1:
            problem = "Ending multiplicative factor expected to be between 0 and 1."
            raise InputError("end_factor", self.end_factor, problem, "give such a number")
        _require_integer("total_iters", self.total_iters, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class PolynomialLR(Schedule):
    """Down to 0 within `total_iters` (>= 1) counts, as a polynomial of that power (>= 0)."""

    kind: str = field(default="polynomial", init=False, repr=False)
    total_iters: int = 5
    power: float = 1.0

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        _require_integer("total_iters", self.total_iters, 1)
        _require_number("power", self.power)


@dataclass(frozen=True, kw_only=True, slots=True)
class CosineAnnealingLR(Schedule):
    """Down to eta_min (>= 0) at T_max (>= 1), along half a cosine; and up again, for ever: there is no end at T_max."""

    kind: str = field(default="cosine", init=False, repr=False)
    T_max: int  # torch's name
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        _require_integer("T_max", self.T_max, 1)
        _require_number("eta_min", self.eta_min)


@dataclass(frozen=True, kw_only=True, slots=True)
class OneCycleLR(Schedule):
    """Up to max_lr and down again, while the momentum goes the other way.

    With T = total_steps, low = max_lr / div_factor and f = (n - begin) / (end - begin), the values go from start to end
    as end + (start - end) (1 + cos(pi f)) / 2 ("cos"), or as start + (end - start) f ("linear"):

        phase   begin                   end                     lr                                momentum
        1       0                       pct_start T - 1         low to max_lr                     max to base
        2       pct_start T - 1         T - 1                   max_lr to low / final_div_factor  base to max

    or, with three_phase:

        2       pct_start T - 1         2 pct_start T - 2       max_lr to low                     base to max
        3       2 pct_start T - 2       T - 1                   low to low / final_div_factor     max

    A count belongs to the first phase that ends there or later, T itself to the last. `SGD`'s own lr is not used, nor
    is its momentum if cycle_momentum; then there is a momentum even where SGD(momentum=0) asks for none, as in torch.

    Args:
        max_lr: the highest learning rate, >= 0.
        total_steps: T, >= 1; a count beyond it is refused.
        pct_start: the share of phase 1, from 0 to 1; not 1 / T, which leaves a phase without length.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: whether to set the momentum too.
        base_momentum: its lowest value, > 0: torch leaves a buffer as it is in a step whose momentum is 0.
        max_momentum: its highest value, > 0.
        div_factor: > 0.
        final_div_factor: > 0.
        three_phase: whether there are three phases.
    """

    kind: str = field(default="onecycle", init=False, repr=False)
    max_lr: float
    total_steps: int
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    cycle_momentum: bool = True
    base_momentum: float = 0.85
    max_momentum: float = 0.95
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        if not _is_integer(self.total_steps) or self.total_steps <= 0:
            problem = f"Expected positive integer total_steps, but got {self.total_steps}"
            raise InputError("total_steps", self.total_steps, problem, "give such a number")
        if not isinstance(self.pct_start, float) or not 0 <= self.pct_start <= 1:
            problem = f"Expected float between 0 and 1 pct_start, but got {self.pct_start}"
            raise InputError("pct_start", self.pct_start, problem, "give such a number")
        if self.anneal_strategy not in ("cos", "linear"):
            problem = f"anneal_strategy must be one of 'cos' or 'linear', instead got {self.anneal_strategy}"
            raise InputError("anneal_strategy", self.anneal_strategy, problem, "give one of them")
        _require_number("max_lr", self.max_lr)
        for name in ("base_momentum", "max_momentum", "div_factor", "final_div_factor"):
            _require_positive(name, getattr(self, name))
        self._require_lengths()

    @property
    def limit(self) -> int:
        """The last count: T, one more than the phases have."""
        return self.total_steps

    @property
    def cycles_momentum(self) -> bool:
        """Whether it sets the momentum too."""
        return self.cycle_momentum

    @property
    def ends(self) -> tuple[float, ...]:
        """The counts at which the phases end."""
        first = self.pct_start * self.total_steps - 1
        middle = (2 * self.pct_start * self.total_steps - 2,) if self.three_phase else ()
        return (first, *middle, float(self.total_steps - 1))

    def _require_lengths(self) -> None:
        """Refuse a phase of length 0 that some count falls into, where torch divides by zero: the first or the last."""
        *_, before, last = self.ends
        if self.ends[0] == 0 or before == last:
            problem = "a phase has no length, so that torch divides by zero"
            raise InputError("pct_start", self.pct_start, problem, "give another share")


@dataclass(frozen=True, kw_only=True, slots=True)
class SequentialLR(Schedule):
    """One schedule after the other: a warm-up and what follows it, for example.

    Args:
        schedules: at least one; each with every = 1 and taken = 0, which this one has for all of them. No OneCycleLR,
            which has a warm-up of its own, and no SequentialLR.
        milestones: the counts (>= 1, rising) at which the second, the third, ... schedule begins, with its count 0.
    """

    kind: str = field(default="sequence", init=False, repr=False)
    schedules: tuple[Schedule, ...]
    milestones: tuple[int, ...]

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        object.__setattr__(self, "schedules", tuple(self.schedules))
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if not self.schedules:
            problem = "SequentialLR expects at least one scheduler, but got no scheduler."
            raise InputError("schedules", "()", problem, "give one")
        if len(self.milestones) != len(self.schedules) - 1:
            problem = (
                "Sequential Schedulers expects number of schedulers provided to be one more than the number of "
                f"milestone points, but got number of schedulers {len(self.schedules)} and the number of milestones to "
                f"be equal to {len(self.milestones)}"
            )
            raise InputError("milestones", self.milestones, problem, "give as many as there are changes")
        for schedule in self.schedules:
            self._require_simple(schedule)
        for milestone in self.milestones:
            _require_integer("milestones", milestone, 1)
        if any(first >= second for first, second in pairwise(self.milestones)):
            raise InputError("milestones", self.milestones, "they do not rise", "give them in order, each once")

    @staticmethod
    def _require_simple(schedule: Schedule) -> None:
        if isinstance(schedule, OneCycleLR | SequentialLR):
            raise InputError("schedules", schedule.kind, "it cannot be part of a sequence", "leave it out")
        if (schedule.every, schedule.taken) != (1, 0):
            problem = "every and taken belong to the sequence, not to its parts"
            raise InputError("schedules", schedule.kind, problem, "give them to the SequentialLR")


SCHEDULES: dict[str, type[Schedule]] = {
    "step": StepLR,
    "multistep": MultiStepLR,
    "exponential": ExponentialLR,
    "linear": LinearLR,
    "polynomial": PolynomialLR,
    "cosine": CosineAnnealingLR,
    "onecycle": OneCycleLR,
    "sequence": SequentialLR,
}
"""By `kind`."""


def schedule_from(content: Mapping[str, Any]) -> Schedule:
    """The schedule that `dataclasses.asdict` made this of, also after JSON.

    Raises:
        InputError: there is no such kind, or it has other arguments, or a value is out of range.
    """
    arguments = dict(content)
    kind = arguments.pop("kind", None)
    if kind not in SCHEDULES:
        fix = nearest_name(str(kind), SCHEDULES, f"give one of: {', '.join(SCHEDULES)}")
        raise InputError("schedule", kind, "there is no such kind", fix)
    if "schedules" in arguments:
        arguments["schedules"] = tuple(map(schedule_from, arguments["schedules"]))
    _require_arguments(kind, arguments)
    return SCHEDULES[kind](**arguments)


def _require_arguments(kind: str, arguments: Mapping[str, Any]) -> None:
    known = {argument.name: argument.default is MISSING for argument in fields(SCHEDULES[kind]) if argument.init}
    if unknown := [name for name in arguments if name not in known]:
        problem = f"it has no argument {unknown[0]}"
        raise InputError("schedule", kind, problem, f"give some of: {', '.join(known)}")
    if missing := [name for name, required in known.items() if required and name not in arguments]:
        raise InputError("schedule", kind, f"{missing[0]} is missing", f"give {', '.join(missing)}")


def _text(value: object) -> str:
    return f"({', '.join(map(str, value))})" if isinstance(value, tuple) else str(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require_integer(argument: str, value: int, least: int) -> None:
    if not _is_integer(value) or value < least:
        raise InputError(argument, value, f"it is no integer from {least} on", f"give an integer, {least} or more")


def _require_number(argument: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise InputError(argument, value, "it is negative or not finite", "give a finite number, 0 or more")


def _require_positive(argument: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(argument, value, "it is not above 0, or not finite", "give a finite number above 0")
