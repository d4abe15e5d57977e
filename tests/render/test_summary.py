"""Summaries as GitHub's Markdown: what comes from outside stays text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parity import oracle
from parity.checking import check
from parity.contract import initial_weights
from parity.drill import Drilled, rates
from parity.environment import describe_environment
from parity.explain import Explanation
from parity.problem import cnn_problem
from parity.render.summary import check_summary, drill_summary
from parity.result import CheckReport, DrillReport
from parity.settings import Settings, Side

MARKUP = "a|b <img src=x> `c` *d* _e_"


def checked(small, names=("first", "second")):
    sides = [Side(name=name, implementation=oracle.impl) for name in names]
    found = check(tuple(sides), cnn_problem(small, initial_weights(0)), Settings(), steps=2)
    return CheckReport(
        command=("parity", "check"),
        environment=describe_environment(),
        data=MARKUP,
        settings=Settings(),
        names=tuple(names),
        notes=(),
        check=found,
    )


def rows(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def test_a_check(small):
    text = check_summary(checked(small))
    assert text.splitlines()[0] == "### parity check: `first` and `second`"
    assert text.splitlines()[2].startswith("**match in float64 alone**: float64 to ")
    assert any(line.startswith("| activations, conv1 | 0 | 0.0 % |") for line in rows(text))
    assert len({line.count(" | ") for line in rows(text)}) == 1
    assert "Cause" not in text


def test_markup_stays_text(small):
    text = check_summary(checked(small, names=(MARKUP, "x")))
    assert r"a\|b \<img src=x\> \`c\` \*d\* \_e\_" in text
    assert text.splitlines()[0] == "### parity check: `` a\N{BROKEN BAR}b <img src=x> `c` *d* _e_ `` and `x`"


def test_a_cause_is_said(small):
    report = checked(small)
    report = replace(report, check=replace(report.check, explanation=Explanation()))
    assert "- Cause: unknown: no side deviates by itself" in check_summary(report)


def drilled(**changes):
    given = {"key": "k", "title": "t", "group": "catalogue", "side": "a", "expected": "loss, step 0", "line": "v"}
    right = {"found": True, "stage_right": True, "in_time": True, "at": "loss", "step": 0, "named": True}
    return Drilled(**{**given, **right, **changes})


@pytest.mark.parametrize("missed", [0, 1, 30])
def test_a_drill(missed):
    results = (drilled(), *(drilled(key=f"m{n}", title=MARKUP, found=False, named=None) for n in range(missed)))
    report = DrillReport(
        command=("parity", "drill"),
        environment=describe_environment(),
        data="d",
        implementation="impl",
        partner="honest",
        results=results,
        rates=rates(results),
    )
    text = drill_summary(report)
    verdict = text.splitlines()[2]
    assert verdict.startswith("**not complete**: " if missed else "**complete**: every fault is found")
    assert f"| detected | 1 | of {1 + missed} |" in text
    assert ("not as it should be" in text) == bool(missed)
    assert ("and 10 more" in text) == (missed == 30)
