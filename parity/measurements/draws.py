"""Problems and settings for trials, drawn by their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, Stream, Weights, initial_weights
from parity.data import Dataset, Loader
from parity.lane import Lane
from parity.problem import Problem, cnn_problem
from parity.settings import Settings, Side, resolve_device

__all__ = ["GROUPS", "choose", "draw_sgd", "learnt", "reshuffled", "sampled_problem"]

T = TypeVar("T")

_ROWS, _SHUFFLE = 5, 6  # keep these random streams apart from other streams of the same seed

TEST_ROWS = 64

GROUPS: tuple[tuple[SGD, int], ...] = (
    (SGD(), 4),
    (SGD(lr=0.01, momentum=0.0), 1),
    (SGD(lr=0.003, weight_decay=0.01), 2),
    (SGD(momentum=0.5, dampening=0.3), 3),
    (SGD(lr=0.02, nesterov=True), 5),
    (SGD(lr=0.0001, maximize=True), 7),
    (SGD(lr=0.01, momentum=0.99, dampening=0.9, weight_decay=0.001), 8),
    (SGD(lr=0.1, momentum=0.0, weight_decay=0.1), 11),
    (SGD(lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.01), 16),
    (SGD(lr=0.01, momentum=0.3, maximize=True, weight_decay=0.0005), 17),
    (SGD(lr=0.1, momentum=0.5), 32),
    (SGD(lr=0.05, dampening=0.5), 64),
)
"""Every argument of SGD at work, and batches from 1 to 64: a dozen, because JAX compiles each anew."""


def sampled_problem(dataset: Dataset, seed: int, rows: int) -> Problem:
    """The CNN with weights of this seed, on so many of the training images."""
    chosen = Stream(seed, _ROWS).permutation(len(dataset.train_labels))[:rows]
    some = Dataset(
        name=dataset.name,
        origin=dataset.origin,
        train_images=dataset.train_images[chosen],
        train_labels=dataset.train_labels[chosen],
        test_images=dataset.test_images[:TEST_ROWS],
        test_labels=dataset.test_labels[:TEST_ROWS],
    )
    return cnn_problem(some, initial_weights(seed))


def learnt(problem: Problem, side: Side, seed: int, device: str) -> Problem:
    """The same with weights that a side has trained on these rows, until half of an epoch's losses are small.

    Much smaller, and float32 would keep no digit of them, which a check calls undecided.
    """
    settings = Settings(sgd=SGD(lr=LEARNT_RATE), seed=seed, device=device, batch_size=min(4, problem.size))
    lane = Lane(side=side)
    state = lane.start(problem, settings, resolve_device((side,), device))
    loader = Loader(size=problem.size, batch_size=settings.batch_size, seed=seed)
    for epoch in range(LEARNT_STEPS // loader.steps_per_epoch):
        losses = []
        for plan in loader.plans(epoch):
            state, each = lane.run(state, plan)
            losses += each.tolist()
        if np.median(losses) < LEARNT_LOSS:
            break
    return replace(problem, weights=lane.weights(state))


LEARNT_RATE, LEARNT_STEPS, LEARNT_LOSS = 0.01, 500, 1e-2


def reshuffled(problem: Problem, seed: int) -> Problem:
    """A program's own data, and its own weights with each tensor's elements in another order."""
    return replace(problem, weights=_shuffled(problem.weights, seed))


def _shuffled(weights: Weights, seed: int) -> Weights:
    """Other initial values of the same distribution, whatever that is."""
    stream = Stream(seed, _SHUFFLE)

    def shuffled(value: NDArray[np.floating]) -> NDArray[np.floating]:
        return value.ravel()[stream.permutation(value.size)].reshape(value.shape)

    return {name: shuffled(value) for name, value in weights.items()}


def choose(stream: Stream, choices: Sequence[T]) -> T:
    """One of them."""
    return choices[int(stream.integers(len(choices), 1)[0])]


def draw_sgd(stream: Stream) -> SGD:
    """Hyper-parameters with momentum: learning rates from 1e-4 to 1e-1, other arguments in all combinations."""
    nesterov = choose(stream, (False, True))
    return SGD(
        lr=float(10 ** (3 * stream.uniform(1)[0] - 4)),
        momentum=choose(stream, (0.3, 0.9, 0.99)),
        dampening=0.0 if nesterov else choose(stream, (0.0, 0.2, 0.9)),
        weight_decay=choose(stream, (0.0, 1e-4, 1e-2)),
        nesterov=nesterov,
        maximize=choose(stream, (False, True)),
    )
