"""What a GPU is given: the same numbers without select-and-scatter or scatter, which XLA refuses or slows down there.

Programs are lowered for CUDA on whatever machine this is; tests/test_cuda.py runs them where there is a GPU.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_impl import apart as apart_module
from jax_impl.apart import apart
from jax_impl.convolutions import PLAIN, WINDOWED
from jax_impl.device import exact
from jax_impl.implementation import JaxImplementation, chosen_formulation
from jax_impl.model import max_pool
from jax_impl.pooling import max_pool_by_choice
from jax_impl.products import FAST
from jax_impl.train import mean_cross_entropy, train_many, train_steps
from parity.compare import largest_gap, loss_differences
from parity.contract import SGD, initial_weights

CPU = jax.devices("cpu")[0]
# Several orders of summing the same float64 products, through all layers and back: see test_products.py.
ROUNDING = 1e-12


def lowered(formulation, small, program):
    """The StableHLO of some steps, as XLA is given it for an NVIDIA GPU."""
    # Another name, so that nothing is taken that was traced for the CPU before.
    formulation = replace(formulation, name=f"{formulation.name}, for CUDA")
    side = JaxImplementation(formulation=formulation)
    state = side.start(initial_weights(0), SGD(weight_decay=0.1), dtype="float32", device="cpu")
    data = side.place(state, small.train_images, small.train_labels)
    plan = np.arange(8, dtype=np.int32).reshape(2, 4)
    with exact("float32", CPU):
        carry = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state.carry) if program is train_many else state.carry
        arrays = (state.table, data.images, data.labels, plan)
        traced = program.trace(carry, *arrays, rates=None, sgd=state.sgd, formulation=formulation)
        return traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("program", [train_steps.default, train_many])
@pytest.mark.parametrize("wanted", [None, PLAIN, FAST])
def test_what_a_gpu_is_given_scatters_nothing(wanted, program, small, monkeypatch):
    """Whatever it is told to take, alone and for an ensemble."""
    monkeypatch.setattr(apart_module, "_on_cpu", lambda: False)
    assert "scatter" not in lowered(chosen_formulation(wanted, "gpu"), small, program)


def test_the_plain_formulation_would_be_refused_there(small):
    """So the test above looks at what it should."""
    assert "select_and_scatter" in lowered(PLAIN, small, train_steps.default)


@pytest.mark.parametrize(
    ("wanted", "on_cpu", "on_gpu"), [(None, FAST, WINDOWED), (PLAIN, PLAIN, WINDOWED), (FAST, FAST, FAST)]
)
def test_what_is_computed_depends_on_the_device(wanted, on_cpu, on_gpu):
    assert chosen_formulation(wanted, "cpu") is on_cpu
    assert chosen_formulation(wanted, "gpu") is on_gpu


@pytest.mark.parametrize("kind", ["normal", "few values", "zeros"])
def test_the_pool_and_its_gradient_are_the_plain_ones_to_the_bit(kind):
    """Nothing is summed, so nothing is rounded; of few values most windows tie, of zeros all."""
    rng = np.random.default_rng(0)
    draw = {
        "normal": lambda size: rng.normal(size=size),
        "few values": lambda size: rng.integers(-1, 2, size),
        "zeros": np.zeros,
    }[kind]
    with exact("float64", CPU):
        features = jnp.array(draw((2, 6, 10, 3)), dtype="float64")
        slope = jnp.array(rng.normal(size=(2, 3, 5, 3)), dtype="float64")
        found = [
            (pooled, *pull(slope)) for pooled, pull in (jax.vjp(p, features) for p in (max_pool, max_pool_by_choice))
        ]
    for plain, ours in zip(*found, strict=True):
        assert np.asarray(ours).tobytes() == np.asarray(plain).tobytes()


def test_the_pool_keeps_a_nan():
    features = jnp.zeros((1, 4, 4, 1)).at[0, 1, 2, 0].set(jnp.nan)
    assert np.isnan(max_pool_by_choice(features)).tolist() == [[[[False], [True]], [[False], [False]]]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_loss_and_its_gradient_are_optaxs_to_the_bit(dtype):
    def by_gather(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    rng = np.random.default_rng(0)
    with exact(dtype, CPU):
        labels = jnp.array(rng.integers(0, 10, 33), dtype="int32")
        for scale in (1, 100):
            logits = jnp.array(scale * rng.normal(size=(33, 10)), dtype=dtype)
            ours, theirs = (jax.value_and_grad(loss)(logits, labels) for loss in (mean_cross_entropy, by_gather))
            for found, expected in zip(ours, theirs, strict=True):
                assert np.asarray(found).tobytes() == np.asarray(expected).tobytes()


@pytest.mark.parametrize(("pixels", "batch"), [("random", 4), ("flat", 7)])
def test_windowed_trains_as_plain_does(pixels, batch, small):
    """On the CPU, where both can be run. Of flat images the four of every window tie but for rounding."""
    images = (
        small.train_images if pixels == "random" else np.stack([np.full((32, 32, 3), p, np.uint8) for p in (0, 255)])
    )
    labels = small.train_labels[: len(images)]
    plan = np.arange(5 * batch, dtype=np.int32).reshape(5, batch) % len(images)
    found = []
    for formulation in (PLAIN, WINDOWED):
        side = JaxImplementation(formulation=formulation)
        state = side.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
        data = side.place(state, images, labels)
        state, losses = side.run(state, data, plan)
        trace = side.observe(state, data, plan[0])[1]
        found.append((losses, side.weights(state), side.momentum(state), trace.gradients, trace.activations))
    assert f"{WINDOWED.name}, CPU" in side.describe(state)
    (plain_losses, *plain), (losses, *ours) = found
    assert loss_differences(losses, plain_losses).max() < ROUNDING
    for a, b in zip(ours, plain, strict=True):
        assert largest_gap(a, b).difference < ROUNDING


def test_nothing_is_set_apart_on_a_gpu(monkeypatch):
    def calls():
        double = apart(lambda x: 2 * x)
        return jax.jit(lambda x: double(x) + 1).lower(jnp.ones(3)).as_text().count("inlineable")

    assert calls()
    monkeypatch.setattr(apart_module, "_on_cpu", lambda: False)
    assert not calls()


def test_where_a_program_is_traced_for_is_known():
    with jax.default_device(CPU):
        assert apart_module._on_cpu()
    assert apart_module._on_cpu() == (jax.default_backend() == "cpu")
    with jax.default_device("gpu"):
        assert not apart_module._on_cpu()
