"""The run that contestants are held against: right, and without a choice that rounding could change."""

import numpy as np
import pytest

from parity.bench.truth import DISTINCT, MARGIN, _is_clear, true_run
from parity.compare import largest_gap, loss_differences
from parity.compare.flips import POOLED, RECTIFIED
from parity.contract import SGD, InputError, initial_weights
from parity.oracle import Oracle
from parity.oracle.model import Operations, forward

WEIGHTS = initial_weights(3)


def truth_of(data, batch_size, sgd=SGD(), **more):  # noqa: B008  SGD is frozen
    arguments = {"batch_size": batch_size, "seed": 1, **more}
    return true_run(WEIGHTS, sgd, data.train_images, data.train_labels, **arguments)


@pytest.mark.parametrize("batch_size", [1, 5, DISTINCT, 3 * DISTINCT])
@pytest.mark.parametrize("sgd", [SGD(), SGD(lr=0.01, momentum=0.5, nesterov=True, weight_decay=0.1)])
def test_it_is_the_oracles_run(batch_size, sgd, small):
    truth = truth_of(small, batch_size, sgd, steps=4)
    oracle = Oracle()
    state = oracle.start(WEIGHTS, sgd, dtype="float64", device="cpu")
    data = oracle.place(state, small.train_images, small.train_labels)
    after, losses = oracle.run(state, data, truth.plan)
    # The same sums in another order: a few units in the last place of each, over four steps.
    assert loss_differences(losses, truth.losses).max() < 1e-14
    assert largest_gap(oracle.weights(after), truth.weights).difference < 1e-14


def test_a_large_batch_holds_few_images_unequally_often(small):
    plan = truth_of(small, 100, steps=3).plan
    assert plan.shape == (3, 100)
    for rows in plan:
        _, counts = np.unique(rows, return_counts=True)
        assert len(counts) <= DISTINCT
        assert len(set(counts)) > 1
    assert len(np.unique(plan)) > DISTINCT  # other images in other steps


def test_a_small_batch_holds_each_image_once(small):
    for rows in truth_of(small, 16, steps=3).plan:
        assert len(set(rows.tolist())) == 16


def test_no_choice_hangs_on_rounding(small):
    """Every weight moved by itself, by MARGIN / 20 of it: no ReLU and no pooling window of an image of the first step
    chooses otherwise; of the images that are passed over some do.

    Moves of d of each weight move a layer's outputs by about d of their root mean square, from the layers before them
    by as much again: 2 d for the last. The largest of 10^5 moves is 5 times as large, the lead of one element over
    another moves by sqrt(2) times that: 14 d, less than MARGIN.
    """
    weights = {name: value.astype(np.float64) for name, value in WEIGHTS.items()}
    taken = np.unique(truth_of(small, 32, steps=1).plan[0])
    images = Operations().normalise(small.train_images)
    exact = _choices(forward(Operations(), weights, images))
    changed, rng = np.zeros(len(images), np.bool_), np.random.default_rng(0)
    for _ in range(10):
        moved = {name: w * (1 + MARGIN / 20 * rng.standard_normal(w.shape)) for name, w in weights.items()}
        changed |= (_choices(forward(Operations(), moved, images)) != exact).any(axis=1)
    assert not changed[taken].any()
    assert changed.any()


def _choices(outputs):
    """(n, choices): which ReLUs are open, and the winner of each window that has one above zero."""
    n = len(outputs["fc3"])
    signs = [outputs[layer].reshape(n, -1) > 0 for layer in (*POOLED, *RECTIFIED)]
    winners = [_winners(np.maximum(outputs[layer], 0)).reshape(n, -1) for layer in POOLED]
    return np.concatenate([*signs, *winners], axis=1, dtype=np.int64, casting="unsafe")


def _winners(values):
    """Of each 2x2 window, row by row; 0 where none is above zero."""
    n, c, h, w = values.shape
    return values.reshape(n, c, h // 2, 2, w // 2, 2).swapaxes(3, 4).reshape(n, -1, 4).argmax(axis=-1)


def test_what_is_near_its_switch_is_not_clear(small):
    weights = {name: value.astype(np.float64) for name, value in WEIGHTS.items()}
    images = Operations().normalise(small.train_images[truth_of(small, 8, steps=1).plan[0]])
    outputs = forward(Operations(), weights, images)
    assert _is_clear(outputs).all()
    outputs["fc1"][2, 7] = 1e-9
    winner = outputs["conv2"][5, 3, 2:4, 4:6]
    winner[0, 1], winner[1, 0] = 3.0, 3.0 + 1e-7
    assert _is_clear(outputs).tolist() == [n not in (2, 5) for n in range(8)]
    winner[1, 0] = 3.0  # a tie, as equal pixels make it, may fall either way
    assert _is_clear(outputs).tolist() == [n != 2 for n in range(8)]


@pytest.mark.parametrize("size", [1, 2])
def test_a_tiny_set_has_steps_enough(size, small):
    """A draw of a set of one is one image: more draws than its rows are needed, all of them clear."""
    parameters = {name: value.astype(np.float64) for name, value in WEIGHTS.items()}
    outputs = (
        forward(Operations(), parameters, Operations().normalise(small.train_images[first : first + size]))
        for first in range(50)
    )
    first = next(number for number, found in enumerate(outputs) if _is_clear(found).all())
    images, labels = (given[first : first + size] for given in (small.train_images, small.train_labels))
    sgd = SGD(lr=0.0)  # so that they stay clear
    plan = true_run(WEIGHTS, sgd, images, labels, batch_size=size, seed=0, steps=60 * size).plan
    assert plan.shape == (60 * size, size)


def test_images_without_a_clear_choice_are_refused(small):
    """With weights of zero every ReLU stands at its switch."""
    zeros = {name: np.zeros_like(value) for name, value in WEIGHTS.items()}
    with pytest.raises(InputError, match="fewer than 4 have choices that rounding cannot change"):
        true_run(zeros, SGD(), small.train_images, small.train_labels, batch_size=4, seed=0)
