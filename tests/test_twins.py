"""The two implementations against each other: the project's claim about itself."""

import numpy as np
import pytest

import jax_impl
import torch_impl
from parity.compare import Outcome, largest_gap, loss_differences
from parity.contract import initial_weights
from parity.run import run_sides
from parity.running.lockstep import train
from parity.settings import Settings, Side

TWINS = (Side(name="torch_impl", implementation=torch_impl.impl), Side(name="jax_impl", implementation=jax_impl.impl))


def test_float64_on_real_images_agrees_to_1e_12_over_200_steps(real):
    settings = Settings(dtype="float64", steps=200, device="cpu")
    run = train(TWINS, real, settings, initial_weights(0), evaluate=False)
    assert run.steps == 200
    assert loss_differences(run.sides[0].losses, run.sides[1].losses).max() < 1e-12
    assert [gap.steps for gap in run.gaps] == [50, 100, 150, 200]
    for gap in run.gaps:
        assert gap.momentum is not None
        assert max(gap.parameters.difference, gap.momentum.difference) < 1e-12


@pytest.fixture(scope="module")
def float64_result(small):
    return run_sides(TWINS, small, Settings(dtype="float64", epochs=2, device="cpu"))


def test_float64_with_partial_batches_matches(float64_result):
    report = float64_result.report
    assert report.verdict.outcome is Outcome.MATCH
    assert (report.verdict.steps, report.steps) == (52, 52)
    assert report.comparison.agreement == 1.0
    assert report.ending.exit_code == 0


def test_float64_logits_agree(float64_result):
    logits = {"logits": float64_result.run.sides[0].logits}, {"logits": float64_result.run.sides[1].logits}
    gap = largest_gap(*logits)
    assert gap is not None
    assert gap.difference < 1e-12


def test_float32_starts_from_the_same_numbers(small):
    """The first loss sees weights and images only: a few rounding errors of float32 (eps 1.2e-7) apart at most."""
    run = train(TWINS, small, Settings(steps=1, device="cpu"), initial_weights(0), evaluate=False)
    assert loss_differences(run.sides[0].losses, run.sides[1].losses)[0] < 8 * np.finfo(np.float32).eps


def test_a_float32_run_is_judged_in_float64(small):
    verdicts = []
    result = run_sides(TWINS, small, Settings(epochs=1, device="cpu"), on_verdict=verdicts.append)
    assert verdicts == [result.report.verdict]
    assert result.report.verdict.outcome is Outcome.MATCH
    assert result.report.verdict.largest_loss < 1e-12  # float32 cannot do that
    assert result.report.comparison.largest_loss > 1e-12
    assert result.report.settings.dtype == "float32"
