import dataclasses

import numpy as np
import pytest

from parity.compare import find_flips
from parity.contract import CNN_ACTIVATIONS, StepTrace


def trace(**layers):
    """A trace of random activations, some of them given."""
    rng = np.random.default_rng(0)
    activations = {name: rng.normal(size=(2, *shape)) for name, shape in CNN_ACTIVATIONS.items()}
    others = {field.name: {} for field in dataclasses.fields(StepTrace) if field.name != "activations"}
    return StepTrace(activations={**activations, **layers}, **others)


def moved(original, layer, index, value, noise=1e-8):
    """The trace with rounding everywhere in a layer, and one value replaced."""
    array = original.activations[layer].copy()
    array += noise * np.random.default_rng(1).choice([-1, 1], array.shape)
    array[index] = value
    return dataclasses.replace(original, activations={**original.activations, layer: array})


def with_value(layer, index, value):
    array = np.array(trace().activations[layer])
    array[index] = value
    return trace(**{layer: array})


def test_equal_traces_have_none():
    assert find_flips(trace(), trace()) == ()


def test_a_sign_that_a_relu_sees():
    a = with_value("fc1", (1, 7), 3e-9)
    (flip,) = find_flips(a, moved(a, "fc1", (1, 7), -2e-9))
    assert (flip.kind, flip.sample, flip.layer, flip.unit, flip.rival) == ("ReLU", 1, "fc1", (7,), None)
    assert (flip.a, flip.b) == (3e-9, -2e-9)
    assert flip.ordinary(np.finfo(np.float64).eps * 1e9)
    assert "sample 1, the ReLU after fc1[7] sees +3.00e-09 and -2.00e-09" in str(flip)


def test_a_winner_of_a_pool():
    """Elements (4, 6) and (5, 7) lie in one window; all others of the window are smaller."""
    layer = np.array(trace().activations["conv1"])
    layer[0, 2, 4:6, 6:8] = [[1.0, -1.0], [-1.0, 1.0 - 4e-9]]
    a = trace(conv1=layer)
    (flip,) = find_flips(a, moved(a, "conv1", (0, 2, 4, 6), 1.0 - 3e-8))
    assert (flip.kind, flip.sample, flip.layer) == ("max-pool", 0, "conv1")
    assert (flip.unit, flip.rival) == ((2, 4, 6), (2, 5, 7))
    assert flip.a == pytest.approx(4e-9)
    assert flip.b < 0
    assert flip.ordinary(np.finfo(np.float64).eps * 1e9)
    assert "in the pool, conv1[2, 4, 6] leads [2, 5, 7] by +4.00e-09" in str(flip)


def test_a_window_that_a_relu_closes():
    layer = np.array(trace().activations["conv2"])
    layer[1, 3, 2:4, 8:10] = [[-1.0, -1.0], [5e-9, -1.0]]
    a = trace(conv2=layer)
    for first, second in ((a, moved(a, "conv2", (1, 3, 3, 8), -5e-9)), (moved(a, "conv2", (1, 3, 3, 8), -5e-9), a)):
        (flip,) = find_flips(first, second)
        assert (flip.kind, flip.layer, flip.unit, flip.rival) == ("ReLU", "conv2", (3, 3, 8), None)
        assert {flip.a, flip.b} == {5e-9, -5e-9}


def test_a_winner_below_zero_does_not_matter():
    """Behind a ReLU that is closed on both sides nothing is chosen."""
    layer = np.array(trace().activations["conv1"])
    layer[0, 0, 0:2, 0:2] = [[-1.0, -1.0 - 1e-9], [-2.0, -2.0]]
    a = trace(conv1=layer)
    assert find_flips(a, moved(a, "conv1", (0, 0, 0, 0), -1.5)) == ()


def test_a_difference_that_is_not_rounding_is_not_ordinary():
    """One unit is far off: a fault of its own, which happens to pass a switch."""
    a = with_value("fc2", (0, 5), 0.5)
    (flip,) = find_flips(a, moved(a, "fc2", (0, 5), -0.5))
    # Its own difference is part of the layer's root mean square: 1 of 168 elements, so that 13 is the most it can be.
    assert abs(flip.a - flip.b) / flip.typical == pytest.approx(np.sqrt(2 * 84), rel=1e-6)
    assert not flip.ordinary(np.finfo(np.float32).eps)


def test_differences_beyond_rounding_are_not_ordinary_however_alike_they_are():
    """What a fault does to all units alike is not excused by the choices that it turns."""
    a = with_value("fc1", (1, 7), 3e-4)
    (flip,) = [found for found in find_flips(a, moved(a, "fc1", (1, 7), -3e-4, noise=1e-4)) if found.unit == (7,)]
    assert abs(flip.a - flip.b) < 10 * flip.typical
    assert not flip.ordinary(np.finfo(np.float32).eps)
    assert flip.ordinary(1e-5)
