"""Both optimizers mean the same: torch.optim.SGD and its optax counterpart, in float64, for any valid arguments."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import jax_impl
import jax_impl.sgd
import torch_impl
import torch_impl.sgd
from parity.compare import largest_gap, loss_differences, relative_difference
from parity.contract import SGD, initial_weights
from parity.data import Loader

STEPS = 50
# Rounding enters at 1e-16 a step, and 50 steps of a stable problem amplify it by far less than 1e4.
BOUND = 1e-12


@st.composite
def sgds(draw, *, largest_lr: float):
    """Valid arguments; lr small enough for the problem to stay stable, or rounding would be amplified without end."""
    momentum = draw(st.just(0.0) | st.floats(0.01, 0.95))
    nesterov = draw(st.booleans()) and momentum > 0
    return SGD(
        lr=draw(st.floats(1e-4, 1.0)) * largest_lr * (1 - momentum),
        momentum=momentum,
        dampening=0.0 if nesterov else draw(st.just(0.0) | st.floats(0.0, 1.0)),
        weight_decay=draw(st.just(0.0) | st.floats(1e-6, 0.1)),
        nesterov=nesterov,
        maximize=draw(st.booleans()),
    )


RNG = np.random.default_rng(0)
MATRIX, TARGET, START = RNG.normal(size=(12, 5)), RNG.normal(size=12), RNG.normal(size=5)


def torch_path(sgd: SGD) -> list[np.ndarray]:
    """Parameters after each step on least squares, 0.5 |A p - y|^2 / n, and the buffers at the end."""
    p = torch.nn.Parameter(torch.tensor(START))
    optimizer = torch_impl.sgd.make_optimizer([p], sgd)
    path = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        residual = torch.tensor(MATRIX) @ p - torch.tensor(TARGET)
        torch.autograd.backward((residual**2).mean() / 2)
        optimizer.step()
        path.append(p.detach().numpy().copy())
    buffers = torch_impl.sgd.momentum_buffers(optimizer, {"p": p})
    return [*path, *(buffer.numpy() for buffer in buffers.values())]


def jax_path(sgd: SGD) -> list[np.ndarray]:
    with jax.enable_x64(True):
        optimizer = jax_impl.sgd.make_optimizer(sgd)
        p = jax.numpy.array(START)
        state = optimizer.init(p)

        @jax.jit
        def step(p, state):
            gradient = jax.grad(lambda p: ((MATRIX @ p - TARGET) ** 2).mean() / 2)(p)
            updates, state = optimizer.update(gradient, state, p)
            return optax.apply_updates(p, updates), state

        path = []
        for _ in range(STEPS):
            p, state = step(p, state)
            path.append(np.array(p))
        trace = jax_impl.sgd.momentum_trace(state)
        return path if trace is None else [*path, np.array(trace)]


@settings(max_examples=60)
@given(sgd=sgds(largest_lr=0.3))
@example(sgd=SGD(lr=0.05))
@example(sgd=SGD(lr=0.05, dampening=0.3, weight_decay=0.05))
@example(sgd=SGD(lr=0.05, dampening=1.0))
@example(sgd=SGD(lr=0.05, momentum=0.0, dampening=0.5))
@example(sgd=SGD(lr=0.05, maximize=True, weight_decay=0.05))
@example(sgd=SGD(lr=0.05, nesterov=True, weight_decay=0.05))
@example(sgd=SGD(lr=0.0))
def test_on_a_convex_problem(sgd):
    ours, theirs = jax_path(sgd), torch_path(sgd)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert relative_difference(a, b) < BOUND


@pytest.mark.parametrize(
    "wrong",
    [
        optax.sgd(0.05 * (1 + 1e-10), 0.9),
        optax.sgd(0.05, 0.9 + 1e-10),
        optax.sgd(0.05, 0.9, nesterov=True),
        optax.chain(optax.add_decayed_weights(1e-9), optax.sgd(0.05, 0.9)),
    ],
)
def test_the_bound_catches_small_faults(wrong, monkeypatch):
    monkeypatch.setattr(jax_impl.sgd, "make_optimizer", lambda *_: wrong)
    ours, theirs = jax_path(SGD(lr=0.05)), torch_path(SGD(lr=0.05))
    assert max(relative_difference(a, b) for a, b in zip(ours, theirs, strict=True)) > BOUND


def cnn_run(side, sgd, dataset, steps):
    state = side.start(initial_weights(0), sgd, dtype="float64", device="cpu")
    plan = next(Loader(size=len(dataset.train_labels), batch_size=2, seed=0).plans(0))[:steps]
    state, losses = side.run(state, side.place(state, dataset.train_images, dataset.train_labels), plan)
    return losses, side.weights(state), side.momentum(state)


# Each example compiles the training loop anew, about 1.5 s.
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sgd=sgds(largest_lr=0.02))
@example(sgd=SGD(lr=0.002, dampening=0.3, weight_decay=0.05))
@example(sgd=SGD(lr=0.002, nesterov=True, maximize=True, weight_decay=0.05))
def test_on_the_cnn(sgd, small):
    (a_losses, a_weights, a_momentum), (b_losses, b_weights, b_momentum) = (
        cnn_run(side, sgd, small, STEPS) for side in (torch_impl.eager, jax_impl.impl)
    )
    assert len(a_losses) == STEPS
    assert loss_differences(a_losses, b_losses).max() < BOUND
    for a, b in ((a_weights, b_weights), (a_momentum, b_momentum)):
        gap = largest_gap(a, b)
        assert gap is None or gap.difference < BOUND, gap
