"""Runs of torch's and optax's own optimizers are identified, and the constructors that are printed reproduce them."""

import numpy as np
import pytest
import torch

from parity.identify import identify
from tests.identify.runs import optax_step, recorded, torch_step

optim = torch.optim

TORCH = {
    "SGD": (lambda p: optim.SGD(p.values(), lr=0.02), {"schedule.lr": 0.02}),
    "SGD with momentum": (lambda p: optim.SGD(p.values(), lr=0.02, momentum=0.9), {"momentum": 0.9}),
    "SGD with nesterov momentum, coupled decay (L2)": (
        lambda p: optim.SGD(p.values(), lr=0.02, momentum=0.8, nesterov=True, weight_decay=0.03),
        {"momentum": 0.8, "weight_decay": 0.03},
    ),
    "SGD with momentum, dampening": (
        lambda p: optim.SGD(p.values(), lr=0.02, momentum=0.9, dampening=0.3),
        {"momentum": 0.9, "dampening": 0.3},
    ),
    "SGD with momentum, coupled decay (L2), ascent": (
        lambda p: optim.SGD(p.values(), lr=0.001, momentum=0.9, weight_decay=0.1, maximize=True),
        {"momentum": 0.9, "weight_decay": 0.1, "schedule.lr": 0.001},
    ),
    "Adam, epsilon outside the root": (
        lambda p: optim.Adam(p.values(), lr=0.01, betas=(0.9, 0.99)),
        {"b1": 0.9, "b2": 0.99, "eps": 1e-8, "schedule.lr": 0.01},
    ),
    "AdamW, epsilon outside the root": (
        lambda p: optim.AdamW(p.values(), lr=0.01, weight_decay=0.1),
        {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.1},
    ),
    "RMSprop with momentum, epsilon outside the root": (
        lambda p: optim.RMSprop(p.values(), lr=0.003, alpha=0.95, momentum=0.7, eps=1e-6),
        {"alpha": 0.95, "momentum": 0.7, "eps": 1e-6},
    ),
    "Adagrad, epsilon outside the root": (
        lambda p: optim.Adagrad(p.values(), lr=0.1, eps=1e-6),
        {"eps": 1e-6, "schedule.lr": 0.1},
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_torch(name):
    make, constants = TORCH[name]
    states, gradients = recorded(torch_step(make))
    found = identify(states, gradients)
    member = next(member for member in found.members if member.name == name)
    for constant, value in constants.items():
        assert member.constants[constant] == pytest.approx(value, rel=1e-6)
    assert_reproduces(member, states, gradients)


def assert_reproduces(member, states, gradients):
    """The printed line, executed, gives the recorded states to what rounding of the constants makes of them."""

    def make(params):
        names = {"torch": torch, "params": params}
        exec(member.torch, names)  # noqa: S102  our own text
        return names["optimizer"]

    made = torch_step(make)
    for t, step in enumerate(gradients):
        after = made(None, step)
        for tensor, value in after.items():
            np.testing.assert_allclose(value, states[t + 1][tensor], rtol=1e-8, atol=1e-9)


def optax_rules():
    import optax

    return {
        "SGD with momentum": (optax.sgd(0.02, 0.9), {"momentum": 0.9}),
        "SGD with momentum, debiased average": (
            optax.chain(optax.ema(0.8), optax.scale_by_learning_rate(0.05)),
            {"momentum": 0.8, "schedule.lr": 0.05},
        ),
        "Adam, epsilons inside and outside the root": (
            optax.adam(0.01, 0.9, 0.98, eps=1e-5, eps_root=1e-6),
            {"b1": 0.9, "b2": 0.98, "eps": 1e-5, "eps_root": 1e-6},
        ),
        "AdamW, epsilon outside the root": (optax.adamw(0.01, weight_decay=0.1), {"weight_decay": 0.1}),
        "RMSprop with momentum in Keras' form (lr inside the buffer), epsilon inside the root": (
            optax.rmsprop(0.003, 0.95, eps=1e-6, momentum=0.7),
            {"alpha": 0.95, "eps_root": 1e-6, "momentum": 0.7},
        ),
        "Adagrad, initial accumulator": (
            optax.adagrad(0.1),
            {"initial_accumulator": 0.1 + 1e-7, "schedule.lr": 0.1},
        ),
    }


@pytest.mark.parametrize("name", optax_rules())
def test_optax(name):
    import jax.numpy as jnp
    import optax

    rule, constants = optax_rules()[name]
    states, gradients = recorded(optax_step(rule))
    member = next(member for member in identify(states, gradients).members if member.name == name)
    for constant, value in constants.items():
        assert member.constants[constant] == pytest.approx(value, rel=1e-6)
    made = optax_step(eval(member.optax, {"optax": optax, "jnp": jnp}))  # noqa: S307  our own text
    for before, after, step in zip(states, states[1:], gradients, strict=False):
        for tensor, value in made(before, step).items():
            np.testing.assert_allclose(value, after[tensor], rtol=1e-8, atol=1e-9)


def test_lion_is_known_to_what_its_signs_leave():
    import optax

    found = identify(*recorded(optax_step(optax.lion(0.01, 0.9, 0.98, weight_decay=0.1)), steps=40))
    member = found.members[0]
    assert member.name == "Lion, decoupled decay (times lr)"
    assert member.constants["weight_decay"] == pytest.approx(0.1, rel=1e-6)
    for name, value in (("b1", 0.9), ("b2", 0.98)):
        assert abs(member.constants[name] - value) <= member.errors[name] < 0.1


def test_clipping_and_a_schedule_of_torch():
    def make(params):
        return optim.SGD(params.values(), lr=0.02, momentum=0.9)

    step = torch_step(
        make,
        schedule=lambda optimizer: optim.lr_scheduler.StepLR(optimizer, 7, 0.5),
        before=lambda params: torch.nn.utils.clip_grad_norm_(params.values(), 6.0),
    )
    (member,) = identify(*recorded(step)).members
    assert member.name == "SGD with momentum, clipping by global norm (epsilon 1e-6)"
    assert member.constants["max_norm"] == pytest.approx(6.0, rel=1e-9)
    assert member.schedule == "step"
    assert member.schedule_constants == pytest.approx({"lr": 0.02, "gamma": 0.5, "size": 7.0}, rel=1e-9)


def test_float32():
    make, constants = TORCH["SGD with nesterov momentum, coupled decay (L2)"]

    def in_float32(params):
        return make(params)

    found = identify(*recorded(torch_step(in_float32, "float32"), "float32"))
    assert found.dtype == "float32"
    for member in found.members:
        for constant, value in constants.items():
            assert member.constants[constant] == pytest.approx(value, rel=1e-3)
