"""The gradients of the whole model against central differences, tensor by tensor."""

from __future__ import annotations

import numpy as np
import pytest

from parity.contract import CNN_PARAMETERS, initial_weights, normalisation_table
from parity.oracle import Operations
from parity.oracle.layers import max_pool_backward
from parity.oracle.model import backward, forward

OPS = Operations()
# A change so small that no ReLU and no pool switches (which is checked).
STEP = 2.0**-20
# Terms added up on the way to a logit (the layers' fan-ins and biases), and some 20 operations of the loss.
ROUNDINGS = (75 + 150 + 400 + 120 + 84 + 5) + 20
# The differences are taken in extended precision: with 53 bits their rounding could hide an error of 0.1 %.
UNIT_ROUNDOFF = np.finfo(np.longdouble).eps / 2

RNG = np.random.default_rng(5)
IMAGES = normalisation_table("float64")[RNG.integers(0, 256, (2, 3, 32, 32))]
LABELS = np.array([3, 8])
WEIGHTS = {name: value.astype(np.float64) for name, value in initial_weights(0).items()}


@pytest.fixture(scope="module")
def gradients():
    outputs = forward(OPS, WEIGHTS, IMAGES)
    return backward(OPS, WEIGHTS, IMAGES, outputs, OPS.cross_entropy_backward(outputs["fc3"], LABELS))


def directions(gradient):
    """Random ones, of norm 1, that also have a part along the gradient, so that the slope is not lost in them."""
    rng = np.random.default_rng(6)
    for _ in range(3):
        random = rng.normal(size=gradient.shape)
        direction = random / np.linalg.norm(random) + gradient / np.linalg.norm(gradient)
        yield direction / np.linalg.norm(direction)


def moved(name, direction, sign):
    weights = {key: value.astype(np.longdouble) for key, value in WEIGHTS.items()}
    weights[name] += sign * STEP * direction
    return forward(OPS, weights, IMAGES)


def switches(outputs):
    """Which ReLUs are open, and who won each pool."""
    opened = [outputs[name] > 0 for name in ("conv1", "conv2", "fc1", "fc2")]
    won = [max_pool_backward(np.ones_like(outputs[f"pool{n}"]), outputs[f"relu{n}"]) for n in (1, 2)]
    return [*opened, *won]


def slope(name, direction):
    """The loss's slope along a direction in one tensor, by a central difference, and how wrong it may be.

    As long as no switch turns, the logits are linear in one tensor alone, z + t d. The loss's third derivative by t is
    then the third cumulant of d under the softmax, at most R^3 / (6 sqrt 3) where d has the range R.
    """
    up, down = (moved(name, direction, sign) for sign in (1, -1))
    for a, b in zip(switches(up), switches(down), strict=True):
        np.testing.assert_array_equal(a, b)
    d = (up["fc3"] - down["fc3"]) / (2 * STEP)
    truncation = STEP**2 / 6 * np.ptp(d, axis=1).max() ** 3 / (6 * np.sqrt(3))
    # Each logit is wrong by at most `ROUNDINGS` roundings of the sum of its terms' sizes: what the model makes of the
    # weights' sizes and the images'. The loss depends on two logits' difference.
    sizes = {key: np.abs(value) + (STEP * np.abs(direction) if key == name else 0) for key, value in WEIGHTS.items()}
    rounding = 2 * ROUNDINGS * UNIT_ROUNDOFF * forward(OPS, sizes, np.abs(IMAGES))["fc3"].max() / STEP
    loss = [OPS.cross_entropy(outputs["fc3"], LABELS) for outputs in (up, down)]
    return (loss[0] - loss[1]) / (2 * STEP), truncation + rounding


@pytest.mark.parametrize("name", CNN_PARAMETERS)
def test_a_gradient_equals_the_central_differences_and_one_wrong_by_a_thousandth_does_not(name, gradients):
    for direction in directions(gradients[name]):
        expected, tolerance = slope(name, direction)
        found = np.sum(gradients[name] * direction)
        assert abs(found - expected) < tolerance
        assert abs(1.001 * found - expected) > tolerance


def test_gradients_come_in_the_order_of_the_parameters(gradients):
    assert {name: value.shape for name, value in gradients.items()} == dict(CNN_PARAMETERS)
    assert list(gradients) == list(CNN_PARAMETERS)
