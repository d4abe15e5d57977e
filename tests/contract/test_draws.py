import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from parity.contract import Stream

seeds = st.integers(0, 2**64)


@given(seed=seeds, size=st.integers(0, 300))
def test_a_permutation_holds_every_number_once(seed, size):
    permutation = Stream(seed, 1).permutation(size)
    assert permutation.dtype == np.int32
    assert sorted(permutation.tolist()) == list(range(size))


@given(seed=seeds, below=st.integers(1, 2**31 - 1))
def test_integers_are_in_range(seed, below):
    drawn = Stream(seed, 1).integers(below, 50)
    assert (drawn >= 0).all()
    assert (drawn < below).all()


@given(seed=seeds)
def test_purposes_are_independent_streams(seed):
    assert not np.array_equal(Stream(seed, 1).words(4), Stream(seed, 2).words(4))


def test_a_stream_is_the_same_everywhere():
    """NumPy promises PCG64's words; these were drawn with NumPy 2.4 on x86-64."""
    assert Stream(0, 1).words(2).tolist() == [16412783775159424549, 10277383025879800780]
    assert Stream(0, 1).permutation(6).tolist() == [4, 5, 1, 2, 0, 3]
