import numpy as np
import pytest

from parity.compare import Spread, compare_distribution, envelope
from parity.compare.envelope import student_t


def test_the_envelope_never_shrinks():
    spreads = [
        Spread(steps=step, members=members) for step, members in ((1, (1.0, 2.0)), (2, (0.5, 1.0)), (3, (3.0, 0)))
    ]
    assert envelope(spreads) == [2.0, 2.0, 3.0]
    assert envelope([]) == []


def test_a_value_like_the_ensembles_is_inside():
    figure = compare_distribution("accuracy", 0.57, [0.56, 0.58, 0.57, 0.575, 0.565], resolution=1e-4)
    assert figure.inside
    assert figure.t == pytest.approx(0.0, abs=1e-9)


def test_a_value_far_from_the_ensembles_is_outside():
    runs = [0.56, 0.58, 0.57, 0.575, 0.565]
    deviation = np.std(runs, ddof=1) * np.sqrt(1 + 1 / 5)
    just_inside, just_outside = (0.57 - factor * 8.6103 * deviation for factor in (0.999, 1.001))
    assert compare_distribution("accuracy", just_inside, runs, resolution=1e-4).inside
    assert not compare_distribution("accuracy", just_outside, runs, resolution=1e-4).inside
    assert not compare_distribution("accuracy", 0.57 + 1.001 * 8.6103 * deviation, runs, resolution=1e-4).inside


def test_runs_that_agree_by_chance_have_the_resolutions_deviation():
    assert compare_distribution("accuracy", 0.501, [0.5] * 5, resolution=1e-3).inside
    assert not compare_distribution("accuracy", 0.52, [0.5] * 5, resolution=1e-3).inside


def test_more_agreement_than_the_ensembles_is_fine():
    runs = [0.80, 0.81, 0.805, 0.795]
    assert compare_distribution("agreement", 1.0, runs, resolution=1e-4, more_is_fine=True).inside
    assert not compare_distribution("agreement", 0.6, runs, resolution=1e-4, more_is_fine=True).inside
    assert not compare_distribution("agreement", 1.0, runs, resolution=1e-4).inside


def test_students_quantiles_are_students():
    """By the integral of the density, on a fine grid: two-sided 0.1 % lies beyond each."""
    from math import gamma, pi, sqrt

    for freedom in (2, 4, 8, 14, 40):
        density_at_0 = gamma((freedom + 1) / 2) / (sqrt(freedom * pi) * gamma(freedom / 2))
        t = np.linspace(0, student_t(freedom, 1e-3), 200_001)
        inside = 2 * np.trapezoid(density_at_0 * (1 + t**2 / freedom) ** (-(freedom + 1) / 2), t)
        assert inside == pytest.approx(0.999, abs=2e-6)


def test_one_of_many_figures_may_be_further_off():
    """At 99.99 % each, ten figures pass together as one does at 99.9 %."""
    runs = [0.56, 0.58, 0.57, 0.575, 0.565]
    alone, one_of_ten = (compare_distribution("accuracy", 0.62, runs, resolution=1e-4, among=n) for n in (1, 10))
    assert one_of_ten.limit == pytest.approx(15.544, abs=1e-3)
    assert alone.limit == pytest.approx(8.610, abs=1e-3)


def test_the_allowed_values_are_those_inside():
    figure = compare_distribution("accuracy", 0.5, [0.56, 0.58, 0.57, 0.575, 0.565], resolution=1e-4)
    for value, inside in ((figure.lowest, True), (figure.highest, True)):
        for nudge in (0.9999, 1.0001):
            moved = 0.57 + (value - 0.57) * nudge
            again = compare_distribution("accuracy", moved, figure.ensemble, resolution=1e-4)
            assert again.inside == (inside and nudge < 1)


def test_two_runs_prove_nothing():
    assert not compare_distribution("accuracy", 0.1, [0.70, 0.71], resolution=1e-4).judged
    assert compare_distribution("accuracy", 0.1, [0.70, 0.71, 0.705, 0.7], resolution=1e-4).judged
