"""The closed forms against torch's own schedulers, which compute most rates from the one before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from parity.contract import (
    SGD,
    CosineAnnealingLR,
    ExponentialLR,
    InputError,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)
from parity.oracle.schedule import learning_rates, momenta, rates
from tests.schedules import COUNTS, schedules

EPS = 2.0**-53
# torch multiplies the last rate by a factor of up to 8 roundings, COUNTS times, each relative to the rate that it has;
# with a power, it enlarges those of the factor. A cosine is 1 + cos, of which the first after T_max is all that is left
# of 2 at half its curvature, pi^2 / 2 T^2: the rounding of 1 is T^2 / 5 times as large beside it, and every later rate
# is a multiple of it, up to the highest.
BOUND = COUNTS * 8 * 5 * EPS + COUNTS**2 * EPS


def torch_schedule(schedule, optimizer):
    arguments = {name: getattr(schedule, name) for name in schedule.__dataclass_fields__}
    for name in ("kind", "every", "taken"):
        del arguments[name]
    if isinstance(schedule, SequentialLR):
        arguments["schedulers"] = [torch_schedule(part, optimizer) for part in arguments.pop("schedules")]
        arguments["milestones"] = list(schedule.milestones)
    return getattr(torch.optim.lr_scheduler, type(schedule).__name__)(optimizer, **arguments)


def torch_rates(sgd, counts):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=sgd.lr, momentum=sgd.momentum)
    scheduler = torch_schedule(sgd.schedule, optimizer)
    optimizer.step()
    (group,) = optimizer.param_groups
    found = [(group["lr"], group["momentum"])]
    for _ in range(counts - 1):
        scheduler.step()
        found.append((group["lr"], group["momentum"]))
    return np.array(found).T


def gap(ours, theirs):
    """The largest difference, relative to the largest rate."""
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def gaps(sgd, counts=COUNTS):
    lr, momentum = torch_rates(sgd, counts)
    n = np.arange(counts)
    return gap(learning_rates(sgd, n), lr), gap(momenta(sgd, n), momentum)


ONE = OneCycleLR(max_lr=0.1, total_steps=COUNTS)


@settings(max_examples=300)
@given(schedule=schedules(), lr=st.floats(1e-4, 1.0))
@example(schedule=ONE, lr=0.1)
@example(schedule=replace(ONE, pct_start=0.0), lr=0.1)
@example(schedule=replace(ONE, three_phase=True, pct_start=0.6, anneal_strategy="linear"), lr=0.1)
@example(schedule=CosineAnnealingLR(T_max=COUNTS - 2), lr=0.1)
@example(schedule=CosineAnnealingLR(T_max=1), lr=0.1)
@example(schedule=MultiStepLR(milestones=(5, 0, 5)), lr=0.1)
@example(schedule=StepLR(step_size=3, gamma=0.0), lr=0.1)
@example(schedule=ExponentialLR(gamma=0.0), lr=0.1)
@example(schedule=LinearLR(start_factor=1.0, end_factor=0.0, total_iters=150), lr=0.1)
@example(schedule=PolynomialLR(total_iters=150, power=0.0), lr=0.1)
@example(schedule=SequentialLR(schedules=(LinearLR(), CosineAnnealingLR(T_max=60)), milestones=(5,)), lr=0.1)
def test_is_torchs(schedule, lr):
    assert max(gaps(SGD(lr=lr, schedule=replace(schedule, every=1)))) < BOUND


@pytest.mark.parametrize(
    ("schedule", "other"),
    [
        (StepLR(step_size=20), StepLR(step_size=21)),
        (StepLR(step_size=20), StepLR(step_size=20, gamma=0.1 + 1e-10)),
        (MultiStepLR(milestones=(5, 5)), MultiStepLR(milestones=(5,))),
        (CosineAnnealingLR(T_max=100), CosineAnnealingLR(T_max=100, eta_min=1e-10)),
        (LinearLR(), LinearLR(total_iters=6)),
        (PolynomialLR(total_iters=100, power=2.0), PolynomialLR(total_iters=100, power=2.0 + 1e-10)),
        (ONE, replace(ONE, pct_start=0.3 + 1e-10)),
        (ONE, replace(ONE, final_div_factor=1e4 * (1 + 1e-4))),
    ],
)
def test_the_bound_catches_other_arguments(schedule, other):
    n = np.arange(COUNTS)
    lr, _ = torch_rates(SGD(lr=0.1, schedule=schedule), COUNTS)
    assert gap(learning_rates(SGD(lr=0.1, schedule=other), n), lr) > BOUND


def test_one_cycle_goes_one_count_beyond_its_phases_as_torch_does():
    for strategy in ("cos", "linear"):
        sgd = SGD(schedule=OneCycleLR(max_lr=0.1, total_steps=20, anneal_strategy=strategy))
        assert max(gaps(sgd, counts=21)) < BOUND


def test_rates_change_after_every_so_many_steps():
    sgd = SGD(lr=1.0, schedule=StepLR(step_size=2, gamma=0.5, every=3))
    assert [rates(sgd, step).lr for step in range(14)] == [1.0] * 6 + [0.5] * 6 + [0.25] * 2
    assert rates(sgd.resumed(5), 1).lr == 0.5
    assert rates(SGD(), 7) == (0.001, 0.9)


def test_a_step_beyond_the_end_is_refused():
    with pytest.raises(InputError, match="Tried to step 6 times"):
        rates(SGD(schedule=OneCycleLR(max_lr=0.1, total_steps=5)), 6)
