"""The chain's parts: honest ones are the oracle's, and every variant's gradient is that of its own output."""

import numpy as np
import pytest

from parity.contract import initial_weights
from parity.explain.forward import _softmax, node_variants, other_activations
from parity.explain.network import NODES, Flatten, MaxPool, Reading, average_pool, gradients_of, output_of
from parity.explain.relayout import image_readings, kernel_readings, linear_readings
from tests.explain.steps import HONEST, evidence

RNG = np.random.default_rng(0)
WEIGHTS = {name: value.astype(np.float64) for name, value in initial_weights(3).items()}
INPUTS = {
    "conv1": (2, 3, 32, 32),
    "pool1": (2, 6, 28, 28),
    "conv2": (2, 6, 14, 14),
    "pool2": (2, 16, 10, 10),
    "fc1": (2, 16, 5, 5),
    "relu3": (2, 120),
    "fc2": (2, 120),
    "relu4": (2, 84),
    "logits": (2, 84),
}


def test_the_honest_chain_is_the_oracles(small):
    trace = evidence(HONEST, small).traces[0]
    x = trace.batch["images"]
    for name, node in NODES.items():
        x = output_of(node, x, trace.weights)
        seen = trace.logits["logits"] if name == "logits" else trace.activations[name]
        np.testing.assert_array_equal(x, seen)


def check_gradient(node, shape, rng):
    """By central differences along one random direction of the input, and of the parameters that the node reads.

    The error of a central difference with a step of 1e-6 is about eps / 1e-6 = 2e-10 of the terms' size.
    """
    x, direction = rng.normal(size=shape), rng.normal(size=shape)
    upstream = rng.normal(size=output_of(node, x, WEIGHTS).shape)
    grad, found, weights, inputs = upstream, {}, WEIGHTS, [x]
    for part in node:
        inputs.append(part.forward(inputs[-1], weights))
    for part, each in reversed(list(zip(node, inputs[:-1], strict=True))):
        grad, own = part.backward(grad, each, weights)
        found |= own
    step = 1e-6

    def loss(moved, weights=WEIGHTS):
        return float(np.vdot(upstream, output_of(node, moved, weights)))

    numeric = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
    size = np.sqrt(np.vdot(grad, grad) * np.vdot(direction, direction))
    assert abs(numeric - np.vdot(grad, direction)) <= 1e-7 * max(size, 1.0)
    for name, gradient in found.items():
        toward = rng.normal(size=gradient.shape)
        up, down = ({**WEIGHTS, name: WEIGHTS[name] + sign * step * toward} for sign in (1, -1))
        numeric = (loss(x, up) - loss(x, down)) / (2 * step)
        size = np.sqrt(np.vdot(gradient, gradient) * np.vdot(toward, toward))
        assert abs(numeric - np.vdot(gradient, toward)) <= 1e-7 * max(size, 1.0), name


@pytest.mark.parametrize("name", NODES)
def test_gradients_of_the_honest_parts_and_of_every_variant(name):
    rng = np.random.default_rng(5)
    check_gradient(NODES[name], INPUTS[name], rng)
    variants = list(node_variants(name, NODES[name]))
    for number in range(0, len(variants), max(1, len(variants) // 12)):
        try:
            check_gradient(variants[number][2], INPUTS[name], rng)
        except ValueError as error:  # a part that does not fit the shapes after it
            assert "shape" in str(error) or "align" in str(error) or "mismatch" in str(error)  # noqa: PT017


@pytest.mark.parametrize("activation", [*other_activations(), _softmax], ids=lambda activation: activation.name)
def test_gradients_of_other_activations(activation):
    check_gradient((activation,), (3, 10), np.random.default_rng(1))


@pytest.mark.parametrize("order", ["CHW", "HWC", "CWH", "WHC", "HCW", "WCH"])
def test_a_flatten_and_back(order):
    x = RNG.normal(size=(2, 3, 4, 5))
    back, _ = Flatten(order=order).backward(Flatten(order=order).forward(x, {}), x, {})
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("ties", ["first", "last", "shared"])
def test_the_gradient_of_a_tie(ties):
    x = np.ones((1, 1, 2, 2))
    by_x, _ = MaxPool(ties=ties).backward(np.full((1, 1, 1, 1), 4.0), x, {})
    expected = {"first": [4, 0, 0, 0], "last": [0, 0, 0, 4], "shared": [1, 1, 1, 1]}[ties]
    np.testing.assert_array_equal(by_x.ravel(), expected)
    untied = RNG.normal(size=(2, 3, 8, 8))
    upstream = RNG.normal(size=(2, 3, 4, 4))
    np.testing.assert_array_equal(
        MaxPool(ties=ties).backward(upstream, untied, {})[0], MaxPool().backward(upstream, untied, {})[0]
    )


def test_the_average_pool():
    check_gradient((average_pool,), (2, 3, 6, 8), np.random.default_rng(2))


@pytest.mark.parametrize(
    "readings",
    [
        list(kernel_readings((4, 3, 5, 2))),
        list(linear_readings((7, 30), (2, 3, 5))),
        list(image_readings((3, 4, 5))),
    ],
    ids=["kernel", "linear", "image"],
)
def test_readings_are_permutations_and_each_is_another(readings):
    orders = [reading.order for reading in readings if reading.order]
    assert len(set(orders)) == len(orders)
    for order in orders:
        assert sorted(order) == list(range(len(order)))
        reading, values = Reading(name="", order=order), RNG.normal(size=len(order))
        np.testing.assert_array_equal(reading.unread(reading.read(values)), values)


def test_gradients_by_the_chain_are_the_oracles(small):
    trace = evidence(HONEST, small).traces[0]
    from parity.oracle.layers import cross_entropy_backward

    upstream = cross_entropy_backward(trace.logits["logits"], trace.batch["labels"])
    found = gradients_of(NODES, trace, upstream)
    assert list(found) == list(trace.gradients)
    for name, value in found.items():
        np.testing.assert_allclose(value, trace.gradients[name], rtol=0, atol=1e-14 * np.abs(value).max())
