"""Projections estimate distances: without bias, with the spread that theory gives, and the same on every platform."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.contract import CNN_PARAMETERS
from parity.trace.projection import NUMBERS, Projection, Projector

DRAWS = 1000


def estimates(x):
    """|P x|^2 / |x|^2 for many independent P."""
    squares = [np.square(Projection.draw(f"tensor {k}", len(x))(x)).sum() for k in range(DRAWS)]
    return np.array(squares) / np.square(x).sum()


def test_the_squared_distance_is_spread_as_chi_square_with_64_degrees_of_freedom():
    x = np.random.default_rng(0).standard_normal(5000)
    chi = 64 * estimates(x)
    # Mean 64, variance 128, excess kurtosis 12 / 64: so the mean of n draws has standard error sqrt(128 / n), their
    # variance 128 sqrt(2 / n + 12 / (64 n)). Five of each.
    assert abs(chi.mean() - 64) < 5 * np.sqrt(128 / DRAWS)
    assert abs(chi.var(ddof=1) - 128) < 5 * 128 * np.sqrt((2 + 12 / 64) / DRAWS)
    # Wilson and Hilferty: the cube root of chi-square / 64 is normal, mean 1 - 2 / (9 64), variance 2 / (9 64). A tail
    # beyond 3 standard deviations holds 0.27 % of the draws, 2.7 of 1000; more than 12 have probability 1e-5.
    z = (np.cbrt(chi / 64) - (1 - 2 / 576)) / np.sqrt(2 / 576)
    assert (np.abs(z) > 3).sum() <= 12


@pytest.mark.parametrize("x", [np.exp(np.linspace(0, 20, 2000)), np.ones(65), np.r_[1.0, 1.0, np.zeros(998)]])
def test_there_is_no_bias_and_no_more_variance_whatever_the_tensor(x):
    found = estimates(x)
    # The variance is at most 2 / 64 for every x, so the mean's standard error at most sqrt(2 / 64 / n).
    assert abs(found.mean() - 1) < 5 * np.sqrt(2 / 64 / DRAWS)
    # The fourth power of a count sketch has heavier tails than chi-square: two equal elements meet in one bucket with
    # probability 1/64, and give 0 or 2. The variance there is 1/64, its standard error under 3 / sqrt(64 n).
    assert found.var() < 2 / 64 + 5 * 3 / np.sqrt(64 * DRAWS)


@given(st.integers(65, 3000), st.integers(0, 10**6))
def test_a_single_element_is_measured_exactly(size, place):
    x = np.zeros(size)
    x[place % size] = 3.0
    assert np.square(Projection.draw("x", size)(x)).sum() == 9.0


@given(st.integers(65, 3000))
def test_every_element_counts_once(size):
    projection = Projection.draw("x", size)
    used = projection.order[projection.signs != 0]
    assert sorted(used.tolist()) == list(range(size))
    assert projection.order.shape == (NUMBERS, -(-size // NUMBERS))


def test_small_tensors_are_kept_as_they_are_and_large_ones_in_64_numbers():
    tensors = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones((64,), np.float32), "c": np.ones((5, 13))}
    projector = Projector({name: value.shape for name, value in tensors.items()})
    row = projector(tensors)
    assert row[projector.columns["a"]].tolist() == [0, 1, 2, 3, 4, 5]
    assert row[projector.columns["b"]].tolist() == [1] * 64
    assert projector.columns["c"] == slice(70, 134)
    assert len(row) == projector.width == 134


def test_the_cnn_takes_480_numbers():
    assert Projector(CNN_PARAMETERS).width == 7 * 64 + 6 + 16 + 10


def test_the_projection_is_the_same_for_good():
    """Traces of different years are compared: these numbers must never change within a format version."""
    projection = Projection.draw("fc1.weight", 48000)
    assert projection.order[:3, 0].tolist() == [15320, 44423, 35523]
    assert projection.signs[0, :8].tolist() == [-1, 1, 1, -1, 1, 1, -1, 1]


def test_tensors_of_other_names_have_other_projections():
    a, b = Projection.draw("a", 1000), Projection.draw("b", 1000)
    assert not np.array_equal(a.order, b.order)
    assert not np.array_equal(a.signs, b.signs)
