"""The run that contestants are held against: right, and without a choice that rounding could change."""

import numpy as np
import pytest

from parity.bench.truth import DISTINCT, MARGIN, _is_clear, true_run
from parity.compare import largest_gap, loss_differences
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
    """Moved by a tenth of the margin, no ReLU and no pooling window of the first step chooses otherwise."""
    rows = truth_of(small, 32, steps=1).plan[0]
    weights = {name: value.astype(np.float64) for name, value in WEIGHTS.items()}
    images = Operations().normalise(small.train_images[rows])
    exact = forward(Operations(), weights, images)
    moved = forward(Operations(), {name: value * (1 + MARGIN / 10) for name, value in weights.items()}, images)
    for layer in ("relu1", "pool1", "relu2", "pool2", "relu3", "relu4"):
        np.testing.assert_array_equal(exact[layer] > 0, moved[layer] > 0)


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
