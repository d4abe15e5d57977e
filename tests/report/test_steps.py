"""The first steps of two traces on a comparison's page, and what each side was recorded with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parity.compare import Stage, difference_at
from parity.contract import SGD, initial_weights
from parity.report.page import Explorer
from parity.report.steps import steps_section
from tests import fakes
from tests.conftest import small_arrays
from tests.test_cli import parity


def observed(side, *, steps=3):
    arrays = small_arrays()
    state = side.start(initial_weights(0), SGD(lr=0.1, momentum=0.9), dtype="float64", device="cpu")
    data = side.place(state, arrays["train_images"], arrays["train_labels"])
    seen = []
    for step in range(steps):
        state, trace = side.observe(state, data, np.arange(4) + 4 * step)
        seen.append(trace)
    return seen


def explorer(sections):
    (section,) = sections
    (block,) = section.blocks
    assert isinstance(block, Explorer)
    return block


def test_every_tensor_of_every_step_can_be_looked_into():
    sides = observed(fakes.honest), observed(fakes.wrong_lr)
    block = explorer(steps_section(sides, ("a", "b")))
    labels = [entry["label"] for entry in block.entries]
    assert {"batch, images", "logits", "gradients, fc3.weight", "update, fc3.bias"} <= set(labels)
    assert block.columns == ("step 0", "step 1", "step 2")
    entry = block.entries[labels.index("update, fc3.weight")]
    assert entry["rows"]
    apart = [difference_at(Stage(stage="update", tensor="fc3.weight"), a, b) for a, b in zip(*sides, strict=True)]
    assert entry["shown"] == block.columns[np.argmax(apart)]
    assert block.entries[labels.index("batch, images")]["rows"] == []


def test_what_was_found_is_shown_first():
    sides = (observed(fakes.honest), observed(fakes.wrong_lr))
    found = Stage(stage="gradients", tensor="fc3.bias")
    block = explorer(steps_section(sides, ("a", "b"), first=found))
    assert block.entries[block.chosen]["label"] == str(found)
    block = explorer(steps_section(sides, ("a", "b"), first=Stage(stage="gradients", tensor="absent")))
    assert block.entries[block.chosen]["rows"]


def test_a_tensor_of_another_shape_is_left_out():
    a, b = observed(fakes.honest, steps=1), observed(fakes.honest, steps=1)
    other = replace(b[0], gradients={name: value[..., :1] for name, value in b[0].gradients.items()})
    labels = [entry["label"] for entry in explorer(steps_section((a, [other]), ("a", "b"))).entries]
    assert not any(label.startswith("gradients, ") for label in labels)
    assert "logits" in labels


@pytest.mark.parametrize("steps", [([], []), ([], None)])
def test_without_steps_there_is_nothing(steps):
    first, second = steps
    assert steps_section((first, second if second is not None else observed(fakes.honest)), ("a", "b")) == ()


def test_a_comparison_shows_the_steps_and_each_sides_environment(tmp_path):
    np.savez(tmp_path / "small.npz", **small_arrays())
    options = ("--data", "small.npz", "--steps", "6", "--dtype", "float64", "--gradients", "2")
    for name in ("a", "b"):
        assert parity(tmp_path, "record", "parity.oracle", *options, "--out", name)[0] == 0
    code, _, err = parity(tmp_path, "compare", "a", "b", "--report", "page.html")
    assert (code, err) == (0, "")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "chart-stages" in text
    assert "step 1" in text
    own = text.partition("What each side was recorded with")[2]
    assert f"numpy {np.__version__}" in own
    assert "parity record parity.oracle" in own


def test_a_comparison_in_a_notebook_needs_nothing_else():
    """Its losses and manifests are gone; the verdict and the tables are there."""
    from parity.trace import TraceComparison, TraceOutcome
    from parity.trace.compare import Largest, TraceSide

    side = TraceSide(path="p", implementation="i", description="d", steps=2, planned=2, ending="complete")
    comparison = TraceComparison(
        outcome=TraceOutcome.MATCH,
        rule="bound 1e-09",
        first_break=None,
        horizon=None,
        sides=(side, side),
        dtype="float64",
        steps=2,
        recorded=2,
        full=2,
        largest={"loss": Largest(difference=0.0, step=0, tensor=None)},
        resolution=0.0,
    )
    shown = comparison._repr_html_()
    assert "Relative differences up to 1e-09 count as noise." in shown
    assert "<table" in shown
    assert "<script" not in shown
