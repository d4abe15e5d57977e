"""Each form is what the program it is named after computes: torch.optim.SGD, or an optax chain."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity.contract import SGD, StepLR
from parity.study.nesterov import look_ahead
from parity.study.problems import Quadratic
from parity.study.rules import averaged, debiased, decoupled, descend, keras, scaled, torch_form

PROBLEM, STEPS = Quadratic(condition=5.0), 30
BASE = SGD(lr=0.05, momentum=0.9)
STEPPED = replace(BASE, schedule=StepLR(step_size=10, gamma=0.5))
BOUND = STEPS * 4 * 8 * 2.0**-53  # four roundings a step of numbers below 8


def by_torch(**arguments):
    p = torch.nn.Parameter(torch.tensor(PROBLEM.start))
    optimizer = torch.optim.SGD([p], lr=BASE.lr, **arguments)
    path = [PROBLEM.start]
    for _ in range(STEPS):
        p.grad = torch.tensor(PROBLEM.gradient(path[-1]))
        optimizer.step()
        path.append(p.detach().numpy().copy())
    return np.array(path)


def by_optax(*parts):
    with jax.enable_x64(True):
        chain = optax.chain(*parts)
        p, path = jnp.array(PROBLEM.start), [PROBLEM.start]
        state = chain.init(p)
        for _ in range(STEPS):
            updates, state = chain.update(jnp.array(PROBLEM.gradient(path[-1])), state, p)
            p = optax.apply_updates(p, updates)
            path.append(np.array(p))
        return np.array(path)


def apart(a, b):
    return np.abs(a - b).max()


@pytest.mark.parametrize(
    "change", [{}, {"nesterov": True}, {"dampening": 0.3}, {"weight_decay": 0.1}, {"maximize": True, "momentum": 0.1}]
)
def test_torchs_form_is_torchs(change):
    arguments = {"momentum": BASE.momentum, **change}
    climb = np.abs(by_torch(**arguments)).max()
    assert apart(descend(PROBLEM, torch_form(replace(BASE, **change)), STEPS), by_torch(**arguments)) < BOUND * climb


def test_the_bound_would_catch_another_rule():
    assert apart(descend(PROBLEM, torch_form(BASE), STEPS), by_torch(momentum=0.9, nesterov=True)) > BOUND


def test_averaged_and_debiased_are_optax_ema():
    for rule, debias in ((averaged, False), (debiased, True)):
        theirs = by_optax(optax.ema(BASE.momentum, debias=debias), optax.scale(-BASE.lr))
        assert apart(descend(PROBLEM, rule(BASE), STEPS), theirs) < BOUND


def test_scaled_is_a_scale_before_the_trace():
    theirs = by_optax(optax.scale(0.7), optax.trace(BASE.momentum), optax.scale(-BASE.lr))
    assert apart(descend(PROBLEM, scaled(replace(BASE, dampening=0.3)), STEPS), theirs) < BOUND


def test_decoupled_is_a_decay_after_the_trace():
    theirs = by_optax(optax.trace(BASE.momentum), optax.add_decayed_weights(0.1), optax.scale(-BASE.lr))
    assert apart(descend(PROBLEM, decoupled(replace(BASE, weight_decay=0.1)), STEPS), theirs) < BOUND


@pytest.mark.parametrize("nesterov", [False, True])
def test_keras_form_is_torchs_while_the_rate_is_constant_and_no_longer(nesterov):
    for base, same in ((BASE, True), (STEPPED, False)):
        sgd = replace(base, nesterov=nesterov)
        gap = apart(descend(PROBLEM, keras(sgd), STEPS), descend(PROBLEM, torch_form(sgd), STEPS))
        assert (gap < BOUND) == same
        assert same or gap > 1e-2


def test_keras_form_is_a_trace_of_scaled_gradients():
    rate = optax.piecewise_constant_schedule(-BASE.lr, {10: 0.5, 20: 0.5})
    theirs = by_optax(optax.scale_by_schedule(rate), optax.trace(BASE.momentum))
    assert apart(descend(PROBLEM, keras(STEPPED), STEPS), theirs) < BOUND


def test_torchs_parameters_are_where_the_textbook_looks_ahead():
    nesterov = descend(PROBLEM, torch_form(replace(BASE, nesterov=True)), STEPS)
    points, ahead = look_ahead(PROBLEM, BASE, STEPS)
    assert apart(nesterov, ahead) < BOUND
    assert apart(nesterov, points) > 1e-2


def test_a_descent_is_clipped():
    sgd = SGD(lr=0.1, momentum=0.0, clip_norm=0.5)
    path = descend(PROBLEM, torch_form(sgd), 3, clipping=sgd)
    np.testing.assert_allclose(np.linalg.norm(np.diff(path, axis=0), axis=1), 0.05, rtol=1e-5)  # torch's epsilon
