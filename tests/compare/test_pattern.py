"""What a difference looks like: named where it is a factor or weight decay, and nothing otherwise."""

import numpy as np
import pytest

from parity.compare import Stage, describe_difference
from parity.contract import StepTrace

RNG = np.random.default_rng(0)
W, G, OTHER = RNG.normal(size=(3, 4, 5))
PLACE = Stage(stage="gradients", tensor="w")


def step(gradient, loss=1.0):
    batch, logits, w = {"0": np.ones((2, 3))}, {"logits": np.ones((2, 1))}, {"w": W}
    return StepTrace(
        batch=batch,
        weights=w,
        activations={},
        logits=logits,
        loss={"loss": np.float64(loss)},
        gradients={"w": gradient},
        momentum={},
        parameters=w,
    )


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (4 * G, "b's is 4 times a's"),
        (-G, "b's is -1 times a's"),
        (G + 0.01 * W, "b's is a's plus 0.01 times the parameter: see the weight decay"),
        (4 * G + 1e-10 * OTHER, None),
        (G + 0.01 * W + 1e-10 * OTHER, None),
        (np.zeros_like(G), None),
        (G.T, None),
        (np.full_like(G, np.nan), None),
    ],
)
def test_only_what_explains_all_of_a_difference_is_named(other, said):
    assert describe_difference(PLACE, step(G), step(other), allowed=1e-13, names=("a", "b")) == said


def test_a_single_number_is_a_multiple_of_any_other():
    loss = Stage(stage="loss", tensor="loss")
    assert describe_difference(loss, step(G), step(G, loss=2.0), allowed=1e-13, names=("a", "b")) is None


def test_a_slot_reads_as_one():
    assert str(Stage(stage="momentum", tensor="fc.bias:2")) == "momentum, fc.bias, slot 2"
    assert str(Stage(stage="momentum", tensor="fc.bias")) == "momentum, fc.bias"
    assert str(Stage(stage="activations", tensor="mul:2")) == "activations, mul:2"
