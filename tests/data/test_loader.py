import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.contract import InputError
from parity.data import Loader

sizes = st.integers(1, 60)


@st.composite
def loaders(draw):
    size = draw(sizes)
    return Loader(size=size, batch_size=draw(st.integers(1, size)), seed=draw(st.integers(0, 1000)))


def steps(plans):
    """The rows of every step, in order."""
    return [rows.tolist() for plan in plans for rows in plan]


@given(loader=loaders(), epoch=st.integers(0, 5), length=st.none() | st.integers(1, 9))
def test_an_epoch_sees_every_row_once_in_order(loader, epoch, length):
    plans = list(loader.plans(epoch, length=length))
    assert all(plan.dtype == np.int32 and plan.ndim == 2 and len(plan) for plan in plans)
    seen = steps(plans)
    assert sum(seen, []) == loader.order(epoch).tolist()  # noqa: RUF017  short lists
    assert sorted(loader.order(epoch)) == list(range(loader.size))
    assert len(seen) == loader.steps_per_epoch
    assert {len(rows) for rows in seen[:-1]} <= {loader.batch_size}
    assert len(seen[-1]) == (loader.size % loader.batch_size or loader.batch_size)


@given(loader=loaders(), length=st.integers(1, 9))
def test_pieces_are_no_longer_than_asked(loader, length):
    assert max(len(plan) for plan in loader.plans(0, length=length)) <= length


@given(loader=loaders(), data=st.data())
def test_resumes_at_any_step(loader, data):
    start = data.draw(st.integers(0, loader.steps_per_epoch))
    assert steps(loader.plans(2, start=start, length=3)) == steps(loader.plans(2))[start:]


def test_epochs_and_seeds_shuffle_differently():
    loader = Loader(size=50, batch_size=4, seed=0)
    assert steps(loader.plans(0)) != steps(loader.plans(1))
    assert steps(loader.plans(0)) != steps(Loader(size=50, batch_size=4, seed=1).plans(0))
    assert steps(loader.plans(1)) == steps(Loader(size=50, batch_size=4, seed=0).plans(1))


def test_batches_are_what_the_plans_stand_for(small):
    loader = Loader(size=102, batch_size=4, seed=5)
    batches = list(loader.batches(small.train_images, small.train_labels, 1, dtype="float64", start=24))
    rows = steps(loader.plans(1))[24:]
    assert [len(labels) for _, labels in batches] == [4, 2]
    for (images, labels), row in zip(batches, rows, strict=True):
        expected = (small.train_images[row].transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, small.train_labels[row])


@pytest.mark.parametrize("batch_size", [-1, 0, 11])
def test_refuses_a_batch_size_out_of_range(batch_size):
    with pytest.raises(InputError, match=f"batch_size {batch_size}: the training set has 10 images; give 1 to 10"):
        Loader(size=10, batch_size=batch_size, seed=0)


def test_refuses_a_negative_seed():
    with pytest.raises(InputError, match="seed -1"):
        Loader(size=10, batch_size=1, seed=-1)
