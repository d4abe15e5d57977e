import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity.matching.signatures import aligned_distance, same, signature
from tests.matching.programs import draw

values = hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=5), elements=st.floats(-1e3, 1e3))


@given(values, st.randoms(use_true_random=False))
def test_a_tensor_is_the_same_in_any_layout(value, random):
    axes = list(range(value.ndim))
    random.shuffle(axes)
    assert same(signature(value), signature(value.transpose(axes).reshape(-1)))


def test_rounding_makes_no_difference_and_a_wrong_formula_does():
    value = draw(1, 4, 5, 6)
    noise = 1 + 1e-15 * draw(2, 4, 5, 6)
    assert same(signature(value), signature((value * noise).transpose(2, 0, 1)))
    assert not same(signature(value), signature(value * (1 + 1e-8)))


def test_one_wrong_element_of_many_shows():
    value = draw(1, 10000)
    wrong = value.copy()
    wrong[7] += 1e-6  # 1e-6 / sqrt(10000) of the norm
    assert not same(signature(value), signature(wrong))


def test_elements_that_cancelled_may_differ_by_the_error_of_what_they_are_left_of():
    value = draw(1, 100)
    value[:5] = 1e-17
    other = value.copy()
    other[:5] = -3e-17
    assert same(signature(value), signature(other))


@pytest.mark.parametrize("share", [0.4, 0.6])
@pytest.mark.parametrize("mask", [-1e9, -1e30, float(np.finfo(np.float64).min), -np.inf])
def test_a_mask_hides_no_difference_of_the_other_elements(share, mask):
    scores, wrong = draw(1, 8, 50), draw(1, 8, 50) * 1.001
    masked = np.arange(50) < share * 50
    a, b = (np.where(masked, mask, value) for value in (scores, wrong))
    assert same(signature(a), signature(a.T))
    assert not same(signature(a), signature(b))


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_a_mask_that_is_added_hides_no_difference_either(share):
    added = np.where(np.arange(50) < share * 50, -1e9, 0.0)
    a, b = draw(1, 8, 50) + added, draw(1, 8, 50) * 1.001 + added
    assert same(signature(a), signature(a + 0.0))
    assert not same(signature(a), signature(b))


@pytest.mark.parametrize(
    ("value", "telling"),
    [
        (np.zeros((4, 5)), False),
        (np.full(20, 0.3), False),
        (np.full(20, 0.3) * (1 + 1e-16 * np.arange(20)), False),
        (np.array([0.0, 1.0] * 50), False),
        (np.array([0.1, 0.2, 0.3]), False),
        (np.array(0.7), False),
        (np.empty((0, 3)), False),
        (np.array([0.1, 0.2, 0.3, 0.4]), True),
        (draw(1, 3, 4), True),
    ],
)
def test_constants_masks_and_scalars_tell_nothing(value, telling):
    assert signature(value).telling is telling


def test_infinities_and_nan_are_counted():
    value = np.array([np.inf, -np.inf, np.nan, 1.0, 2.0])
    assert same(signature(value), signature(value[::-1]))
    assert not same(signature(value), signature(np.array([np.inf, np.inf, np.nan, 1.0, 2.0])))


def test_the_best_order_of_axes_is_found():
    a = draw(1, 3, 4, 5)
    distance, axes = aligned_distance(a, a.transpose(2, 0, 1) * 1.01)
    assert axes == (1, 2, 0)
    assert distance == pytest.approx(0.01 / 1.01)


def test_of_equal_axes_the_better_order_is_taken():
    a = draw(1, 4, 4)
    assert aligned_distance(a, a.T) == (0.0, (1, 0))


def test_other_shapes_are_compared_sorted():
    a = draw(1, 3, 4)
    assert aligned_distance(a, a.reshape(2, 6)) == (0.0, None)
    assert aligned_distance(a[None], a.T[:, None])[0] == 0.0
