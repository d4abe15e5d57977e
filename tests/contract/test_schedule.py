import json
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from parity.contract import (
    SGD,
    CosineAnnealingLR,
    ExponentialLR,
    InputError,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    Schedule,
    SequentialLR,
    StepLR,
    schedule_from,
)
from tests.schedules import schedules


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)


def refusal(make, *positional, **arguments):
    try:
        make(*positional, **arguments)
    except ValueError as error:
        return error
    return None


def require_torchs_refusal(ours, theirs, **arguments):
    expected, found = refusal(theirs, optimizer(), **arguments), refusal(ours, **arguments)
    assert (expected is None) == (found is None)
    assert str(expected or "") in str(found or "")


factors = st.sampled_from([-1.0, 0.0, 1e-3, 0.5, 1.0, 1.0 + 1e-9, 2.0])


@given(start_factor=factors, end_factor=factors)
def test_linear_refuses_what_torch_refuses_and_says_torchs_sentence(**arguments):
    require_torchs_refusal(LinearLR, torch.optim.lr_scheduler.LinearLR, **arguments)


@given(
    total_steps=st.sampled_from([-1, 0, 1.5, 10]),
    pct_start=st.sampled_from([-0.1, 0, 0.0, 0.25, 0.999, 1, 1.1]),
    anneal_strategy=st.sampled_from(["cos", "linear", "cosine", ""]),
)
@example(total_steps=10, pct_start=0.25, anneal_strategy="linear")
def test_one_cycle_refuses_what_torch_refuses_and_says_torchs_sentence(**arguments):
    require_torchs_refusal(OneCycleLR, torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, **arguments)


@pytest.mark.parametrize(("parts", "milestones"), [(0, ()), (1, (3,)), (2, ()), (2, (3, 4)), (1, ()), (2, (3,))])
def test_a_sequence_refuses_what_torch_refuses_and_says_torchs_sentence(parts, milestones):
    sgd = optimizer()
    theirs = [torch.optim.lr_scheduler.StepLR(sgd, step_size=2) for _ in range(parts)]
    expected = refusal(torch.optim.lr_scheduler.SequentialLR, sgd, theirs, list(milestones))
    found = refusal(SequentialLR, schedules=(StepLR(step_size=2),) * parts, milestones=milestones)
    assert (expected is None) == (found is None)
    assert str(expected or "") in str(found or "")


# torch computes nonsense with these, or divides by zero later.
@pytest.mark.parametrize(
    ("make", "arguments", "argument"),
    [
        (StepLR, {"step_size": 0}, "step_size 0"),
        (StepLR, {"step_size": True}, "step_size True"),
        (StepLR, {"step_size": 2, "gamma": -0.1}, "gamma -0.1"),
        (StepLR, {"step_size": 2, "every": 0}, "every 0"),
        (StepLR, {"step_size": 2, "taken": -1}, "taken -1"),
        (MultiStepLR, {"milestones": (3, -1)}, "milestones -1"),
        (MultiStepLR, {"milestones": (3, 1.5)}, "milestones 1.5"),
        (MultiStepLR, {"milestones": (3,), "gamma": float("inf")}, "gamma inf"),
        (ExponentialLR, {"gamma": float("nan")}, "gamma nan"),
        (LinearLR, {"total_iters": 0}, "total_iters 0"),
        (LinearLR, {"start_factor": float("nan")}, "start_factor nan"),
        (PolynomialLR, {"total_iters": 0}, "total_iters 0"),
        (PolynomialLR, {"power": -1.0}, "power -1.0"),
        (CosineAnnealingLR, {"T_max": 0}, "T_max 0"),
        (CosineAnnealingLR, {"T_max": 5, "eta_min": -1.0}, "eta_min -1.0"),
        (OneCycleLR, {"max_lr": -1.0, "total_steps": 10}, "max_lr -1.0"),
        (OneCycleLR, {"max_lr": 0.1, "total_steps": 10, "base_momentum": 0.0}, "base_momentum 0.0"),
        (OneCycleLR, {"max_lr": 0.1, "total_steps": 10, "div_factor": 0.0}, "div_factor 0.0"),
        (OneCycleLR, {"max_lr": 0.1, "total_steps": 10, "pct_start": float("nan")}, "pct_start nan"),
        (OneCycleLR, {"max_lr": 0.1, "total_steps": 10, "pct_start": 0.1}, "a phase has no length"),
        (OneCycleLR, {"max_lr": 0.1, "total_steps": 10, "pct_start": 1.0}, "a phase has no length"),
        (SequentialLR, {"schedules": (StepLR(step_size=2),) * 3, "milestones": (3, 3)}, "do not rise"),
        (SequentialLR, {"schedules": (StepLR(step_size=2),) * 2, "milestones": (0,)}, "milestones 0"),
        (SequentialLR, {"schedules": (StepLR(step_size=2, every=3),), "milestones": ()}, "belong to the sequence"),
        (
            SequentialLR,
            {"schedules": (OneCycleLR(max_lr=0.1, total_steps=10),), "milestones": ()},
            "cannot be part of a sequence",
        ),
    ],
)
def test_refuses_what_has_no_meaning(make, arguments, argument):
    with pytest.raises(InputError, match=argument):
        make(**arguments)


@pytest.mark.parametrize("pct_start", [0.1, 1.0])
def test_torch_does_divide_by_zero_where_a_phase_has_no_length(pct_start):
    sgd = optimizer()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  the first step or the last, after the warm-up alone
        scheduler = torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=0.1, total_steps=10, pct_start=pct_start)
        for _ in range(10):
            sgd.step()
            scheduler.step()


def test_a_count_beyond_the_end_is_refused_with_torchs_sentence():
    sgd, ours = optimizer(), OneCycleLR(max_lr=0.1, total_steps=5, every=3)
    theirs = torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=0.1, total_steps=5)
    for _ in range(5):
        sgd.step()
        theirs.step()
    assert ours.count(3 * 5 + 2) == 5
    with pytest.raises(ValueError, match="Tried to step 6 times") as expected:
        theirs.step()
    with pytest.raises(InputError) as found:
        ours.count(3 * 6)
    assert str(expected.value) in str(found.value)


@given(schedule=schedules())
def test_survives_json_and_stays_hashable(schedule):
    assert schedule_from(json.loads(json.dumps(asdict(schedule)))) == schedule
    assert hash(SGD(schedule=schedule)) == hash(SGD(schedule=replace(schedule)))
    assert SGD(schedule=schedule) != SGD(schedule=replace(schedule, every=schedule.every + 1))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"kind": "steps", "step_size": 3}, "schedule steps: there is no such kind; give one of: step, multistep"),
        ({"step_size": 3}, "schedule None: there is no such kind"),
        ({"kind": "step", "size": 3}, "schedule step: it has no argument size; give some of: every, taken, step_size"),
        ({"kind": "step", "gamma": 0.3}, "schedule step: step_size is missing"),
    ],
)
def test_content_that_is_no_schedule_is_refused(content, problem):
    with pytest.raises(InputError, match=problem):
        schedule_from(content)


def test_sgd_takes_schedules_alone():
    for wrong in ("step", Schedule()):
        with pytest.raises(InputError, match="it is no schedule"):
            SGD(schedule=wrong)


def test_resuming_shifts_the_count():
    sgd = SGD(schedule=StepLR(step_size=2, every=3))
    counts = [sgd.schedule.count(step) for step in range(20)]
    assert [sgd.resumed(4).resumed(3).schedule.count(step) for step in range(13)] == counts[7:]
    assert SGD().resumed(5) == SGD()
