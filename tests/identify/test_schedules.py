"""torch's own schedulers are named, with their constants; a sequence that follows none is not."""

import numpy as np
import pytest
import torch

from parity.identify.schedules import name_schedule

L = torch.optim.lr_scheduler

SCHEDULERS = {
    "constant": (lambda o: L.LambdaLR(o, lambda _: 1.0), {"lr": 0.1}),
    "step": (lambda o: L.StepLR(o, 12, 0.5), {"lr": 0.1, "gamma": 0.5, "size": 12}),
    "multi-step": (lambda o: L.MultiStepLR(o, [7, 31], 0.3), {"lr": 0.1, "gamma": 0.3}),
    "exponential": (lambda o: L.ExponentialLR(o, 0.97), {"lr": 0.1, "gamma": 0.97}),
    "linear": (lambda o: L.LinearLR(o, 1.0, 0.3, 20), {"start": 0.1, "end": 0.03, "steps": 20}),
    "warm-up": (lambda o: L.LinearLR(o, 0.2, 1.0, 17), {"start": 0.02, "end": 0.1, "steps": 17}),
    "cosine": (lambda o: L.CosineAnnealingLR(o, 70, 0.01), {"lr": 0.1, "end": 0.01, "period": 70}),
    "polynomial": (lambda o: L.PolynomialLR(o, 30, 2.0), {"lr": 0.1, "power": 2, "total": 30}),
    "one-cycle": (lambda o: L.OneCycleLR(o, 0.1, total_steps=60), {"lr": 0.1, "rise": 17, "total": 60}),
    "warm-up, then cosine": (
        lambda o: L.SequentialLR(o, [L.LinearLR(o, 0.1, 1, 8), L.CosineAnnealingLR(o, 42)], [8]),
        {"lr": 0.1, "period": 42, "warm-up steps": 8},
    ),
}


def rates_of(make, steps=50):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(rates)


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")  # SequentialLR's own
@pytest.mark.parametrize("name", SCHEDULERS)
def test_torch_schedulers(name):
    make, constants = SCHEDULERS[name]
    rates = rates_of(make)
    found = name_schedule(rates, np.full(len(rates), 1e-17), eps=2**-52)
    assert found.name == name
    for constant, value in constants.items():
        assert found.constants[constant] == pytest.approx(value, rel=1e-6)


def test_rates_that_follow_no_schedule_have_no_name():
    rates = np.random.default_rng(0).uniform(0.05, 0.1, 50)
    found = name_schedule(rates, np.full(50, 1e-17), eps=2**-52)
    assert found.name == "free"
    assert found.complexity == 50


@pytest.mark.parametrize("unknown", [(17,), (17, 18, 19), (15, 16, 17, 18, 30)])
def test_a_ramp_that_ends_where_no_rate_is_known(unknown):
    rates, errors = rates_of(SCHEDULERS["warm-up"][0]), np.full(50, 1e-17)
    rates[list(unknown)], errors[list(unknown)] = 0.0, np.inf
    found = name_schedule(rates, errors, eps=2**-52)
    assert (found.name, found.constants["steps"]) == ("warm-up", 17)


def test_a_schedule_that_was_computed_in_float32():
    rates = (0.1 * 0.97 ** np.arange(50)).astype(np.float32).astype(np.float64)
    found = name_schedule(rates, np.full(50, 1e-17), eps=2**-52)
    assert (found.name, found.float32) == ("exponential", True)


def test_a_warm_up_is_named_where_some_rates_are_unknown():
    """As they are to a bound that some steps do not reach; what is not known is not read."""
    rates, errors = rates_of(SCHEDULERS["warm-up, then cosine"][0]), np.full(50, 1e-17)
    unknown = [0, 4, 6, 16, 18, 35, 39, 41, 45, 46, 49]
    errors[unknown] = np.inf
    found = name_schedule(np.where(np.isfinite(errors), rates, 1e3), errors, eps=2**-52)
    assert (found.name, found.constants["warm-up steps"]) == ("warm-up, then cosine", 8)
    assert np.allclose(found.rates, rates, rtol=1e-10, atol=0)
