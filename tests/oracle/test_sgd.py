"""The oracle's update against torch.optim.SGD, for any valid arguments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import torch_impl.sgd
from parity.contract import SGD
from parity.oracle.sgd import sgd_update
from tests.test_sgd_agreement import sgds

STEPS = 20
# Each step rounds a handful of operations, at 1.1e-16 of numbers no larger than the largest that the path has seen;
# lr and momentum are such that what is rounded in one step is not amplified by the next.
BOUND = STEPS * 10 * 2.0**-53


def our_path(sgd, start, gradients):
    p, buffer, path = start, None, []
    for gradient in gradients:
        p, buffer = sgd_update(p, gradient, buffer, sgd)
        path.append((p, buffer))
    return path


def torch_path(sgd, start, gradients):
    p = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch_impl.sgd.make_optimizer([p], sgd)
    path = []
    for gradient in gradients:
        p.grad = torch.tensor(gradient)
        optimizer.step()
        buffer = torch_impl.sgd.momentum_buffers(optimizer, {"p": p}).get("p")
        path.append((p.detach().numpy().copy(), None if buffer is None else buffer.numpy().copy()))
    return path


def largest_gap(a, b):
    """Of parameters and buffers, relative to the largest number on the path."""
    assert [buffer is None for _, buffer in a] == [buffer is None for _, buffer in b]
    gaps = []
    for number in (0, 1):
        ours, theirs = (np.array([step[number] for step in path if step[number] is not None]) for path in (a, b))
        gaps.append(np.abs(ours - theirs).max(initial=0) / np.abs(theirs).max(initial=1e-300))
    return max(gaps)


def draws(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=7), rng.normal(size=(STEPS, 7))


@settings(max_examples=200)
@given(sgd=sgds(largest_lr=1.0), seed=st.integers(0, 2**32))
@example(sgd=SGD(lr=0.0), seed=0)
@example(sgd=SGD(lr=0.1, dampening=1.0), seed=0)
@example(sgd=SGD(lr=0.1, momentum=0.0, dampening=0.5), seed=0)
@example(sgd=SGD(lr=0.1, momentum=0.0, weight_decay=0.1, maximize=True), seed=0)
@example(sgd=SGD(lr=0.1, nesterov=True, weight_decay=0.1, maximize=True), seed=0)
def test_is_torchs(sgd, seed):
    start, gradients = draws(seed)
    assert largest_gap(our_path(sgd, start, gradients), torch_path(sgd, start, gradients)) < BOUND


EVERYTHING = SGD(lr=0.1, momentum=0.8, dampening=0.3, weight_decay=0.05, maximize=True)


@pytest.mark.parametrize(
    "other",
    [
        {"lr": 0.1 * (1 + 1e-12)},
        {"momentum": 0.8 + 1e-12},
        {"dampening": 0.3 + 1e-12},
        {"weight_decay": 0.05 + 1e-12},
        {"maximize": False},
        {"dampening": 0.0, "nesterov": True},
    ],
)
def test_the_bound_catches_another_value_of_each_argument(other):
    start, gradients = draws(0)
    ours = our_path(replace(EVERYTHING, **other), start, gradients)
    assert largest_gap(ours, torch_path(EVERYTHING, start, gradients)) > BOUND


def test_writes_to_nothing_that_it_is_given():
    arrays = np.ones(2), np.full(2, 3.0), np.full(2, 5.0)
    for array in arrays:
        array.flags.writeable = False  # NumPy raises where such an array is written to
    p, buffer = sgd_update(*arrays, SGD(lr=0.5, momentum=0.5, weight_decay=0.5))
    np.testing.assert_array_equal(buffer, 0.5 * 5 + (3 + 0.5))
    np.testing.assert_array_equal(p, 1 - 0.5 * buffer)
