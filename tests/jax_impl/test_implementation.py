import json
import os
import subprocess
import sys

import jax
import jaxlib.version
import numpy as np
import pytest

import jax_impl
from jax_impl.device import exact, xla_flags
from jax_impl.implementation import _run_vectorised
from jax_impl.train import train_steps
from parity.compare import BOUND, largest_gap, loss_differences, relative_difference
from parity.contract import CNN_PARAMETERS, SGD, InputError, initial_weights

PLAN = np.arange(20, dtype=np.int32).reshape(5, 4)
SIDE = jax_impl.impl


@pytest.fixture(params=["float32", "float64"])
def started(request, small):
    state = SIDE.start(initial_weights(0), SGD(), dtype=request.param, device="cpu")
    return state, SIDE.place(state, small.train_images, small.train_labels), request.param


def test_the_plain_name_chooses_by_device():
    assert SIDE.devices()[-1] == "cpu"
    for side, path in (
        (SIDE, "convolutions as products"),
        (jax_impl.fast, "convolutions as products"),
        (jax_impl.plain, "XLA convolutions"),
    ):
        state = side.start(initial_weights(0), SGD(), dtype="float32", device="cpu")
        assert f"{path}, CPU" in side.describe(state)


def test_everything_is_in_the_runs_dtype(started):
    state, data, dtype = started
    after, losses = SIDE.run(state, data, PLAN)
    assert losses.dtype == dtype
    assert SIDE.logits(after, data).dtype == dtype
    for tensors in (SIDE.weights(after), SIDE.momentum(after)):
        assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(dtype)}
        assert {name: tensor.shape for name, tensor in tensors.items()} == dict(CNN_PARAMETERS)


@pytest.mark.parametrize(("dtype", "other"), [("float32", "f64"), ("float64", "f32")])
def test_no_other_precision_slips_in(small, dtype, other):
    """Schedules that divide a count, losses and tables: any of them may compute in another precision unseen."""
    sgd = SGD(dampening=0.1, weight_decay=0.01, maximize=True)
    state = SIDE.start(initial_weights(0), sgd, dtype=dtype, device="cpu")
    data = SIDE.place(state, small.train_images, small.train_labels)
    with exact(dtype, state.device):
        arguments = (state.carry, state.table, data.images, data.labels, PLAN)
        program = str(train_steps.default.trace(*arguments, rates=None, sgd=sgd, formulation=state.formulation).jaxpr)
    assert f"{dtype[0]}{dtype[5:]}[" in program
    # A weak-typed constant may pass by, but no array and no result.
    assert f":{other}[" not in program


def test_a_run_leaves_its_state_and_what_was_read_from_it(started):
    state, data, _ = started
    once, _ = SIDE.run(state, data, PLAN)
    weights = SIDE.weights(once)
    kept = {name: value.copy() for name, value in weights.items()}
    twice, losses = SIDE.run(once, data, PLAN)
    again, repeated = SIDE.run(once, data, PLAN)
    np.testing.assert_array_equal(losses, repeated)
    for name, value in weights.items():
        np.testing.assert_array_equal(value, kept[name])
        np.testing.assert_array_equal(SIDE.weights(twice)[name], SIDE.weights(again)[name])
        assert not np.array_equal(SIDE.weights(twice)[name], value)
        assert value.flags.owndata


def test_starting_and_placing_copy(small):
    """JAX keeps reading NumPy memory of the right dtype and alignment unless told to copy."""
    weights = {name: value.astype(np.float64) for name, value in initial_weights(0).items()}
    state = SIDE.start(weights, SGD(), dtype="float64", device="cpu")
    images, labels = small.train_images.copy(), small.train_labels.astype(np.int32)
    data = SIDE.place(state, images, labels)
    before = SIDE.logits(state, data)
    for value in weights.values():
        value[:] = 7
    images[:] = 0
    labels[:] = 0
    np.testing.assert_array_equal(SIDE.logits(state, data), before)
    np.testing.assert_array_equal(np.asarray(data.labels), small.train_labels)


def test_momentum_is_zeros_at_first_and_nothing_without():
    first = SIDE.momentum(SIDE.start(initial_weights(0), SGD(), dtype="float32", device="cpu"))
    assert {name: value.shape for name, value in first.items()} == dict(CNN_PARAMETERS)
    assert not any(value.any() for value in first.values())
    assert SIDE.momentum(SIDE.start(initial_weights(0), SGD(momentum=0.0), dtype="float32", device="cpu")) == {}


def test_refuses_cuda_where_there_is_none():
    if "cuda" in SIDE.devices():
        pytest.skip("CUDA is here")
    with pytest.raises(InputError, match="device cuda: JAX has no such device here; use cpu"):
        SIDE.start(initial_weights(0), SGD(), dtype="float32", device="cuda")


def test_exact_puts_the_callers_settings_back():
    before = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision, jax.config.jax_numpy_dtype_promotion
    with exact("float64", jax.devices("cpu")[0]):
        assert jax.config.jax_enable_x64
        assert jax.config.jax_default_matmul_precision == "highest"
        assert jax.config.jax_numpy_dtype_promotion == "strict"
    after = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision, jax.config.jax_numpy_dtype_promotion
    assert after == before


@pytest.mark.parametrize("batch_size", [1, 7, 64, 130])
def test_plain_and_fast_train_alike(batch_size, small):
    """130 are pieces of 44, 44 and 42; 601 images to evaluate are a batch of 500 and what is left.

    The bound is that of a verdict on two float64 runs of up to 200 steps.
    """
    plan = np.arange(5 * batch_size, dtype=np.int32).reshape(5, batch_size) % len(small.train_labels)
    images = np.resize(small.test_images, (601, 32, 32, 3))
    results = []
    for side in (jax_impl.plain, jax_impl.fast):
        state = side.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
        after, losses = side.run(state, side.place(state, small.train_images, small.train_labels), plan)
        logits = side.logits(after, side.place(after, images, np.zeros(601)))
        assert logits.shape == (601, 10)
        results.append((losses, side.weights(after), logits))
    (losses, weights, logits), (other_losses, other_weights, other_logits) = results
    assert loss_differences(losses, other_losses).max() < BOUND
    assert largest_gap(weights, other_weights).difference < BOUND
    assert relative_difference(logits, other_logits) < BOUND


PRINT_ENVIRONMENT = """
import json, os, jax_impl
print(json.dumps([os.environ["XLA_FLAGS"], os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"]]))
"""


DETERMINISTIC, EMITTERS = "--xla_gpu_deterministic_ops", "--xla_cpu_use_fusion_emitters"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", f"{DETERMINISTIC}=true {EMITTERS}=false"),
        ("--xla_dump_to=x", f"--xla_dump_to=x {DETERMINISTIC}=true {EMITTERS}=false"),
        (f"{DETERMINISTIC}=false", f"{DETERMINISTIC}=false {EMITTERS}=false"),
        (f"{EMITTERS}=true", f"{EMITTERS}=true {DETERMINISTIC}=true"),
    ],
)
def test_the_users_flags_stay_as_they_are(flags, expected):
    assert xla_flags(flags, release="0.10.2") == expected


def test_a_flag_is_set_for_releases_that_know_it_alone():
    """XLA ends the process at a flag that it does not know."""
    assert xla_flags("", release="0.11.2") == f"{DETERMINISTIC}=true"


@pytest.mark.parametrize("flags", ["", "--xla_cpu_enable_fast_math=false"])
def test_importing_prepares_xla(flags):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("XLA")} | {"XLA_FLAGS": flags}
    command = [sys.executable, "-c", PRINT_ENVIRONMENT]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == [xla_flags(flags, release=jaxlib.version.__version__), "false"]


def test_momentum_given_to_a_fresh_state_is_no_first_step(small):
    """Dampening leaves out the very first step alone."""
    begun = SIDE.start(initial_weights(0), SGD(dampening=0.5), dtype="float64", device="cpu")
    data = SIDE.place(begun, small.train_images, small.train_labels)
    begun, _ = SIDE.run(begun, data, PLAN[:3])
    fresh = SIDE.start(initial_weights(0), SGD(dampening=0.5), dtype="float64", device="cpu")
    fresh = SIDE.restore(fresh, SIDE.weights(begun), SIDE.momentum(begun))
    (went_on, _), (began, _) = (SIDE.run(state, data, PLAN[3:5]) for state in (begun, fresh))
    for name, value in SIDE.momentum(went_on).items():
        np.testing.assert_array_equal(SIDE.momentum(began)[name], value, err_msg=name)


@pytest.mark.parametrize("side", [jax_impl.fast, jax_impl.plain])
@pytest.mark.parametrize("train", ["run_many", "vectorised"])
def test_many_members_train_as_each_would_alone(side, train, small):
    """In float64, to rounding: the vectorised program, for a GPU, groups its sums otherwise."""
    data, states, alone = None, [], []
    for seed in range(3):
        state = side.start(initial_weights(seed), SGD(dampening=0.1), dtype="float64", device="cpu")
        data = data or side.place(state, small.train_images, small.train_labels)
        states.append(state)
        alone.append(side.run(state, data, PLAN))
    moved, losses = (side.run_many if train == "run_many" else _run_vectorised)(states, data, PLAN)
    assert losses.shape == (3, len(PLAN))
    for number, (expected, expected_losses) in enumerate(alone):
        np.testing.assert_allclose(losses[number], expected_losses, rtol=1e-12)
        for read in (side.weights, side.momentum):
            for name, value in read(expected).items():
                np.testing.assert_allclose(read(moved[number])[name], value, rtol=0, atol=1e-12 * np.abs(value).max())


def test_placing_copies_before_it_returns():
    """JAX may read the caller's memory later; of placements like these, one in seven used to be changed."""
    state = SIDE.start(initial_weights(0), SGD(), dtype="float32", device="cpu")
    images, labels = np.full((4000, 32, 32, 3), 9, np.uint8), np.full(4000, 3)
    for _ in range(50):
        given = images.copy(), labels.copy()
        data = SIDE.place(state, *given)
        for array in given:
            array[...] = 0
        assert (np.asarray(data.images).view(np.uint8) == 9).all()
        assert (np.asarray(data.labels) == 3).all()


@pytest.mark.parametrize("side", [jax_impl.fast, jax_impl.plain, SIDE])
@pytest.mark.parametrize(
    ("images", "line"),
    [
        (np.zeros((2, 32, 32, 3), np.float32), "images float32: pixels are uint8, 0 to 255; give them before"),
        (np.zeros((2, 32, 32, 3), np.int64), "images int64: pixels are uint8"),
        (np.zeros((2, 3, 32, 32), np.uint8), r"images \(2, 3, 32, 32\): their shape is not \(N, 32, 32, 3\); give the"),
    ],
)
def test_refuses_images_that_are_no_pixels(side, images, line):
    """Packed into words, or looked up in a table, they would be others without a word."""
    state = side.start(initial_weights(0), SGD(), dtype="float32", device="cpu")
    with pytest.raises(InputError, match=line):
        side.place(state, images, np.zeros(2, np.int64))
