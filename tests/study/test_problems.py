from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.study.decay import PROBLEM as SHIFTED
from parity.study.problems import Quadratic, Rosenbrock, distances, landscape

PROBLEMS = (Quadratic(condition=20.0), Rosenbrock(), SHIFTED)
numbers = st.floats(-2, 2)


@pytest.mark.parametrize("problem", PROBLEMS)
@given(x=numbers, y=numbers)
def test_the_gradient_is_the_values_slope(problem, x, y):
    p, h = np.array([x, y]), 1e-5
    slopes = [(problem.value(p + d) - problem.value(p - d)) / (2 * h) for d in h * np.eye(2)]
    # Of the difference quotient: h^2 / 6 times a third derivative below 5,000, and rounding of values below 4,000 / h.
    np.testing.assert_allclose(problem.gradient(p), slopes, rtol=0, atol=5000 * h**2 / 6 + 4000 * 2.0**-52 / h)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_optimum_is_one(problem):
    assert problem.value(problem.optimum) == 0
    np.testing.assert_array_equal(problem.gradient(problem.optimum), 0)
    assert problem.value(problem.start) > 0


@pytest.mark.parametrize("problem", PROBLEMS)
def test_many_points_at_once_are_each_by_itself(problem):
    points = np.random.default_rng(0).normal(size=(4, 3, 2))
    for index in np.ndindex(4, 3):
        assert problem.value(points)[index] == problem.value(points[index])
        np.testing.assert_array_equal(problem.gradient(points)[index], problem.gradient(points[index]))


def test_a_landscape_has_rows_of_equal_y():
    ground = landscape(Quadratic(condition=1e6), (-1.0, 1.0), (-2.0, 2.0))
    assert ground.z.shape == (len(ground.y), len(ground.x))
    assert (ground.z[0] > 1e6).all()
    assert ground.z[len(ground.y) // 2].max() == 0.5


def test_distances_of_a_path_that_is_climbed_do_not_overflow():
    assert distances(Quadratic(), np.array([[3e200, 4e200]]))[0] == pytest.approx(5e200)
