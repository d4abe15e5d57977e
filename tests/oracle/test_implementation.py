"""The oracle as a side: its states, its copies, what it records and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from parity.contract import (
    CNN_ACTIVATIONS,
    CNN_PARAMETERS,
    SGD,
    Implementation,
    InputError,
    initial_weights,
    normalisation_table,
)
from parity.oracle import impl
from parity.registry import resolve

PLAN = np.arange(20, dtype=np.int32).reshape(5, 4)


def start(sgd=None, weights=None):
    return impl.start(weights or initial_weights(0), sgd or SGD(), dtype="float64", device="cpu")


@pytest.fixture
def data(small):
    return impl.place(start(), small.train_images, small.train_labels)


def assert_equal(a, b):
    assert list(a) == list(b)
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name])


def test_is_a_side_of_its_name():
    assert resolve("parity.oracle") is resolve("parity.oracle:impl") is impl
    assert isinstance(impl, Implementation)
    assert impl.devices() == ("cpu",)
    assert impl.describe(start()) == f"numpy {np.__version__}, gradients by hand, float64, CPU"


def test_everything_is_float64_of_the_cnns_shapes(data):
    after, losses = impl.run(start(), data, PLAN)
    assert losses.dtype == impl.logits(after, data).dtype == np.float64
    assert losses.shape == (5,)
    for tensors in (impl.weights(after), impl.momentum(after)):
        assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float64)}
        assert {name: tensor.shape for name, tensor in tensors.items()} == dict(CNN_PARAMETERS)


def test_a_run_leaves_its_state_and_what_was_read_from_it(data):
    once, _ = impl.run(start(), data, PLAN)
    weights, momentum = impl.weights(once), impl.momentum(once)
    kept = {name: value.copy() for name, value in weights.items()}, {n: v.copy() for n, v in momentum.items()}
    twice, losses = impl.run(once, data, PLAN)
    again, repeated = impl.run(once, data, PLAN)
    np.testing.assert_array_equal(losses, repeated)
    assert_equal(impl.weights(twice), impl.weights(again))
    assert_equal(weights, kept[0])
    assert_equal(momentum, kept[1])
    assert_equal(impl.weights(once), kept[0])
    assert_equal(impl.momentum(once), kept[1])
    assert not np.array_equal(impl.weights(twice)["conv1.bias"], kept[0]["conv1.bias"])


def test_a_run_in_pieces_is_the_same_run(data):
    whole, losses = impl.run(start(), data, PLAN)
    half, first = impl.run(start(), data, PLAN[:2])
    rest, second = impl.run(half, data, PLAN[2:])
    np.testing.assert_array_equal(losses, np.concatenate([first, second]))
    assert_equal(impl.weights(whole), impl.weights(rest))
    assert_equal(impl.momentum(whole), impl.momentum(rest))


def test_what_is_given_is_copied(small):
    weights = {name: value.astype(np.float64) for name, value in initial_weights(0).items()}
    images, labels = small.train_images.copy(), small.train_labels.copy()
    state = start(weights=weights)
    restored = impl.restore(state, weights, weights)
    data = impl.place(state, images, labels)
    before = impl.run(state, data, PLAN)[1]
    for array in (*weights.values(), images, labels):
        array[:] = 0
    np.testing.assert_array_equal(impl.run(state, data, PLAN)[1], before)
    for read in (impl.weights, impl.momentum):
        assert all(value.any() for value in read(restored).values())


def test_what_is_handed_out_is_the_readers_own(data):
    state, _ = impl.run(start(), data, PLAN)
    after, trace = impl.observe(state, data, PLAN[0])
    for read in (impl.weights, impl.momentum):
        assert read(state)["fc1.bias"].any()
        before = read(state), read(after)
        for tensors in (read(state), read(after), trace.weights, trace.momentum, trace.parameters, trace.gradients):
            for value in tensors.values():
                value[...] = 0
        assert_equal(read(state), before[0])
        assert_equal(read(after), before[1])


@pytest.mark.parametrize("sgd", [SGD(), SGD(momentum=0.0), SGD(nesterov=True, weight_decay=0.1)])
def test_observing_is_running_to_the_last_bit(sgd, data, small):
    before, _ = impl.run(start(sgd), data, PLAN)
    after, trace = impl.observe(before, data, PLAN[1])
    ran, losses = impl.run(before, data, PLAN[1:2])
    assert_equal(impl.weights(after), impl.weights(ran))
    assert_equal(trace.weights, impl.weights(before))
    assert_equal(trace.parameters, impl.weights(ran))
    assert_equal(trace.momentum, impl.momentum(ran))
    assert trace.loss["loss"].shape == ()
    assert trace.loss["loss"] == losses[0]
    np.testing.assert_array_equal(
        trace.logits["logits"], impl.logits(before, impl.place(before, *rows(small, PLAN[1])))
    )
    assert not trace.parents


def rows(dataset, numbers):
    return dataset.train_images[numbers], dataset.train_labels[numbers]


def test_a_trace_has_every_stage_in_order(data, small):
    _, trace = impl.observe(start(), data, PLAN[1])
    images, labels = rows(small, PLAN[1])
    np.testing.assert_array_equal(trace.batch["images"], normalisation_table("float64")[images.transpose(0, 3, 1, 2)])
    np.testing.assert_array_equal(trace.batch["labels"], labels)
    shapes = {name: value.shape[1:] for name, value in trace.activations.items()}
    assert list(shapes.items()) == list(CNN_ACTIVATIONS.items())
    for tensors in (trace.weights, trace.gradients, trace.momentum, trace.parameters):
        assert [(name, value.shape) for name, value in tensors.items()] == list(CNN_PARAMETERS.items())


def test_momentum_is_zeros_at_first_and_nothing_without(data):
    first = impl.momentum(start())
    assert {name: value.shape for name, value in first.items()} == dict(CNN_PARAMETERS)
    assert not any(value.any() for value in first.values())
    state = start(SGD(momentum=0.0))
    after, trace = impl.observe(state, data, PLAN[0])
    assert impl.momentum(state) == impl.momentum(after) == trace.momentum == {}
    assert impl.momentum(impl.restore(state, impl.weights(state), first)) == {}


def test_restoring_goes_back(data):
    sgd = SGD(dampening=0.5)
    once, _ = impl.run(start(sgd), data, PLAN)
    twice, losses = impl.run(once, data, PLAN)
    back = impl.restore(twice, impl.weights(once), impl.momentum(once))
    again, repeated = impl.run(back, data, PLAN)
    np.testing.assert_array_equal(losses, repeated)
    assert_equal(impl.weights(again), impl.weights(twice))
    assert_equal(impl.momentum(again), impl.momentum(twice))


def test_restoring_without_momentum_makes_the_next_step_a_first_one(data):
    """Its gradient then enters the buffer whole; with buffers of zeros it would be dampened."""
    once, _ = impl.run(start(SGD(dampening=0.5)), data, PLAN)
    weights = impl.weights(once)
    zeros = {name: np.zeros_like(value) for name, value in weights.items()}
    for momentum, factor in (({}, 1.0), (zeros, 0.5)):
        after, trace = impl.observe(impl.restore(once, weights, momentum), data, PLAN[0])
        assert_equal(impl.momentum(after), {name: factor * g for name, g in trace.gradients.items()})


def test_logits_of_many_images_are_those_of_few(data, small):
    """They are computed a hundred at a time; the set has 102."""
    state = start()
    whole = impl.logits(state, data)
    assert whole.shape == (102, 10)
    last = impl.logits(state, impl.place(state, small.train_images[100:], small.train_labels[100:]))
    # A matrix product may add up in another order where it has other dimensions.
    np.testing.assert_allclose(whole[100:], last, rtol=0, atol=1e-14)
    assert impl.logits(state, impl.place(state, small.train_images[:0], small.train_labels[:0])).shape == (0, 10)


@pytest.mark.parametrize(
    ("keywords", "line"),
    [
        ({"dtype": "float32"}, "dtype float32: the oracle computes in float64 only; use --dtype float64"),
        ({"device": "cuda"}, "device cuda: the oracle has no such device; use cpu"),
    ],
)
def test_refuses_another_dtype_and_another_device(keywords, line):
    with pytest.raises(InputError) as refused:
        impl.start(initial_weights(0), SGD(), **{"dtype": "float64", "device": "cpu", **keywords})
    assert str(refused.value) == line


def test_refuses_tensors_of_another_model():
    wrong = {**initial_weights(0), "fc3.weight": np.zeros((84, 10))}
    with pytest.raises(InputError, match="^weights given: tensor fc3.weight has shape"):
        start(weights=wrong)
    with pytest.raises(InputError, match="^weights given: tensor fc3.weight has shape"):
        impl.restore(start(), wrong, {})
    with pytest.raises(InputError, match="^momentum given: tensor fc3.weight has shape"):
        impl.restore(start(), initial_weights(0), wrong)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda images, _: (images,), "data 1 arrays: the CNN reads two"),
        (lambda images, labels: (images / 255, labels), "images of shape (102, 32, 32, 3), float64: the CNN reads"),
        (lambda images, labels: (images.transpose(0, 3, 1, 2), labels), "images of shape (102, 3, 32, 32), uint8: "),
        (lambda images, labels: (images, labels[1:]), "labels of shape (101,), "),
        (
            lambda images, labels: (images, labels / 1),
            "labels of shape (102,), float64: there are 102 images; give 102 int",
        ),
        (lambda images, labels: (images, labels - 1), "labels -1: there is no such class; give 0 to 9"),
        (lambda images, labels: (images, labels + 1), "labels 10: there is no such class; give 0 to 9"),
    ],
)
def test_refuses_data_that_the_cnn_cannot_read(change, line, small):
    with pytest.raises(InputError) as refused:
        impl.place(start(), *change(small.train_images, small.train_labels))
    assert str(refused.value).startswith(line)
