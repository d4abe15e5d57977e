"""The CNN of other widths: the same program in torch and in JAX, and at width 1 the tutorial's."""

import numpy as np
import pytest

from parity.bench.process import Process
from parity.checking import check
from parity.contract import CNN_PARAMETERS, SGD
from parity.oracle import Oracle
from parity.prepare import prepare
from parity.run import resolve_sides
from parity.settings import Settings
from parity_widths.cnn import initial_weights, layer_shapes, width_of
from parity_widths.torch_cnn import program


def test_both_frameworks_compute_the_same_at_another_width():
    sides = resolve_sides(["parity_widths.torch_cnn:cnn_2", "parity_widths.jax_cnn:cnn_2"])
    settings = Settings()
    prepared = prepare(*sides, dataset=None, weights=None, mapping=(), settings=settings)
    found = check(prepared.sides, prepared.problem, settings, steps=2)
    assert found.finding is None, found.line


def test_at_width_1_it_is_the_tutorials(small):
    weights, data = initial_weights(1), (small.train_images, small.train_labels)
    assert {name: value.shape for name, value in weights.items()} == dict(CNN_PARAMETERS)
    plan = np.arange(12, dtype=np.int32).reshape(3, 4)
    losses = []
    for side in (program(1), Oracle()):
        state = side.start(weights, SGD(), dtype="float64", device="cpu")
        losses.append(side.run(state, side.place(state, *data), plan)[1])
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
    with Process("parity_widths.torch_cnn:cnn_2", threads=1) as process:
        process.ask("open", timeout=120.0)
        arrays = (small.train_images, small.train_labels)
        process.ask("start", timeout=120.0, weights=None, sgd=SGD(), dtype="float32", device="cpu", arrays=arrays)
        timed = process.ask("run", timeout=120.0, plan=np.arange(8, dtype=np.int32).reshape(2, 4))
    assert timed.losses.shape == (2,)
    assert np.isfinite(timed.losses).all()
