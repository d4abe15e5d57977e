"""What a check learns from one side alone: the same step twice, and an accuracy that the side states."""

import numpy as np
import pytest

import torch_impl
from parity import oracle
from parity.checking import check
from parity.contract import Scored, SideError, initial_weights
from parity.drill.wrapped import Wrapped
from parity.problem import cnn_problem
from parity.settings import Settings, Side


class Stating(Wrapped):
    """States some accuracy."""

    def __init__(self, stated):
        super().__init__(oracle.impl)
        self.stated = stated

    def accuracy(self, state, data):
        return self.stated(np.argmax(self.logits(state, data), axis=1), data.labels)


class Forgetful(Wrapped):
    """Its second step from the same state is another: one weight is off by its last bit."""

    def __init__(self, inner, at):
        super().__init__(inner)
        self.at, self.calls = at, 0

    def observe(self, state, data, rows):
        after, trace = super().observe(state, data, rows)
        self.calls += 1
        if self.calls == self.at:
            trace.loss["loss"] = np.nextafter(trace.loss["loss"], 10)
        return after, trace


def checked(b, small, steps=2):
    pair = (Side(name="right", implementation=oracle.impl), Side(name="other", implementation=b))
    return check(pair, cnn_problem(small, initial_weights(0)), Settings(device="cpu"), steps=steps)


def test_a_right_accuracy_matches(small):
    assert isinstance(Stating(None), Scored)
    assert not isinstance(oracle.impl, Scored)
    assert checked(Stating(lambda predicted, labels: np.mean(predicted == labels)), small).finding is None


@pytest.mark.parametrize("wrong", [0.0, 1.0, 0.7500001, float("nan")])
def test_a_wrong_accuracy_is_found(wrong, small):
    """Of 40 images, 30 labels are the side's own predictions."""
    finding = checked(Stating(lambda _predicted, _labels: wrong), small).finding
    assert (finding.place.stage, finding.place.tensor, finding.step) == ("evaluation", "accuracy", 2)
    assert finding.off == ("other",)
    assert "its own outputs give 0.75" in finding.line


def test_an_accuracy_that_is_no_number_is_the_side_s_own_error(small):
    with pytest.raises(SideError, match=r"other: accuracy\(\) returned str, not a number"):
        checked(Stating(lambda _predicted, _labels: "75 %"), small)


def test_a_step_that_does_not_repeat_is_found(small):
    # On this side two steps, two of the null run, the tie probe's, and then the first step again.
    finding = checked(Forgetful(oracle.impl, at=6), small).finding
    assert (finding.kind, finding.phase, finding.step, finding.place.stage) == ("precision", "repeat", 0, "loss")
    assert finding.off == ("other",)
    assert "not equal to the last bit" in finding.line


def test_honest_steps_repeat(small):
    assert checked(Forgetful(torch_impl.eager, at=0), small).finding is None
