"""What is different between two benchmarks: the rows of both, and whether their intervals have a value in common.

Two intervals that share no value are further apart than rounds differ within either benchmark. What differs from day to
day (another machine, another load) is in neither: rows of another machine say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from parity.bench.interval import Interval
from parity.bench.report import TIMED, BenchReport, Cell, Row

__all__ = ["Change", "changes", "same_machine"]


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
    """

    contestant: str
    dtype: str
    batch_size: int
    old: Interval | None
    new: Interval | None
    old_outcome: str | None
    new_outcome: str | None

    @property
    def factor(self) -> float | None:
        """The new time over the old one."""
        return self.new.median / self.old.median if self.old and self.new else None

    @property
    def word(self) -> str:
        """What happened: "faster" and "slower" only beyond the intervals."""
        if not (self.old and self.new):
            return f"{self.old_outcome or 'not there'}, now {self.new_outcome or 'not there'}"
        if not self.new.beyond(self.old):
            return "same"
        return "faster" if self.new.median < self.old.median else "slower"


def changes(old: BenchReport, new: BenchReport) -> Iterator[Change]:
    """Every row of either, in the order of the new one, then what only the old one has."""
    before, after = _rows(old), _rows(new)
    for key in dict.fromkeys([*after, *before]):
        first, second = before.get(key), after.get(key)
        _, dtype, batch_size, contestant = key
        yield Change(
            contestant=contestant,
            dtype=dtype,
            batch_size=batch_size,
            old=_step(first),
            new=_step(second),
            old_outcome=_outcome(first),
            new_outcome=_outcome(second),
        )


def same_machine(old: BenchReport, new: BenchReport) -> bool:
    """Whether processor, cores, threads and the measured device are the same."""
    machines = [(r.environment.processor, r.environment.cores, r.threads, _devices(r)) for r in (old, new)]
    return machines[0] == machines[1]


def _devices(report: BenchReport) -> frozenset[str]:
    return frozenset(limits.name for limits in report.limits)


_Found = tuple[Cell, Row]


def _rows(report: BenchReport) -> dict[tuple[str, str, int, str], _Found]:
    return {_key(cell, row): (cell, row) for cell in report.cells for row in cell.rows}


def _key(cell: Cell, row: Row) -> tuple[str, str, int, str]:
    return cell.device, cell.dtype, cell.batch_size, row.contestant


def _outcome(found: _Found | None) -> str | None:
    return found[0].outcome(found[1]) if found else None


def _step(found: _Found | None) -> Interval | None:
    return found[1].step if found and _outcome(found) == TIMED else None
