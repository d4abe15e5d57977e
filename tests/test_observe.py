"""`observe` and `restore` of the built-in sides: the stages must follow from each other, and from what `run` does."""

import numpy as np
import pytest

import jax_impl
import torch_impl
from parity.compare import relative_difference
from parity.contract import CNN_ACTIVATIONS, CNN_PARAMETERS, SGD, initial_weights, normalisation_table

SIDES = {"torch": torch_impl.eager, "torch, fast": torch_impl.fast, "jax": jax_impl.impl, "jax, plain": jax_impl.plain}
SETTINGS = SGD(lr=0.01, momentum=0.9, dampening=0.3, weight_decay=0.01)
ROWS = np.array([[3, 1, 4, 15], [9, 2, 6, 5]], np.int32)

# Two computations of one thing in float64 differ by rounding alone: sums of at most 9,408 products here (a gradient of
# conv1.bias at batch 4 adds 4 x 28 x 28), so n * eps / 2 = 1e-12 is beyond any order of adding.
ROUNDING = 1e-12


@pytest.fixture(params=SIDES)
def observed(request, small):
    """A side, its data, the state after one step, and what the second step computed."""
    side = SIDES[request.param]
    state = side.start(initial_weights(0), SETTINGS, dtype="float64", device="cpu")
    data = side.place(state, small.train_images, small.train_labels)
    state, _ = side.run(state, data, ROWS[:1])
    after, trace = side.observe(state, data, ROWS[1])
    return side, data, state, after, trace


def close(a, b):
    return relative_difference(np.asarray(a, float), np.asarray(b, float)) < ROUNDING


def test_the_stages_have_their_names_and_shapes(observed):
    *_, trace = observed
    shapes = {name: array.shape for name, array in trace.activations.items()}
    assert shapes == {name: (4, *shape) for name, shape in CNN_ACTIVATIONS.items()}
    for tensors in (trace.weights, trace.gradients, trace.momentum, trace.parameters):
        assert {name: array.shape for name, array in tensors.items()} == dict(CNN_PARAMETERS)
    assert list(trace.activations) == list(CNN_ACTIVATIONS)
    assert trace.logits["logits"].shape == (4, 10)
    assert trace.loss["loss"].shape == ()


def test_the_batch_is_what_the_rows_name(observed, small):
    *_, trace = observed
    images = normalisation_table("float64")[small.train_images[ROWS[1]].transpose(0, 3, 1, 2)]
    np.testing.assert_array_equal(trace.batch["images"], images)
    np.testing.assert_array_equal(trace.batch["labels"], small.train_labels[ROWS[1]])


def test_each_activation_follows_from_the_one_before(observed):
    *_, trace = observed
    seen, weights = trace.activations, trace.weights

    def relu_pool(value):
        batch, channels, height, width = value.shape
        windows = value.reshape(batch, channels, height // 2, 2, width // 2, 2)
        return np.maximum(windows.max(axis=(3, 5)), 0)

    def linear(value, layer):
        return value.reshape(4, -1) @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]

    windows = np.lib.stride_tricks.sliding_window_view(trace.batch["images"], (5, 5), axis=(2, 3))
    conv1 = np.einsum("bchwij,ocij->bohw", windows, weights["conv1.weight"])
    assert close(seen["conv1"], conv1 + weights["conv1.bias"][:, None, None])
    assert close(seen["pool1"], relu_pool(seen["conv1"]))
    assert close(seen["pool2"], relu_pool(seen["conv2"]))
    assert close(seen["fc1"], linear(seen["pool2"], "fc1"))
    assert close(seen["relu3"], np.maximum(seen["fc1"], 0))
    assert close(seen["fc2"], linear(seen["relu3"], "fc2"))
    assert close(seen["relu4"], np.maximum(seen["fc2"], 0))
    assert close(trace.logits["logits"], linear(seen["relu4"], "fc3"))


def test_loss_gradients_momentum_and_update_follow(observed):
    *_, trace = observed
    logits, labels = trace.logits["logits"], trace.batch["labels"]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    assert close(trace.loss["loss"], -log_softmax[np.arange(4), labels].mean())
    slope = (np.exp(log_softmax) - np.eye(10)[labels]) / 4
    assert close(trace.gradients["fc3.bias"], slope.sum(axis=0))
    assert close(trace.gradients["fc3.weight"], slope.T @ trace.activations["relu4"])


def test_the_step_is_the_one_that_run_takes(observed):
    side, data, state, after, trace = observed
    expected, losses = side.run(state, data, ROWS[1:])
    assert close(trace.loss["loss"], losses[0])
    for read in (side.weights, side.momentum):
        for name, value in read(expected).items():
            assert close(read(after)[name], value), name
    for stage, read in (("parameters", side.weights), ("momentum", side.momentum)):
        for name, value in read(after).items():
            np.testing.assert_array_equal(getattr(trace, stage)[name], value)


def test_the_update_is_sgds(observed):
    side, _data, state, _after, trace = observed
    for name, gradient in trace.gradients.items():
        decayed = gradient + SETTINGS.weight_decay * trace.weights[name]
        buffer = SETTINGS.momentum * side.momentum(state)[name] + (1 - SETTINGS.dampening) * decayed
        assert close(trace.momentum[name], buffer), name
        assert close(trace.parameters[name], trace.weights[name] - SETTINGS.lr * buffer), name


def test_observing_leaves_the_state(observed):
    side, _data, state, _after, trace = observed
    for name, value in side.weights(state).items():
        np.testing.assert_array_equal(trace.weights[name], value)


def test_a_restored_state_goes_on_where_it_was(observed):
    side, data, state, _after, _trace = observed
    fresh = side.start(initial_weights(5), SETTINGS, dtype="float64", device="cpu")
    fresh, _ = side.run(fresh, data, ROWS[:1])
    restored = side.restore(fresh, side.weights(state), side.momentum(state))
    for read in (side.weights, side.momentum):
        expected, found = side.run(state, data, ROWS)[0], side.run(restored, data, ROWS)[0]
        for name, value in read(expected).items():
            np.testing.assert_array_equal(read(found)[name], value)
    assert not np.array_equal(side.weights(fresh)["fc3.bias"], side.weights(restored)["fc3.bias"])


def test_a_state_restored_without_momentum_takes_a_first_step(observed):
    """The dampening does not apply to it: the buffer is the whole gradient."""
    side, data, state, _after, _trace = observed
    first = side.restore(state, side.weights(state), {})
    assert all(not buffer.any() for buffer in side.momentum(first).values())
    _, trace = side.observe(first, data, ROWS[1])
    for name, gradient in trace.gradients.items():
        assert close(trace.momentum[name], gradient + SETTINGS.weight_decay * trace.weights[name]), name


def test_restoring_copies(observed):
    side, _data, state, _after, _trace = observed
    weights = side.weights(state)
    restored = side.restore(state, weights, {})
    kept = weights["fc3.bias"].copy()
    weights["fc3.bias"][:] = 7
    np.testing.assert_array_equal(side.weights(restored)["fc3.bias"], kept)
