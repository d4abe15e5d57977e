import numpy as np
import pytest

from parity.compare import BOUND, JUDGED_STEPS, Gap, Outcome, StateGap, judge


def gap(steps, parameters=0.0, momentum=0.0):
    return StateGap(
        steps=steps,
        parameters=Gap(difference=parameters, tensor="p"),
        momentum=None if momentum is None else Gap(difference=momentum, tensor="m"),
    )


LOSSES = np.linspace(2, 1, 300)


def test_equal_runs_match():
    verdict = judge(LOSSES, LOSSES * (1 + 1e-12), [gap(50, 1e-12), gap(100, 2e-12, 3e-12)])
    assert (verdict.outcome, verdict.reason, verdict.steps) == (Outcome.MATCH, None, JUDGED_STEPS)
    assert verdict.largest_parameters.difference == 2e-12
    assert verdict.largest_momentum is not None
    assert verdict.largest_momentum.difference == 3e-12
    assert 0.9e-12 < verdict.largest_loss < 1.1e-12


@pytest.mark.parametrize("factor", [1 + 1.1 * BOUND, 1 - 1.1 * BOUND, np.nan, np.inf])
@pytest.mark.parametrize("step", [0, 199])
def test_one_loss_beyond_the_bound_differs(step, factor):
    other = LOSSES.copy()
    other[step] *= factor
    verdict = judge(LOSSES, other, [gap(50)])
    assert verdict.outcome is Outcome.DIFFERS
    assert f"the loss of step {step} " in str(verdict.reason)


@pytest.mark.parametrize("size", [1.1 * BOUND, np.nan, np.inf])
def test_a_state_beyond_the_bound_differs(size):
    assert judge(LOSSES, LOSSES, [gap(50), gap(100, size)]).reason.startswith("parameters p after 100 steps")
    assert judge(LOSSES, LOSSES, [gap(50), gap(100, 0, size)]).reason.startswith("momentum m after 100 steps")


def test_names_what_breaks_first():
    other = LOSSES.copy()
    other[50] *= 1.1  # computed from the state after 50 steps
    assert "after 50 steps" in str(judge(LOSSES, other, [gap(50, 1.0)]).reason)
    other[49] *= 1.1
    assert "loss of step 49" in str(judge(LOSSES, other, [gap(50, 1.0)]).reason)


def test_what_comes_after_the_judged_steps_does_not_count():
    other = LOSSES.copy()
    other[JUDGED_STEPS] *= 2
    assert judge(LOSSES, other, [gap(50), gap(250, 1.0)]).outcome is Outcome.MATCH


def test_no_momentum_is_no_difference():
    assert judge(LOSSES, LOSSES, [gap(50, momentum=None)]).largest_momentum is None


@pytest.mark.parametrize(("losses", "gaps"), [(LOSSES[:0], [gap(50)]), (LOSSES, []), (LOSSES, [gap(250)])])
def test_nothing_compared_is_never_a_pass(losses, gaps):
    with pytest.raises(ValueError, match="no step was compared"):
        judge(losses, losses, gaps)
