import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity.compare import largest, largest_gap, loss_differences, momentum_gaps, relative_difference

arrays = hnp.arrays(np.float64, (3, 2), elements=st.floats(-1e300, 1e300))


@given(a=arrays, b=arrays)
def test_is_symmetric_and_at_most_two(a, b):
    difference = relative_difference(a, b)
    assert difference == relative_difference(b, a)
    assert 0 <= difference <= 2
    assert (difference == 0) == np.array_equal(a, b) or difference < 1e-150  # differences below the smallest float


@given(a=arrays)
def test_equal_arrays_do_not_differ(a):
    assert relative_difference(a, a.copy()) == 0


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_does_not_depend_on_the_scale(scale):
    a = np.array([3.0, 4.0]) * scale
    b = np.array([3.0, 4.5]) * scale
    assert relative_difference(a, b) == pytest.approx(0.5 / np.hypot(3, 4.5), rel=1e-15)


def test_a_permutation_and_a_sign_are_seen():
    """Means and signed sums would let both pass."""
    a = np.array([1.0, 2.0, -3.0])
    assert relative_difference(a, a[::-1]) > 1
    assert relative_difference(a, -a) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_never_agrees_with_itself(bad):
    a = np.array([1.0, bad])
    assert relative_difference(a, a) == np.inf
    assert loss_differences(a, a).tolist() == [0, np.inf]


def test_refuses_other_shapes_and_other_tensors():
    with pytest.raises(ValueError, match=r"shapes differ: \(1,\) and \(2,\)"):
        relative_difference(np.zeros(1), np.zeros(2))
    with pytest.raises(ValueError, match=r"tensors differ: \['b'\]"):
        largest_gap({"a": np.zeros(1)}, {"a": np.zeros(1), "b": np.zeros(1)})


def test_largest_gap_names_the_tensor():
    a = {"one": np.array([1.0]), "two": np.array([1.0]), "three": np.array([1.0])}
    b = {"one": np.array([1.0]), "two": np.array([1.5]), "three": np.array([1.1])}
    gap = largest_gap(a, b)
    assert gap is not None
    assert gap.tensor == "two"
    assert largest_gap({}, {}) is None


def test_loss_differences_are_relative_to_the_larger():
    a, b = np.array([2.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])
    assert loss_differences(a, b).tolist() == [0.5, 0, 1]


def test_a_loss_that_is_almost_nothing_is_compared_with_a_thousandth():
    """The losses of examples learnt by heart, apart by the last digit of outputs of size 1: no other program."""
    a, b = np.array([3.3e-16, 2e-6, 2e-3]), np.array([1.1e-16, 1e-6, 1e-3])
    np.testing.assert_allclose(loss_differences(a, b), [2.2e-13, 1e-3, 0.5], rtol=1e-12)


def test_a_side_without_momentum_stands_at_zero():
    buffers = {"p": np.ones(2)}
    gap = largest(momentum_gaps(buffers, {}))
    assert gap is not None
    assert gap.difference == 1
    assert largest(momentum_gaps({}, {})) is None
    equal = largest(momentum_gaps({"p": np.zeros(2)}, {}))
    assert equal is not None
    assert equal.difference == 0
