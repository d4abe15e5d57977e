"""What is different between two benchmarks: the rows of both, and whether their intervals have a value in common.

Two intervals that share no value are further apart than rounds differ within either benchmark. What differs from day to
day is in neither: that two were measured under other conditions is said beside them. A machine that is slower as a
whole slows all alike, so each row is also held against another contestant that both have: the one whose time has
changed by the median factor of all others. A time beyond its interval, whose ratio to that one is within its own, is a
drift of the machine's level, and no change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from parity.bench.interval import Interval
from parity.bench.report import BUSY, TIMED, BenchReport, Cell, Row

__all__ = ["Change", "changes", "differences"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One contestant at one batch size in one precision, before and after.

    Args:
        contestant: its label.
        dtype: the precision.
        batch_size: images in a step.
        old: seconds a step; None where it has no times there.
        new: likewise.
        old_outcome: TIMED, DIFFERS, FAILED or UNRANKED; None where there is no such row.
        new_outcome: likewise.
        beside: the contestant that it is also held against; None where there is no other.
        old_ratio: how many times as fast as that one.
        new_ratio: likewise.
    """

    contestant: str
    dtype: str
    batch_size: int
    old: Interval | None
    new: Interval | None
    old_outcome: str | None
    new_outcome: str | None
    beside: str | None = None
    old_ratio: Interval | None = None
    new_ratio: Interval | None = None

    @property
    def factor(self) -> float | None:
        """The new time over the old one."""
        return self.new.median / self.old.median if self.old and self.new else None

    @property
    def word(self) -> str:
        """What happened: "faster" and "slower" only beyond the intervals, "drift" where only the level is."""
        if not (self.old and self.new):
            return f"{self.old_outcome or 'not there'}, now {self.new_outcome or 'not there'}"
        if not self.new.beyond(self.old):
            return "same"
        if self.old_ratio and self.new_ratio and not self.new_ratio.beyond(self.old_ratio):
            return "drift"
        return "faster" if self.new.median < self.old.median else "slower"


def changes(old: BenchReport, new: BenchReport) -> Iterator[Change]:
    """Every row of either, in the order of the new one, then what only the old one has."""
    before, after = _rows(old), _rows(new)
    for key in dict.fromkeys([*after, *before]):
        first, second = before.get(key), after.get(key)
        _, dtype, batch_size, contestant = key
        beside = _beside(key, before, after)
        yield Change(
            contestant=contestant,
            dtype=dtype,
            batch_size=batch_size,
            old=_step(first),
            new=_step(second),
            old_outcome=_outcome(first),
            new_outcome=_outcome(second),
            beside=beside[-1] if beside else None,
            old_ratio=_ratio(first, before[beside]) if beside else None,
            new_ratio=_ratio(second, after[beside]) if beside else None,
        )


def differences(old: BenchReport, new: BenchReport) -> Iterator[str]:
    """Under which other conditions the two were measured, each as a line."""
    one, two = old.environment, new.environment
    machines = [(r.environment.processor, r.environment.cores, r.threads, _devices(r)) for r in (old, new)]
    if machines[0] != machines[1]:
        yield "measured on different machines or with different threads"
    if abs(old.load - new.load) > BUSY:
        yield f"other programs then: a load of {old.load:.1f}, now {new.load:.1f}"
    yield from _changed("versions", {"python": one.python, **one.packages}, {"python": two.python, **two.packages})
    yield from _changed("environment variables", one.variables, two.variables)
    if old.data != new.data:
        yield f"data then: {old.data}; now: {new.data}"
    if old.rounds != new.rounds:
        yield f"rounds then: {old.rounds}, now {new.rounds}"


def _changed(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    if names:
        listed = ", ".join(f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}" for name in names)
        yield f"other {what}: {listed}"


def _devices(report: BenchReport) -> frozenset[str]:
    return frozenset(limits.name for limits in report.limits)


_Found = tuple[Cell, Row]
_Key = tuple[str, str, int, str]


def _rows(report: BenchReport) -> dict[_Key, _Found]:
    return {_key(cell, row): (cell, row) for cell in report.cells for row in cell.rows}


def _key(cell: Cell, row: Row) -> _Key:
    return cell.device, cell.dtype, cell.batch_size, row.contestant


def _outcome(found: _Found | None) -> str | None:
    return found[0].outcome(found[1]) if found else None


def _step(found: _Found | None) -> Interval | None:
    return found[1].step if found and _outcome(found) == TIMED else None


def _beside(key: _Key, before: Mapping[_Key, _Found], after: Mapping[_Key, _Found]) -> _Key | None:
    """Of the others of its cell that both have times of, the one that has changed by their median factor."""
    factors = {
        other: new.median / old.median
        for other in after
        if other[:-1] == key[:-1] and other != key
        for old, new in [(_step(before.get(other)), _step(after[other]))]
        if old and new
    }
    ranked = sorted(factors, key=lambda other: factors[other])
    return ranked[(len(ranked) - 1) // 2] if ranked else None


def _ratio(found: _Found | None, beside: _Found) -> Interval | None:
    return found[1].times_faster(beside[1]) if found and _step(found) else None
