"""The first rule on single steps: what is rounding, and what no longer is."""

import dataclasses

import numpy as np
import pytest

from parity.compare import compare_formula
from parity.compare.formula import EPS, ULPS
from parity.contract import StepTrace


def learnt(loss, slope):
    """A step on examples that are learnt well: outputs of size 10, almost no loss, and gradients as small."""
    weights = {"w": np.array([1.0, 2.0])}
    gradients = {"w": loss * np.array([1.0, slope])}
    return StepTrace(
        batch={"x": np.ones(2)},
        weights=weights,
        activations={},
        logits={"logits": np.array([10.0, -10.0])},
        loss={"loss": np.array(loss)},
        gradients=gradients,
        momentum=gradients,
        parameters={"w": weights["w"] - 1e-3 * gradients["w"]},
    )


def broken(a, b):
    return [str(rung.place) for rung in compare_formula(0, a, b) if rung.broken]


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0])
def test_a_small_loss_and_its_gradients_have_lost_digits(size):
    """As many as the outputs, of which they are a small difference, are larger: each is rounded to its last place."""
    lost = 10 * EPS / size  # one last place of an output of size 10, relative to the loss
    a = learnt(size, 1.0)
    within, beyond = learnt(size * (1 + 4 * lost), 1.0), learnt(size * (1 + ULPS * EPS + 20 * lost), 1.0)
    assert not broken(a, within)
    assert broken(a, beyond)[0].startswith("loss")
    steeper = dataclasses.replace(a, gradients={"w": a.gradients["w"] * (1 + ULPS * EPS + 20 * lost)})
    assert broken(a, steeper) == ["gradients, w"]


def test_a_large_loss_has_lost_nothing():
    a = learnt(2.0, 1.0)
    assert broken(a, dataclasses.replace(a, loss={"loss": np.array(2.0 * (1 + (ULPS + 2) * EPS))})) == ["loss"]
