"""Known faults must be found where and when they can first show, and changes that are none must not be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from parity.drill import BENIGN, CATALOGUE, OUTSIDE, Benign, Drilled, Fault, drill, rates, subject_of
from parity.measurements.part import Bench, Conclusion, Part, Trial

__all__ = ["DRILL"]

SIDES = ("a", "b")


def _measure(group: str, faults: Sequence[Fault | Benign]) -> Callable[[Bench, int], Trial]:
    """Trial 2 k is fault k on side a, trial 2 k + 1 on side b."""

    def measure(bench: Bench, number: int) -> Trial:
        subject = subject_of(bench.partner, dataset=bench.dataset, whole=True)
        fault, side = faults[number // 2], SIDES[number % 2]
        (result,) = drill([fault], subject, group=group, sides=(side,), device=bench.device)
        return {**asdict(result), "right": result.right, "seconds": round(result.seconds, 2)}

    return measure


def conclude(trials: Sequence[Trial]) -> Conclusion:
    """The rates, and what was not right."""
    fields = Drilled.__dataclass_fields__
    results = [Drilled(**{name: value for name, value in trial.items() if name in fields}) for trial in trials]
    counts = rates(results)
    missed = [f"{result.key} ({result.side})" for result in results if not result.right]
    unnamed = [f"{result.key} ({result.side}): {', '.join(result.names)}" for result in results if not _rightly(result)]
    named = counts.named >= NAMED * counts.nameable
    summary = {**asdict(counts), "not_right": missed, "otherwise_named": unnamed}
    return Conclusion(met=counts.complete and named, summary=summary)


NAMED = 0.95
"""Of the faults that have a name; members of a class that cannot be told apart count where the class is named."""


def _rightly(result: Drilled) -> bool:
    return not result.names if result.group == "benign" else bool(result.named)


def _part(group: str, faults: Sequence[Fault | Benign], bar: str) -> Part:
    return Part(
        name=group,
        bar=bar,
        count=len(SIDES) * len(faults),
        quick=range(len(SIDES)),
        reads=("partner", "device"),
        measure=_measure(group, faults),
        conclude=conclude,
    )


_FOUND = "100 % found, at the right stage, within the first step at which each can show, on either side, in float64"

DRILL = (
    _part("catalogue", CATALOGUE, f"porting mistakes with a name: {_FOUND}; those of precision in float32"),
    _part("outside", OUTSIDE, f"porting mistakes that no catalogue holds: {_FOUND}"),
    _part("benign", BENIGN, "the same mathematics in other words: no false alarm, in float64 and float32"),
)
"""The parts of `python -m parity.measurements drill`."""
