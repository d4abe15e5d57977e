"""What became of planted faults, one by one and as rates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from parity.checking import Check
from parity.compare import Finding
from parity.drill.fault import Benign, Fault

__all__ = ["Drilled", "Rates", "absent", "rates", "score"]

DIFFERS = ("formula", "precision", "unknown")
"""The findings that say that two programs differ; an undecided check finds nothing."""


@dataclass(frozen=True, kw_only=True)
class Drilled:
    """One fault, or one change that is none, on one side of one check.

    Args:
        key: the fault's.
        title: what it is.
        group: "catalogue", "outside" or "benign".
        side: "a" or "b", where it was planted.
        expected: stage, with the phase if it is not the ordinary steps, and the first step; "" for a benign change.
        applies: whether the program has a place for it; if not, `line` says why and nothing else counts.
        found: whether the check says that the sides differ.
        at: stage and tensor of the finding, with its phase; "" for none.
        step: of the finding; None where all steps show it alike, or there is none.
        stage_right: whether it was found at the stage, and in the phase, where it can first be seen.
        in_time: whether it was found no later than at the first step that can show it.
        named: whether the cause that the check gives is right; None where it gives none.
        names: the keys of the causes, and of those that are alike; "unknown" where one has none.
        line: the verdict line.
        seconds: of the check, its explanation included.
    """

    key: str
    title: str
    group: str
    side: str
    expected: str
    applies: bool = True
    found: bool = False
    at: str = ""
    step: int | None = None
    stage_right: bool = False
    in_time: bool = False
    named: bool | None = None
    names: tuple[str, ...] = ()
    line: str
    seconds: float = 0.0

    @property
    def right(self) -> bool:
        """What is to be reached: a fault is found, in its place and time, and a benign change is not."""
        if not self.applies:
            return True
        if self.group == "benign":
            return not self.found and not self.names and self.line.startswith("match")
        return self.found and self.stage_right and self.in_time


def absent(fault: Fault | Benign, *, group: str, side: str, reason: str) -> Drilled:
    """The result for a program that has no place for the fault."""
    return Drilled(key=fault.key, title=fault.title, group=group, side=side, expected="", applies=False, line=reason)


def score(fault: Fault | Benign, checked: Check, *, group: str, side: str, seconds: float) -> Drilled:
    """What the check made of it.

    Args:
        fault: what was planted.
        checked: the check.
        group: the fault's.
        side: where it was planted.
        seconds: of both.
    """
    finding = checked.finding if checked.finding and checked.finding.kind in DIFFERS else None
    planted = fault if isinstance(fault, Fault) else None
    return Drilled(
        key=fault.key,
        title=fault.title,
        group=group,
        side=side,
        expected=_place(planted.phase, planted.stage, f"step {planted.first}") if planted else "",
        found=finding is not None,
        at=_place(finding.phase, str(finding.place)) if finding else "",
        step=finding.step if finding else None,
        stage_right=planted is not None and finding is not None and _at_stage(planted, finding),
        in_time=planted is not None and finding is not None and _step(finding) <= planted.first,
        named=_named(planted, checked) if planted and checked.explanation else None,
        names=_names(checked),
        line=checked.line,
        seconds=seconds,
    )


UNKNOWN = "unknown"


def _names(checked: Check) -> tuple[str, ...]:
    """The keys of all causes, each with those that are alike."""
    if checked.explanation is None:
        return ()
    keys = [key for cause in checked.explanation.causes for key in cause.keys]
    return (*keys, UNKNOWN) if checked.explanation.unknown or not keys else tuple(keys)


def _named(fault: Fault, checked: Check) -> bool:
    """Whether the first cause is right, and nothing is left without one; where "unknown" is right, whether it is."""
    names = _names(checked)
    if UNKNOWN in names:
        return UNKNOWN in fault.right_names and set(names) == {UNKNOWN}
    first = checked.explanation.causes[0] if checked.explanation and checked.explanation.causes else None
    return first is not None and bool(fault.right_names & set(first.keys))


def _at_stage(fault: Fault, finding: Finding) -> bool:
    return (finding.place.stage, finding.phase) == (fault.stage, fault.phase)


def _step(finding: Finding) -> int:
    """A difference of precision is one of all steps together, the first included."""
    return finding.step or 0


def _place(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Counts over the faults, and over the benign changes; those without a place in the program are in neither.

    `named` counts those of the catalogue, `nameable` of them; `outside_named` those outside it, of which a cause says
    what they are, and `outside_unknown` those of which it says that it does not know.
    """

    faults: int
    detected: int
    right_stage: int
    in_time: int
    nameable: int
    named: int
    outside: int
    outside_named: int
    outside_unknown: int
    benign: int
    false_alarms: int
    left_out: int

    @property
    def complete(self) -> bool:
        """Whether every fault was found in its place and time, and nothing else was."""
        return self.detected == self.right_stage == self.in_time == self.faults and self.false_alarms == 0


def rates(results: Iterable[Drilled]) -> Rates:
    """The counts."""
    results = list(results)
    planted = [result for result in results if result.applies]
    faults = [result for result in planted if result.group != "benign"]
    benign = [result for result in planted if result.group == "benign"]
    known, others = (
        [result for result in faults if (result.group == "outside") == is_outside] for is_outside in (0, 1)
    )
    return Rates(
        faults=len(faults),
        detected=sum(result.found for result in faults),
        right_stage=sum(result.stage_right for result in faults),
        in_time=sum(result.in_time for result in faults),
        nameable=len(known),
        named=sum(bool(result.named) for result in known),
        outside=len(others),
        outside_named=sum(bool(result.named) and UNKNOWN not in result.names for result in others),
        outside_unknown=sum(bool(result.named) and UNKNOWN in result.names for result in others),
        benign=len(benign),
        false_alarms=sum(not result.right for result in benign),
        left_out=len(results) - len(planted),
    )
