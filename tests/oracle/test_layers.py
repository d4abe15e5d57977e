"""Each layer's gradient against central differences, element by element, and against a gradient wrong by 0.1 %."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from parity.oracle import layers

# For all layers but the loss nothing is rounded, and the tolerance is 0. Everything is a multiple of 2**-10 below 2**4,
# so that a product of three (upstream, input, weight) is a multiple of 2**-30 and a sum of 2**10 of them stays below
# 2**22: 52 bits, of float64's 53. And each layer is linear in each argument, a ReLU and a pool as long as no element
# passes a switch, so that a central difference has no truncation error, whatever its step.
UNIT = 2.0**-10
STEP = 2.0**-6


def dyadic(rng, *shape):
    return rng.integers(-1024, 1025, shape) * UNIT


def apart(rng, *shape):
    """All different, none of them 0, by more than a step on either side."""
    size = int(np.prod(shape))
    values = (np.arange(size) - size // 2 + 0.5) * 4 * STEP
    return rng.permutation(values).reshape(shape)


def central_differences(f, x, step):
    """The gradient of the scalar f at x, one element after the other."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (f(up) - f(down)) / (2 * step)
    return gradient


def differences(layer, upstream, arguments):
    """Those of sum(upstream * layer(arguments)) by each of the arguments."""

    def along(position, value):
        moved = [value if number == position else argument for number, argument in enumerate(arguments)]
        return np.sum(upstream * layer(*moved))

    return [central_differences(partial(along, n), argument, STEP) for n, argument in enumerate(arguments)]


RNG = np.random.default_rng(3)

# Dimensions that are all different: a wrong transpose cannot hide.
CASES = {
    "conv2d": (layers.conv2d, (dyadic(RNG, 2, 3, 6, 8), dyadic(RNG, 5, 3, 4, 2), dyadic(RNG, 5))),
    "relu": (layers.relu, (apart(RNG, 2, 3, 5, 7),)),
    "max_pool": (layers.max_pool, (apart(RNG, 2, 3, 4, 10),)),
    "linear": (layers.linear, (dyadic(RNG, 3, 7), dyadic(RNG, 5, 7), dyadic(RNG, 5))),
}


def both_gradients(name):
    """By hand and by differences, by each argument."""
    layer, arguments = CASES[name]
    upstream = dyadic(np.random.default_rng(6), *layer(*arguments).shape)
    found = getattr(layers, f"{name}_backward")(upstream, *arguments[:2])  # no gradient needs the bias
    found = found if isinstance(found, tuple) else (found,)
    return list(zip(found, differences(layer, upstream, arguments), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_gradient_equals_the_central_differences(name):
    for ours, theirs in both_gradients(name):
        np.testing.assert_array_equal(ours, theirs)
        assert np.count_nonzero(theirs) > theirs.size / 5


@pytest.mark.parametrize("name", CASES)
def test_the_differences_catch_one_element_wrong_by_a_thousandth(name):
    for ours, theirs in both_gradients(name):
        largest = np.unravel_index(np.abs(ours).argmax(), ours.shape)
        ours[largest] *= 1.001
        with pytest.raises(AssertionError, match="Mismatched elements: 1 /"):
            np.testing.assert_array_equal(ours, theirs)


LOGITS = np.random.default_rng(4).normal(scale=3, size=(3, 7))
LABELS = np.array([6, 0, 2])


def cross_entropy_gap(gradient):
    """How far it is from the central differences of the loss, in units of what those may be wrong by."""
    step = 2.0**-13
    expected = central_differences(lambda logits: layers.cross_entropy(logits, LABELS), LOGITS, step)
    # Truncation: step^2 / 6 times the third derivative by one logit, p (1 - p) (1 - 2 p) / N <= 1 / (6 sqrt 3 N).
    truncation = step**2 / 6 / (6 * np.sqrt(3) * len(LABELS))
    # Rounding: a sum of 7 exponentials and some ten other operations, on numbers up to the range of the logits.
    rounding = (7 + 10) * 2.0**-53 * np.ptp(LOGITS) / step
    return np.abs(gradient - expected).max() / (truncation + rounding)


def test_the_losss_gradient_equals_the_central_differences():
    gradient = layers.cross_entropy_backward(LOGITS, LABELS)
    assert cross_entropy_gap(gradient) < 1
    assert cross_entropy_gap(gradient * 1.001) > 1
    gradient[1, 0] *= 1.001
    assert cross_entropy_gap(gradient) > 1


def test_cross_entropy_of_a_uniform_guess_and_of_huge_logits():
    assert layers.cross_entropy(np.full((2, 10), 3.0), np.array([1, 4])) == pytest.approx(np.log(10), rel=1e-15)
    huge = np.array([[1e4, 0.0, -1e4]])
    assert layers.cross_entropy(huge, np.array([0])) == 0
    assert layers.cross_entropy(huge, np.array([2])) == 2e4
    np.testing.assert_array_equal(layers.cross_entropy_backward(huge, np.array([2])), [[1, 0, -1]])


def test_the_first_of_equal_elements_wins_a_pool():
    for tied, winner in (([1, 1, 1, 1], 0), ([0, 1, 1, 1], 1), ([0, 0, 1, 1], 2), ([0, 0, 0, 0], 0)):
        images = np.array(tied, np.float64).reshape(1, 1, 2, 2)
        gradient = layers.max_pool_backward(np.full((1, 1, 1, 1), 5.0), images)
        np.testing.assert_array_equal(gradient.ravel(), 5.0 * (np.arange(4) == winner))


def test_the_slope_of_relu_at_zero_is_zero():
    x = np.array([-1.0, -0.0, 0.0, 1.0])
    np.testing.assert_array_equal(layers.relu_backward(np.full(4, 2.0), x), [0, 0, 0, 2])
