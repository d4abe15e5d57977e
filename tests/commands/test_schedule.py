"""Schedules as the command line writes them."""

import pytest

from parity.commands.schedule import parse_schedule, planned_steps, scheduled
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
from parity.data import Loader
from parity.settings import Settings

TEXTS = {
    "step:step_size=10,gamma=0.5": StepLR(step_size=10, gamma=0.5),
    "step:step_size=10": StepLR(step_size=10),
    "multistep:milestones=30,60,60,gamma=1e-1": MultiStepLR(milestones=(30, 60, 60)),
    "multistep:gamma=0.5,milestones=7": MultiStepLR(milestones=(7,), gamma=0.5),
    "exponential:gamma=9e+0": ExponentialLR(gamma=9.0),
    "linear": LinearLR(),
    "linear:start_factor=0.1,total_iters=20": LinearLR(start_factor=0.1, total_iters=20),
    "polynomial:total_iters=9,power=2": PolynomialLR(total_iters=9, power=2.0),
    "cosine:T_max=10,eta_min=1e-4": CosineAnnealingLR(T_max=10, eta_min=1e-4),
    "onecycle:max_lr=0.1,total_steps=50,pct_start=0,anneal_strategy=linear,three_phase=true": OneCycleLR(
        max_lr=0.1, total_steps=50, pct_start=0.0, anneal_strategy="linear", three_phase=True
    ),
    "linear:total_iters=5+linear:total_iters=2+exponential:gamma=1e+0": SequentialLR(
        schedules=(LinearLR(), LinearLR(total_iters=2), ExponentialLR(gamma=1.0)), milestones=(5, 7)
    ),
}


@pytest.mark.parametrize("text", TEXTS)
def test_reads(text):
    assert parse_schedule(text) == TEXTS[text]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no kind ''; give one of: step, multistep, exponential, linear, polynomial, cosine, onecycle"),
        ("sequence:schedules=1", "there is no kind 'sequence'"),
        ("step", "step_size is missing; add step_size=..."),
        ("step:", "step_size is missing"),
        ("step:10", "'10' is no NAME=VALUE; write step:step_size=10, for example"),
        ("step:size=10", "it has no argument 'size'; give some of: step_size, gamma"),
        ("step:step_size=10,every=3", "it has no argument 'every'"),
        ("step:step_size=ten", "step_size=ten is not one int"),
        ("step:step_size=10,20", "step_size=10,20 is not one int"),
        ("step:step_size=10,step_size=20", "step_size is given twice"),
        ("step:step_size=0", "step_size 0: it is no integer from 1 on; give an integer, 1 or more"),
        ("multistep:milestones=3,x", "milestones=3,x is not integers"),
        ("onecycle:max_lr=1,total_steps=9,three_phase=yes", "three_phase=yes is not one bool"),
        ("linear:start_factor=2", "Starting multiplicative factor expected to be greater than 0"),
        ("cosine:T_max=3+step:step_size=3", "it has no end, so that nothing can follow; begin with linear"),
        ("linear+onecycle:max_lr=1,total_steps=9", "it cannot be part of a sequence"),
    ],
)
def test_refuses_in_one_line(text, problem):
    with pytest.raises(InputError) as refused:
        parse_schedule(text)
    line = refused.value.line("--schedule")
    assert line.startswith("--schedule")
    assert problem in line
    assert len(line.splitlines()) == 1


LOADER = Loader(size=10, batch_size=4, seed=0)


def test_an_epoch_is_the_loaders():
    settings = Settings(sgd=SGD(schedule=StepLR(step_size=1)), batch_size=4, epochs=5)
    found = scheduled(settings, LOADER, per="epoch", steps=planned_steps(settings, LOADER))
    assert found.sgd.schedule == StepLR(step_size=1, every=3)
    assert scheduled(settings, LOADER, per="step", steps=15) == settings
    assert scheduled(Settings(), LOADER, per="step", steps=15) == Settings()


def test_a_schedule_must_last():
    settings = Settings(sgd=SGD(schedule=OneCycleLR(max_lr=0.1, total_steps=4)), batch_size=4, epochs=2)
    assert planned_steps(settings, LOADER) == 6
    with pytest.raises(InputError, match="schedule onecycle: Tried to step 5 times"):
        scheduled(settings, LOADER, per="step", steps=6)
    assert scheduled(settings, LOADER, per="epoch", steps=6).sgd.schedule.every == 3


@pytest.mark.parametrize(("per", "problem"), [("day", "per day: unknown"), ("epoch", "there is no schedule")])
def test_per_refuses(per, problem):
    with pytest.raises(InputError, match=problem):
        scheduled(Settings(), LOADER, per=per, steps=1)
