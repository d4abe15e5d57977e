"""Normalisations with another epsilon, of both frameworks' own layers and of made-up ones."""

import flax.linen
import jax
import numpy as np
import pytest
import torch
from torch import nn

from parity.explain.normalisation import other_epsilon
from tests.explain.own import checked, jax_side, torch_side

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 6, 4, 4)) * (1 + np.arange(5)[:, None, None, None]) + RNG.normal(size=(1, 6, 1, 1))

OF = {
    "a layer": lambda x: x.var(axis=(1, 2, 3)),
    "the last axis": lambda x: x.var(axis=3, keepdims=True),
    "a batch": lambda x: x.var(axis=(0, 2, 3)),
    "groups": lambda x: x.reshape(5, 3, -1).var(axis=2),
    "root mean squares": lambda x: np.square(x).mean(axis=3),
}
FORM = {
    "the sum": lambda total: total,
    "the root": np.sqrt,
    "the inverse root": lambda total: 1 / np.sqrt(total),
}


@pytest.mark.parametrize("moment", OF)
@pytest.mark.parametrize("form", FORM)
def test_an_epsilon_from_what_is_recorded_on_the_way(moment, form):
    v = OF[moment](X)
    first, second = [X, FORM[form](v + 1e-5)], [X - 1, 1 / np.sqrt(v.ravel()[::-1] + 1e-3)]
    a, b, residual = other_epsilon([X], first, second)
    assert (a, b) == (pytest.approx(1e-5, rel=1e-6), pytest.approx(1e-3, rel=1e-6))
    assert residual < 1e-15


def test_the_moment_itself_is_no_sum():
    """It is recorded on the way too; what rounding has made of it is no epsilon."""
    v = OF["a layer"](X)
    a, b, _ = other_epsilon([X], [v * (1 + 2e-16), v + 1e-5], [v * (1 + 2e-15), v + 1e-6])
    assert (a, b) == (pytest.approx(1e-5, rel=1e-6), pytest.approx(1e-6, rel=1e-6))


def test_equal_epsilons_are_no_cause():
    v = OF["a layer"](X)
    assert other_epsilon([X], [v + 1e-5], [1 / np.sqrt(v + 1e-5)]) is None


@pytest.mark.parametrize(
    "second",
    [
        lambda v: v * (1 + 1e-9) + 1e-3,  # not to rounding
        lambda v: v - 1e-3,  # no epsilon is negative
        lambda v: np.append(v[:-1], v[-1] + 1.0) + 1e-3,  # one of them differs
        lambda v: v[:3] + 1e-3,
    ],
)
def test_what_no_epsilon_predicts_is_none(second):
    v = OF["a layer"](X)
    assert other_epsilon([X], [v + 1e-5], [second(v)]) is None


def test_two_elements_would_show_an_epsilon_by_chance():
    v = OF["a layer"](X)[:2]
    assert other_epsilon([X[:2]], [v + 1e-5], [v + 1e-3]) is None


DATA = (RNG.normal(size=(64, 12)).astype(np.float32), RNG.integers(0, 3, 64))


def normalising(epsilon):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 16), nn.LayerNorm(16, eps=epsilon), nn.ReLU(), nn.Linear(16, 3))
    return torch_side(net, DATA)


def ported(epsilon):
    layers = [flax.linen.Dense(16), flax.linen.LayerNorm(epsilon=epsilon), jax.nn.relu, flax.linen.Dense(3)]
    return jax_side(flax.linen.Sequential(layers), DATA)


@pytest.mark.parametrize("swapped", [False, True])
def test_flaxs_default_beside_torchs_is_named(swapped):
    sides = [normalising(1e-5), ported(1e-6)]
    found = checked(*(sides[::-1] if swapped else sides), names="ba" if swapped else "ab")
    (cause,) = found.explanation.causes
    assert (cause.key, cause.side) == ("other-epsilon", "a" if swapped else "b")
    told = "an epsilon of 1e-05 where b has 1e-06" if swapped else "an epsilon of 1e-06 where a has 1e-05"
    assert told in cause.sentence


def test_with_torchs_epsilon_the_port_matches():
    assert checked(normalising(1e-5), ported(1e-5)).finding is None
