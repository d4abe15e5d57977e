"""Which batches leave their products to YNNPACK."""

import os

import jax
import numpy as np
import pytest
from jaxlib import version

import jax_impl
from jax_impl.by_batch import YNNPACK, ByBatch, options_without_ynnpack
from jax_impl.device import exact
from jax_impl.observe import observed_step
from jax_impl.train import train_steps
from parity.compare import relative_difference
from parity.contract import SGD, initial_weights

PLAN = np.arange(64, dtype=np.int32).reshape(4, 16)
BOUND = 1e-12
"""Of float64, relative: sums of up to 12,544 products in another order differ by some ten times its unit roundoff."""


def arguments(small, dtype):
    """What `run` gives both programs, and what `observe` does."""
    state = jax_impl.impl.start(initial_weights(0), SGD(lr=0.01), dtype=dtype, device="cpu")
    data = jax_impl.impl.place(state, small.train_images, small.train_labels)
    static = {"rates": None, "sgd": state.sgd, "formulation": state.formulation}
    run = (state.carry, state.table, data.images, data.labels, PLAN), static
    observe = (state.carry, state.table, data.images[:16], data.labels[:16]), static
    return state, {"run": run, "observe": observe}


@pytest.mark.skipif(
    not options_without_ynnpack(os.environ.get("XLA_FLAGS", ""), release=version.__version__),
    reason=f"{YNNPACK} was not tried with jaxlib {version.__version__}, or is set in XLA_FLAGS",
)
@pytest.mark.parametrize(("name", "programs"), [("run", train_steps), ("observe", observed_step)])
def test_one_of_both_is_compiled_without_it(name, programs, small):
    state, given = arguments(small, "float32")
    arrays, static = given[name]

    def text(program):
        with exact("float32", state.device):
            return program.lower(*arrays, **static).compile().as_text()

    assert "ynn_fusion" in text(programs.default)
    assert "ynn_fusion" not in text(programs.without_ynnpack)


@pytest.mark.parametrize(("name", "programs"), [("run", train_steps), ("observe", observed_step)])
def test_both_compute_the_same(name, programs, small):
    state, given = arguments(small, "float64")
    arrays, static = given[name]
    with exact("float64", state.device):
        results = [jax.tree.leaves(each(*arrays, **static)) for each in (programs.default, programs.without_ynnpack)]
    for one, other in zip(*results, strict=True):
        assert relative_difference(np.asarray(one), np.asarray(other)) <= BOUND


@pytest.mark.parametrize("programs", [train_steps, observed_step])
def test_the_size_of_the_batch_chooses_on_the_cpu(programs):
    assert programs.for_batch(1, "cpu") is programs.for_batch(4, "cpu") is programs.default
    assert programs.for_batch(5, "cpu") is programs.for_batch(128, "cpu") is programs.without_ynnpack
    assert programs.for_batch(128, "gpu") is programs.default


def test_run_and_observe_ask_for_the_size_of_their_batch(small, monkeypatch):
    asked = []

    def for_batch(programs, size, platform):
        asked.append((programs, size, platform))
        return programs.default

    monkeypatch.setattr(ByBatch, "for_batch", for_batch)
    state = jax_impl.impl.start(initial_weights(0), SGD(), dtype="float32", device="cpu")
    data = jax_impl.impl.place(state, small.train_images, small.train_labels)
    jax_impl.impl.run(state, data, PLAN[:, :11])
    jax_impl.impl.observe(state, data, PLAN[0, :7])
    assert asked == [(train_steps, 11, "cpu"), (observed_step, 7, "cpu")]


def test_options_are_set_where_they_were_tried_and_the_user_is_silent():
    assert options_without_ynnpack("--xla_dump_to=x", release="0.10.2") == {YNNPACK: ""}
    assert options_without_ynnpack("", release="0.11.2") == {}
    assert options_without_ynnpack(f"--{YNNPACK}=LIBRARY_FUSION_TYPE_DOT", release="0.10.2") == {}
