"""The programs that the other tests compare are right themselves."""

import numpy as np
import pytest

from parity.contract import SGD, Implementation, SelfContained
from tests.matching import programs as p

PROGRAMS = [
    p.mlp_a(),
    p.mlp_b(),
    p.conv_a(),
    p.conv_b(),
    p.attention_a(),
    p.attention_a(merged=True),
    p.attention_b(packed=True),
    p.norm_a(),
    p.norm_b(),
]


def loss(program, weights):
    state = program.start(weights, SGD(), dtype="float64", device="cpu")
    return float(program.observe(state, program.arrays, np.arange(5))[1].loss["loss"])


@pytest.mark.parametrize("program", PROGRAMS)
def test_gradients_are_those_of_finite_differences(program):
    weights = p.distinguishable(program.initial)
    state = program.start(weights, SGD(), dtype="float64", device="cpu")
    trace = program.observe(state, program.arrays, np.arange(5))[1]
    for i, (name, gradient) in enumerate(trace.gradients.items()):
        direction = p.draw(i, *gradient.shape)
        up, down = (loss(program, {**weights, name: weights[name] + e * direction}) for e in (1e-6, -1e-6))
        # Central differences of step 1e-6 are good to about 1e-10 / 1e-6.
        assert np.sum(gradient * direction) == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("program", PROGRAMS)
def test_they_follow_the_protocol(program):
    assert isinstance(program, Implementation)
    assert isinstance(program, SelfContained)
