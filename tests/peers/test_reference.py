"""The compiled reference: ties, batches of any size, losses that are no longer finite, its vectors, its layout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from parity.compare import largest_gap, loss_differences
from parity.contract import SGD, initial_weights
from parity.oracle import impl as oracle
from tests.oracle.test_ties import BOUND as TIES_BOUND
from tests.oracle.test_ties import KINDS, gradients
from tests.peers.programs import dataset, plan, train
from tests.peers.test_peers import BOUNDS
from tests.test_sgd_agreement import sgds

numba = pytest.importorskip("numba", reason="numba is not installed: pip install -e '.[bench]'")

from parity_peers.reference import impl  # noqa: E402  after the skip
from parity_peers.reference.layout import from_canonical, to_canonical  # noqa: E402
from parity_peers.reference.simd import LANES, load_tile, pool, store, store_sums  # noqa: E402


@pytest.mark.parametrize("kind", KINDS)
def test_ties_are_decided_as_the_frameworks_do(kind):
    """Pools with several maxima, ReLUs at exactly 0; tests/oracle/test_ties.py shows that another choice would show."""
    assert largest_gap(gradients(oracle, kind), gradients(impl, kind)).difference < TIES_BOUND


@settings(max_examples=20)
@given(sgd=sgds(largest_lr=0.02))
def test_it_trains_as_the_oracle_for_any_arguments(sgd):
    (losses, weights), (theirs, tensors) = (train(side, sgd, "float64") for side in (impl, oracle))
    assert loss_differences(losses, theirs).max() < BOUNDS["float64"]
    assert largest_gap(weights, tensors).difference < BOUNDS["float64"]


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 16, 33])
def test_any_size_of_batch(batch):
    """The linear layers take four samples at a time, of which the last may be unused."""
    rows = plan().ravel()[: 2 * batch].reshape(2, batch)
    found = []
    for side in (impl, oracle):
        state = side.start(initial_weights(1), SGD(lr=0.01), dtype="float64", device="cpu")
        state, losses = side.run(state, side.place(state, *dataset()), rows)
        found.append((losses, side.weights(state), side.momentum(state)))
    (losses, *tensors), (theirs, *expected) = found
    assert loss_differences(losses, theirs).max() < BOUNDS["float64"]
    for ours, others in zip(tensors, expected, strict=True):
        assert largest_gap(ours, others).difference < BOUNDS["float64"]


def test_where_training_diverges_it_does_so_at_the_same_step():
    found = []
    for side in (impl, oracle):
        state = side.start(initial_weights(0), SGD(lr=1e30), dtype="float64", device="cpu")
        found.append(side.run(state, side.place(state, *dataset()), plan())[1])
    np.testing.assert_array_equal(*map(np.isfinite, found))
    assert 0 < np.isfinite(found[0]).sum() < 20


def test_a_run_of_no_steps_leaves_the_state_fresh():
    """The next step is then a first one, whose buffer dampening does not touch."""
    sgd = SGD(dampening=0.5)
    state = impl.start(initial_weights(0), sgd, dtype="float64", device="cpu")
    data = impl.place(state, *dataset())
    empty, losses = impl.run(state, data, plan()[:0])
    assert losses.shape == (0,)
    for ours, others in zip(*(impl.run(one, data, plan()[:1]) for one in (empty, state)), strict=True):
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, others)
        else:
            assert largest_gap(impl.momentum(ours), impl.momentum(others)).difference == 0
    assert impl.momentum(impl.start(initial_weights(0), SGD(momentum=0.0), dtype="float64", device="cpu")) == {}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_layout_goes_there_and_back(dtype):
    weights = {name: value.astype(dtype) for name, value in initial_weights(3).items()}
    arrays = from_canonical(weights, dtype)
    back = to_canonical(arrays)
    for name, value in weights.items():
        np.testing.assert_array_equal(back[name], value)
        assert back[name].dtype == dtype
    # What only fills a vector up is 0.
    used = sum(value.size for value in weights.values())
    assert sum(np.count_nonzero(array) for array in arrays) <= used


@numba.njit
def pool_of(rows, values, places):
    upper, lower = load_tile(rows, 0, LANES, 2), load_tile(rows, 2 * LANES, LANES, 2)
    pooled, winners = pool(upper, lower, 3, 96)
    store(values, 0, LANES, pooled)
    store(places, 0, LANES, winners)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_pool_takes_the_first_maximum_and_keeps_nan(dtype):
    rng = np.random.default_rng(0)
    windows = rng.integers(-2, 3, (4, LANES)).astype(dtype)
    windows[:, 0], windows[:, 1], windows[2, 2], windows[0, 3] = 1, -1, np.nan, np.nan
    values, places = np.empty(LANES, dtype), np.empty(LANES, np.int16)
    pool_of(windows, values, places)
    np.testing.assert_array_equal(values, np.maximum(windows.max(axis=0), 0))
    first = np.argmax(windows, axis=0)  # the first; of NaN too
    np.testing.assert_array_equal(places, np.array([0, 3, 96, 99])[first])


@numba.njit
def sums_of(rows, out):
    store_sums(out, 0, 3, load_tile(rows, 0, LANES, 4))


def test_sums_are_added_row_by_row():
    rows = np.random.default_rng(0).integers(0, 9, (4, LANES)).astype(np.float64)
    out = np.ones((2, 3))
    sums_of(rows, out)
    np.testing.assert_array_equal(out, [[*(1 + rows[:2].sum(axis=1)), 1], [*(1 + rows[2:].sum(axis=1)), 1]])
