"""torch, JAX and the oracle train alike with every schedule, clipping and parameter groups, in float64."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import lax

import jax_impl
import jax_impl.schedule
import jax_impl.sgd
import jax_impl.train
import torch_impl
import torch_impl.schedule
import torch_impl.sgd
from parity import oracle
from parity.compare import relative_difference
from parity.contract import (
    SGD,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
    initial_weights,
)
from parity.data import Loader
from parity.oracle.schedule import learning_rates
from parity.oracle.sgd import clip_gradients, sgd_update
from tests.schedules import COUNTS, schedules
from tests.test_sgd_agreement import sgds

STEPS = COUNTS
# A step's few roundings, at 1.1e-16 of a parameter tensor, add up to 1e-13 in 200 steps of a problem that does not
# amplify them. torch's cosine is off by up to T_max^2 / 5 roundings after T_max (tests/oracle/test_schedule.py): of the
# 200 steps so few are left then that the rates are off by 5e-13 of the highest, and all updates together move a tensor
# by no more than its own size.
BOUND = 1e-12


@st.composite
def scheduled(draw, *, largest_lr):
    """SGD with any of the new arguments and any of the old."""
    sgd = draw(sgds(largest_lr=largest_lr))
    limit = draw(st.floats(1e-3, 0.1))
    return replace(
        sgd,
        schedule=draw(st.none() | schedules()),
        decay_biases=draw(st.booleans()),
        **draw(st.sampled_from([{}, {"clip_norm": limit}, {"clip_value": limit / 10}])),
    )


RNG = np.random.default_rng(0)
INPUTS, TARGETS = RNG.normal(size=(12, 4)) / 4, RNG.normal(size=(12, 3))
START = {"weight": RNG.normal(size=(4, 3)), "bias": RNG.normal(size=3)}
SCALE = 1e-3
"""Least squares, |x W + b - y|^2 / 1000, with curvatures below 0.03: in 200 steps that climb it, at lr / (1 - momentum)
up to 0.3, rounding grows by a factor of e^2; OneCycleLR has higher rates, but torch rounds those once."""


def oracle_end(sgd):
    p, buffers = dict(START), {}
    for step in range(STEPS):
        residual = 2 * SCALE * (INPUTS @ p["weight"] + p["bias"] - TARGETS)
        gradients = clip_gradients({"weight": INPUTS.T @ residual, "bias": residual.sum(axis=0)}, sgd)
        for name, gradient in gradients.items():
            p[name], buffers[name] = sgd_update(p[name], gradient, buffers.get(name), sgd, step)
    return p


def torch_end(sgd):
    p = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in START.items()}
    optimizer = torch_impl.sgd.make_optimizer(p.values(), sgd)
    table = torch_impl.schedule.RateTable(sgd, sgd.schedule)(0, STEPS) if sgd.schedule else [None] * STEPS
    inputs, targets = torch.tensor(INPUTS), torch.tensor(TARGETS)
    for rates in table:
        if rates:
            torch_impl.schedule.set_rates(optimizer, rates)
        optimizer.zero_grad()
        residual = inputs @ p["weight"] + p["bias"] - targets
        torch.autograd.backward((residual**2).sum() * SCALE)
        torch_impl.sgd.clip_gradients(p.values(), sgd)
        optimizer.step()
    return {name: value.detach().numpy() for name, value in p.items()}


def loss(params):
    p = params["layer"]
    return ((INPUTS @ p["weight"] + p["bias"] - TARGETS) ** 2).sum() * SCALE


@partial(jax.jit, static_argnames="sgd")
def jax_scan(params, rates, *, sgd):
    def step(carry, current):
        gradients = jax_impl.sgd.clip_gradients(jax.grad(loss)(carry[0]), sgd)
        return jax_impl.train.update(carry, gradients, jax_impl.sgd.make_optimizer(sgd, current)), None

    carry = params, jax_impl.sgd.make_optimizer(sgd).init(params)
    return lax.scan(step, carry, rates, length=STEPS)[0][0]


def jax_end(sgd):
    with jax.enable_x64(True):
        rates = jax_impl.schedule.rates_of(sgd, 0, STEPS, "float64")
        params = {"layer": {name: jnp.array(value) for name, value in START.items()}}
        end = jax_scan(params, rates, sgd=jax_impl.sgd.unscheduled(sgd))["layer"]
        return {name: np.array(value) for name, value in end.items()}


def largest(a, b):
    return max(relative_difference(a[name], b[name]) for name in START)


ONE = OneCycleLR(max_lr=0.1, total_steps=STEPS)
PLAIN = SGD(lr=0.02, weight_decay=0.05, decay_biases=False)


# Each example compiles JAX's loop anew.
@settings(max_examples=40)
@given(sgd=scheduled(largest_lr=0.3))
@example(sgd=PLAIN)
@example(sgd=replace(PLAIN, schedule=StepLR(step_size=10, gamma=0.5), clip_norm=0.01))
@example(sgd=replace(PLAIN, schedule=MultiStepLR(milestones=(50, 20, 50)), clip_value=0.005))
@example(sgd=replace(PLAIN, schedule=ExponentialLR(gamma=0.97, every=2), nesterov=True))
@example(sgd=replace(PLAIN, schedule=LinearLR(total_iters=30), clip_norm=0.01))
@example(sgd=replace(PLAIN, schedule=PolynomialLR(total_iters=100, power=2.0), dampening=0.3))
@example(sgd=replace(PLAIN, schedule=CosineAnnealingLR(T_max=60), maximize=True))
@example(sgd=replace(PLAIN, schedule=CosineAnnealingLR(T_max=120)))
@example(sgd=replace(PLAIN, schedule=ONE, momentum=0.0, clip_norm=0.01))
@example(sgd=replace(PLAIN, schedule=replace(ONE, three_phase=True, anneal_strategy="linear"), nesterov=True))
@example(
    sgd=replace(PLAIN, schedule=SequentialLR(schedules=(LinearLR(), CosineAnnealingLR(T_max=60)), milestones=(5,)))
)
def test_on_a_convex_problem(sgd):
    ours, theirs, truth = jax_end(sgd), torch_end(sgd), oracle_end(sgd)
    assert largest(theirs, truth) < BOUND
    assert largest(ours, truth) < BOUND
    assert largest(ours, theirs) < BOUND


STEEP = replace(PLAIN, schedule=StepLR(step_size=10, gamma=0.5), clip_norm=0.01)


@pytest.mark.parametrize(
    "other",
    [
        replace(STEEP, schedule=StepLR(step_size=10, gamma=0.5, taken=1)),
        replace(STEEP, schedule=StepLR(step_size=10, gamma=0.5 + 1e-10)),
        replace(STEEP, clip_norm=0.01 * (1 + 1e-10)),
        replace(STEEP, decay_biases=True),
        replace(STEEP, clip_norm=None, clip_value=0.005),
    ],
)
def test_the_bound_catches_other_arguments(other):
    truth = oracle_end(STEEP)
    assert largest(truth, torch_end(STEEP)) < BOUND
    for end in (oracle_end, torch_end, jax_end):
        assert largest(end(other), truth) > BOUND


def test_clipping_without_torchs_epsilon_is_caught(monkeypatch):
    def without_epsilon(gradients, sgd):
        return optax.clip_by_global_norm(sgd.clip_norm).update(gradients, optax.EmptyState())[0]

    sgd = replace(STEEP, clip_norm=0.0101)  # another program than is compiled already
    monkeypatch.setattr(jax_impl.sgd, "clip_gradients", without_epsilon)
    assert largest(jax_end(sgd), torch_end(sgd)) > 1e-7


def rate_gap(found, schedule):
    truth = learning_rates(SGD(lr=1.0, schedule=schedule), np.arange(len(found)))
    return np.abs(np.asarray(found, np.float64) - truth).max()


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [
        (ExponentialLR(gamma=0.97), optax.exponential_decay(1.0, 1, 0.97)),
        (StepLR(step_size=10, gamma=0.3), optax.exponential_decay(1.0, 10, 0.3, staircase=True)),
        (LinearLR(total_iters=150), optax.linear_schedule(1 / 3, 1.0, 150)),
        (PolynomialLR(total_iters=150, power=2.0), optax.polynomial_schedule(1.0, 0.0, 2.0, 150)),
    ],
)
def test_optax_divides_an_integer_count_in_float32_and_ours_does_not(schedule, theirs):
    with jax.enable_x64(True):
        raw = jax.jit(jax.vmap(theirs))(jnp.arange(STEPS, dtype="int32"))
        ours = jax_impl.schedule.rates_of(SGD(lr=1.0, schedule=schedule), 0, STEPS, "float64").lr
        assert rate_gap(raw, schedule) > 1e-9
        assert rate_gap(ours, schedule) < STEPS * 2.0**-52  # of a rate that is 1 at most, however gamma^n is computed


def test_float32_rates_are_rounded_once():
    schedule = ExponentialLR(gamma=0.9999)
    counts = np.arange(40_000)
    truth = learning_rates(SGD(lr=1.0, schedule=schedule), counts)
    raw = jax.vmap(optax.exponential_decay(1.0, 1, 0.9999))(jnp.arange(len(counts), dtype="int32"))
    ours = jax_impl.schedule.rates_of(SGD(lr=1.0, schedule=schedule), 0, len(counts), "float32").lr
    assert ours.dtype == jnp.float32
    assert (np.abs(np.asarray(raw) - truth) / truth).max() > 1e-5
    assert (np.abs(np.asarray(ours, np.float64) - truth) / truth).max() < 2.0**-24 * (1 + 1e-6)


def cnn_end(side, sgd, dataset, steps, batch_size):
    """The CNN after a few calls of run and observe, and a detour that must not count."""
    state = side.start(initial_weights(0), sgd, dtype="float64", device="cpu")
    data = side.place(state, dataset.train_images, dataset.train_labels)
    loader = Loader(size=len(dataset.train_labels), batch_size=batch_size, seed=0)
    rows = np.concatenate([next(loader.plans(epoch)) for epoch in range(20)])[:steps]
    half = steps // 2
    state, first = side.run(state, data, rows[:half])
    side.run(state, data, rows[:half])
    state = side.restore(state, side.weights(state), side.momentum(state))
    state, trace = side.observe(state, data, rows[half])
    state, last = side.run(state, data, rows[half + 1 :])
    losses = [*first, trace.loss["loss"], *last]
    return np.array(losses), side.weights(state), side.momentum(state), trace


CASES = (
    SGD(lr=2e-3, schedule=ExponentialLR(gamma=0.98), clip_norm=1.0, weight_decay=0.05, decay_biases=False),
    SGD(momentum=0.0, schedule=OneCycleLR(max_lr=2e-3, total_steps=40, every=5), clip_value=0.02, dampening=0.1),
)


@pytest.mark.parametrize("sgd", CASES)
def test_on_the_cnn(sgd, small):
    sides = (oracle.impl, torch_impl.eager, jax_impl.impl)
    truth, *others = (cnn_end(side, sgd, small, STEPS, 2) for side in sides)
    assert len(truth[0]) == STEPS
    for found in others:
        assert np.abs(found[0] / truth[0] - 1).max() < BOUND
        for ours, theirs in ((found[1], truth[1]), (found[2], truth[2]), (found[3].gradients, truth[3].gradients)):
            assert ours.keys() == theirs.keys()
            assert max(relative_difference(ours[name], theirs[name]) for name in theirs) < BOUND


# A schedule for each step compiles nothing anew: JAX is given the rates, torch's update stays eager.
def test_one_program_serves_all_schedules(small):
    plan = np.arange(6, dtype=np.int32).reshape(3, 2)

    def run(schedule):
        sgd = SGD(lr=0.0123, schedule=schedule)
        state = jax_impl.impl.start(initial_weights(0), sgd, dtype="float32", device="cpu")
        data = jax_impl.impl.place(state, small.train_images, small.train_labels)
        return jax_impl.impl.run(state, data, plan)

    run(StepLR(step_size=1))
    program = jax_impl.train.train_steps.for_batch(2, "cpu")
    known = program._cache_size()
    assert known > 0
    for schedule in (ExponentialLR(gamma=0.5), CosineAnnealingLR(T_max=3), LinearLR()):
        run(schedule)
    assert program._cache_size() == known


def test_many_members_are_trained_as_one(small):
    side, plan = jax_impl.impl, np.arange(8, dtype=np.int32).reshape(4, 2)
    sgd = SGD(lr=0.01, schedule=OneCycleLR(max_lr=0.02, total_steps=9), clip_norm=0.5, weight_decay=0.1)
    states = [side.start(initial_weights(seed), sgd, dtype="float64", device="cpu") for seed in range(3)]
    data = side.place(states[0], small.train_images, small.train_labels)
    for _ in range(2):
        alone = [side.run(state, data, plan)[0] for state in states]
        states, _ = side.run_many(states, data, plan)
        for one, many in zip(alone, states, strict=True):
            a, b = side.weights(one), side.weights(many)
            assert one.steps == many.steps
            assert max(relative_difference(a[name], b[name]) for name in a) < BOUND
