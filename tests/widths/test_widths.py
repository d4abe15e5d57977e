"""The CNN of other widths: the same program in torch and in JAX, and at width 1 the tutorial's."""

import numpy as np
import pytest

from parity.bench.contender import shared
from parity.bench.process import Process
from parity.compare import largest_gap
from parity.contract import CNN_PARAMETERS, SGD
from parity.oracle import Oracle
from parity_widths import jax_cnn, torch_cnn
from parity_widths.cnn import initial_weights, layer_shapes, width_of

PLAN = np.arange(12, dtype=np.int32).reshape(3, 4)


def trained(side, weights, data):
    """The losses of three steps in float64, and the weights after them."""
    state = side.start(weights, SGD(), dtype="float64", device="cpu")
    after, losses = side.run(state, side.place(state, *data), PLAN)
    return losses, side.weights(after)


def test_both_frameworks_compute_the_same_at_another_width(small):
    data = (small.train_images, small.train_labels)
    (ours, ends), (theirs, others) = (
        trained(half.program(2), initial_weights(2), data) for half in (torch_cnn, jax_cnn)
    )
    # Sums of up to 800 terms in another order: sqrt(800) / 2 of an ulp, in each layer.
    np.testing.assert_allclose(ours, theirs, rtol=1e-13)
    assert largest_gap(ends, others).difference < 1e-13


def test_at_width_1_it_is_the_tutorials(small):
    weights, data = initial_weights(1), (small.train_images, small.train_labels)
    assert {name: value.shape for name, value in weights.items()} == dict(CNN_PARAMETERS)
    losses = [trained(side, weights, data)[0] for side in (torch_cnn.program(1), Oracle())]
    # The oracle normalises by (x / 255 - 0.5) / 0.5 in a table, this by x / 127.5 - 1: an ulp of an input.
    np.testing.assert_allclose(*losses, rtol=1e-13)


def test_only_the_channels_grow():
    assert layer_shapes(16)["conv2"] == (256, 96, 5, 5)
    assert layer_shapes(16)["fc1"] == (120, 6400)
    assert layer_shapes(16)["fc2"] == layer_shapes(1)["fc2"]


@pytest.mark.parametrize("name", ["cnn", "cnn_", "cnn_x", "cnn_0", "mlp_4", "__path__"])
def test_other_names_are_none(name):
    with pytest.raises(AttributeError):
        width_of(name)


def test_a_process_times_it_with_its_own_weights(small):
    arrays = (small.train_images, small.train_labels)
    with Process("parity_widths.torch_cnn:cnn_2", threads=1) as process, shared(*arrays) as files:
        process.ask("open", timeout=120.0)
        process.ask("start", timeout=120.0, weights=None, sgd=SGD(), dtype="float32", device="cpu", files=files)
        timed = process.ask("run", timeout=120.0, plan=np.arange(8, dtype=np.int32).reshape(2, 4))
    assert timed.losses.shape == (2,)
    assert np.isfinite(timed.losses).all()
