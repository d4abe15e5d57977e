"""What is counted against the bar of constants, and what no run holds to it."""

from __future__ import annotations

import pytest

from parity.measurements.identification import PARTS

BOUND = 1e-6


def trial(worst, told=None, *, makes_up=False):
    kept = {"number": 0, "right": True, "worst": worst, "worst_told": told, "makes_up": makes_up, "signs": None}
    return kept | {"schedule": ["constant", "constant"], "invisible": [], "found": ["SGD"], "seconds": 1.0}


@pytest.mark.parametrize(
    ("case", "met"),
    [
        (trial(BOUND / 2), True),
        (trial(10 * BOUND), False),
        (trial(10 * BOUND, 5 * BOUND), True),
        (trial(10 * BOUND, BOUND), False),
        (trial(10 * BOUND, makes_up=True), True),
    ],
    ids=["precise", "no error told", "as uncertain as told", "beyond five errors", "makes up for what is not seen"],
)
def test_a_constant_that_no_run_holds_is_not_counted(case, met):
    concluded = PARTS[0].conclude([trial(0.0), case])
    assert concluded.met is met
    assert concluded.summary["held_by_no_run"] == ([] if not met or case["worst"] < BOUND else [0])
