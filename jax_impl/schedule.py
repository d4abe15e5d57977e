"""Learning-rate schedules that mean what torch.optim.lr_scheduler means, as arrays that a scan reads beside its plan.

optax evaluates a schedule inside the compiled step, from an int32 count. JAX divides that in float32, even where 64-bit
types are on, so that `exponential_decay` and `linear_schedule` are off by up to 2e-6; and a float32 program would raise
gamma to a power in float32. Here schedules are evaluated before the step, on the CPU in float64 and from float64
counts, and rounded once, to the program's dtype.

| torch             | optax                          | where it differs                                       |
| ----------------- | ------------------------------ | ------------------------------------------------------ |
| StepLR            | exponential_decay, a staircase | constant if gamma is 0                                 |
| MultiStepLR       | piecewise_constant_schedule    | a milestone twice is one with gamma squared            |
| ExponentialLR     | exponential_decay              | constant if gamma is 0                                 |
| LinearLR          | linear_schedule                |                                                        |
| PolynomialLR      | polynomial_schedule            |                                                        |
| CosineAnnealingLR | cosine_decay_schedule          | stays down after T_max; torch's goes up again          |
| OneCycleLR        | cosine_onecycle_schedule       | peaks a step later, at a whole count: own code instead |
| SequentialLR      | join_schedules                 |                                                        |

Source: https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import NDArray

from jax_impl.device import exact, to_device
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

__all__ = ["Rates", "make_schedule", "one_cycle", "rates_of"]

BLOCK = 1024
"""Counts that are evaluated at once: JAX compiles an operation for each shape, so there is one shape."""


class Rates(NamedTuple):
    """What changes from step to step: arrays of one value a step, or a step's own. momentum is None where it stays."""

    lr: Array
    momentum: Array | None


def rates_of(sgd: SGD, first: int, steps: int, dtype: str) -> Rates | None:
    """The rates of so many training steps, from this one on, on the default device; None where nothing changes.

    Raises:
        InputError: a step is beyond the schedule's end.
    """
    schedule = sgd.schedule
    if schedule is None:
        return None
    counts = np.array([schedule.count(step) for step in range(first, first + steps)], np.int64)
    lr = _at(counts, schedule, sgd.lr, momentum=False)
    momentum = _at(counts, schedule, sgd.lr, momentum=True) if schedule.cycles_momentum else None
    return Rates(to_device(lr, dtype), None if momentum is None else to_device(momentum, dtype))


def _at(counts: NDArray[np.int64], schedule: Schedule, lr: float, *, momentum: bool) -> NDArray[np.float64]:
    numbers, inverse = np.unique(counts // BLOCK, return_inverse=True)
    blocks = np.array([_block(int(number), schedule, lr, momentum) for number in numbers]).reshape(-1, BLOCK)
    values: NDArray[np.float64] = blocks[inverse, counts % BLOCK]
    return values


@lru_cache(maxsize=1024)
def _block(number: int, schedule: Schedule, lr: float, momentum: bool) -> NDArray[np.float64]:
    """The values at BLOCK counts; those beyond the schedule's end are never asked for."""
    evaluate = _momentum(schedule) if momentum else make_schedule(schedule, lr)
    with exact("float64", jax.devices("cpu")[0]):
        counts = jnp.arange(number * BLOCK, (number + 1) * BLOCK, dtype="float64")
        return np.broadcast_to(np.array(evaluate(counts)), BLOCK)


def make_schedule(schedule: Schedule, lr: float) -> optax.Schedule:  # noqa: PLR0911  one for each kind
    """The learning rate as a function of the count, which must be float64."""
    match schedule:
        case StepLR(step_size=size, gamma=gamma):
            return _decay(lr, gamma, size, staircase=True)
        case ExponentialLR(gamma=gamma):
            return _decay(lr, gamma, 1, staircase=False)
        case MultiStepLR(milestones=milestones, gamma=gamma):
            scales = {milestone: gamma**times for milestone, times in Counter(milestones).items()}
            return optax.piecewise_constant_schedule(lr, scales)
        case LinearLR(start_factor=start, end_factor=end, total_iters=total):
            return optax.linear_schedule(lr * start, lr * end, total)
        case PolynomialLR(total_iters=total, power=power):
            return optax.polynomial_schedule(lr, 0.0, power, total)
        case CosineAnnealingLR(T_max=half_period, eta_min=eta_min):
            return _cosine(lr, half_period, eta_min)
        case OneCycleLR():
            high, low = schedule.max_lr, schedule.max_lr / schedule.div_factor
            least = low / schedule.final_div_factor
            between = [(high, low), (low, least)] if schedule.three_phase else [(high, least)]
            return one_cycle(schedule, [(low, high), *between])
        case SequentialLR(schedules=schedules, milestones=milestones):
            return optax.join_schedules([make_schedule(part, lr) for part in schedules], list(milestones))
    raise NotImplementedError(schedule.kind)


def _momentum(schedule: Schedule) -> optax.Schedule:
    assert isinstance(schedule, OneCycleLR)  # noqa: S101  no other cycles the momentum; for the type checker
    least, most = schedule.base_momentum, schedule.max_momentum
    return one_cycle(schedule, [(most, least), (least, most), (most, most)][: len(schedule.ends)])


def _decay(lr: float, gamma: float, steps: int, *, staircase: bool) -> optax.Schedule:
    if gamma == 0:
        return optax.piecewise_constant_schedule(lr, {steps: 0.0})
    return optax.exponential_decay(lr, steps, gamma, staircase=staircase)


def _cosine(lr: float, half_period: int, eta_min: float) -> optax.Schedule:
    """optax's, read forwards and backwards in turn."""
    decay = optax.cosine_decay_schedule(lr - eta_min, half_period)

    def schedule(count: Array) -> Array:
        folded = half_period - jnp.abs(count % (2.0 * half_period) - half_period)
        return eta_min + jnp.asarray(decay(folded))

    return schedule


def one_cycle(schedule: OneCycleLR, phases: list[tuple[float, float]]) -> optax.Schedule:
    """Values that go from start to end in each phase; a count belongs to the first phase that ends there or later."""
    between = INTERPOLATIONS[schedule.anneal_strategy]
    begins = (0.0, *schedule.ends)

    def value(count: Array) -> Array:
        found = None
        for begin, finish, (start, end) in reversed(list(zip(begins, schedule.ends, phases, strict=False))):
            # A phase of no length has no counts.
            current = between(start, end, (count - begin) / (finish - begin or 1.0))
            found = current if found is None else jnp.where(count <= finish, current, found)
        return jnp.asarray(found)

    return value


INTERPOLATIONS: dict[str, Callable[[float, float, Array], Array]] = {
    "cos": lambda start, end, done: end + (start - end) / 2.0 * (jnp.cos(jnp.pi * done) + 1.0),
    "linear": lambda start, end, done: (end - start) * done + start,
}
