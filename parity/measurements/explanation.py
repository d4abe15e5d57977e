"""What naming the cause adds to a check that fails: seconds, over all faults of the catalogue, planted in the CNN.

A trial is one fault on one side. The check is the whole command's; what is timed in it are the calls that explain, and
nothing else: a step that is taken again to be explained counts, one that the check takes anyway does not. A part of the
first explanation is importing what the fits need, as it is for a user; each trial of a series after it has that done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from unittest.mock import patch

from parity.checking import double, single
from parity.drill import CATALOGUE, subject_of
from parity.drill.drill import planted
from parity.measurements.part import Bench, Conclusion, Part, Trial

__all__ = ["EXPLANATION"]

SIDES = ("a", "b")

BAR = 10.0
"""Seconds, on two idle cores."""

EXPLAINING = (
    *(
        (double, name)
        for name in (
            "explain_steps",
            "explain_outputs",
            "explain_statement",
            "explain_fast_path",
            "explain_repeat",
            "explain_difference",
        )
    ),
    (single.Single, "explain"),
)
"""Every way on which a check comes to a cause."""


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """The seconds of each explanation that is made inside the block."""
    seconds: list[float] = []
    with ExitStack() as stack:
        for owner, name in EXPLAINING:
            stack.enter_context(patch.object(owner, name, _timed(getattr(owner, name), seconds)))
        yield seconds


def _timed(function: Callable[..., object], seconds: list[float]) -> Callable[..., object]:
    def timed(*args: object, **kwargs: object) -> object:
        begin = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - begin)

    return timed


def measure(bench: Bench, number: int) -> Trial:
    """Trial 2 k is fault k on side a, trial 2 k + 1 on side b."""
    fault, side = CATALOGUE[number // len(SIDES)], SIDES[number % len(SIDES)]
    subject = subject_of(bench.partner, dataset=bench.dataset, whole=True)
    with stopwatch() as seconds:
        _, checked = planted(fault, subject, side=side, device=bench.device)
    causes = [key for cause in (checked.explanation.causes if checked.explanation else ()) for key in cause.keys]
    return {
        "key": fault.key,
        "side": side,
        "explained": len(seconds),
        "seconds": round(sum(seconds), 3),
        "check": round(checked.seconds, 3),
        "names": causes,
    }


def conclude(trials: Sequence[Trial]) -> Conclusion:
    """The largest against the bar; a check that explained nothing says nothing of what explaining costs."""
    told = [trial for trial in trials if trial["explained"]]
    seconds = [trial["seconds"] for trial in told]
    slowest = max(told, key=lambda trial: trial["seconds"], default=None)
    summary = {
        "faults": len(trials),
        "explained": len(told),
        "median_seconds": median(seconds) if seconds else None,
        "largest_seconds": max(seconds, default=None),
        "slowest": f"{slowest['key']} ({slowest['side']})" if slowest else None,
        "bar": BAR,
    }
    return Conclusion(met=len(told) == len(trials) and max(seconds, default=BAR) < BAR, summary=summary)


EXPLANATION = Part(
    name="explain",
    bar="naming the cause adds less than 10 s to a failed check of the CNN, whichever fault of the catalogue it has",
    count=len(SIDES) * len(CATALOGUE),
    quick=range(len(SIDES)),
    reads=("partner", "device"),
    measure=measure,
    conclude=conclude,
)
"""The part of `python -m parity.measurements explain`."""
