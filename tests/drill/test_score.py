"""What counts as found, as in time, as named; and the rates."""

from types import SimpleNamespace

import pytest

from parity.compare import Finding, Stage
from parity.drill import Benign, Fault, rates
from parity.drill.score import absent, score


def finding(kind="formula", stage="update", step=2, phase=""):
    return Finding(
        kind=kind,
        step=step,
        phase=phase,
        place=Stage(stage=stage, tensor="fc1.weight"),
        difference=1.0,
        allowed=0.0,
        local=None,
        off=(),
        detail="off",
    )


def checked(found, names=None):
    """A check with these causes, the first of which has all these keys; "unknown" is none."""
    line = found.line if found else "match: all"
    if names is None:
        return SimpleNamespace(finding=found, line=line, explanation=None)
    keys = tuple(name for name in names if name != "unknown")
    causes = (SimpleNamespace(key=keys[0], keys=keys),) if keys else ()
    unknown = ("?",) if "unknown" in names else ()
    return SimpleNamespace(finding=found, line=line, explanation=SimpleNamespace(causes=causes, unknown=unknown))


FAULT = Fault(key="late", title="late", stage="update", first=2, plant=None, names=frozenset({"late", "early"}))
CHANGE = Benign(key="words", title="words", plant=None)


def scored(entry, found, names=None):
    group = "benign" if entry is CHANGE else "catalogue"
    return score(entry, checked(found, names), group=group, side="a", seconds=1.0)


def test_a_fault_in_its_place_and_time_is_right():
    result = scored(FAULT, finding(), ("early",))
    assert (result.found, result.stage_right, result.in_time, result.named, result.right) == (True,) * 5
    assert (result.at, result.step, result.expected) == ("update, fc1.weight", 2, "update, step 2")


@pytest.mark.parametrize(
    ("found", "flags"),
    [
        (None, (False, False, False)),
        (finding(kind="undecided"), (False, False, False)),
        (finding(stage="momentum"), (True, False, True)),
        (finding(phase="tie probe"), (True, False, True)),
        (finding(step=3), (True, True, False)),
    ],
)
def test_anything_else_is_not(found, flags):
    result = scored(FAULT, found)
    assert (result.found, result.stage_right, result.in_time) == flags
    assert not result.right


def test_a_difference_of_precision_is_one_of_the_first_step_too():
    assert scored(FAULT, finding(kind="precision", step=None)).in_time


def test_names():
    assert scored(FAULT, finding()).named is None
    assert scored(FAULT, finding(), ()).named is False
    assert scored(FAULT, finding(), ("other",)).named is False
    assert scored(FAULT, finding(), ("other", "late")).named is True


def test_a_benign_change_must_match_and_have_no_name():
    assert scored(CHANGE, None).right
    assert not scored(CHANGE, finding()).right
    assert not scored(CHANGE, None, ("late",)).right
    undecided = finding(kind="undecided")
    assert not scored(CHANGE, undecided).right


def test_rates_count_what_applies():
    results = [
        scored(FAULT, finding(), ("late",)),
        scored(FAULT, finding(stage="momentum"), ()),
        scored(FAULT, None),
        absent(FAULT, group="catalogue", side="a", reason="no images"),
        scored(CHANGE, None),
        scored(CHANGE, finding()),
    ]
    found = rates(results)
    assert (found.faults, found.detected, found.right_stage, found.in_time, found.named) == (3, 2, 1, 2, 1)
    assert (found.benign, found.false_alarms, found.left_out) == (2, 1, 1)
    assert not found.complete
    assert rates([results[0], results[3], results[4]]).complete
    assert rates([scored(FAULT, finding())]).named == 0
