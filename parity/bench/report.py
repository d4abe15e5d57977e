"""What a benchmark found: every round's seconds, and what follows from them; as JSON, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parity.bench.contender import Memory
from parity.bench.interval import Interval, median_interval
from parity.bench.judge import Judged
from parity.bench.limits import Limits
from parity.contract import PRECISIONS, InputError, nearest_file
from parity.environment import Environment
from parity.result import plain, shown

__all__ = ["BUSY", "DIFFERS", "FAILED", "FORMAT", "TIMED", "UNRANKED", "BenchReport", "Cell", "Row", "read_report"]

FORMAT = "parity.bench/1"

TIMED, DIFFERS, FAILED = "timed", "differs", "failed"
BUSY = 0.5
"""A load of the machine from which on other programs disturb the times."""

UNRANKED = "faster than the floor"
"""What a timed row is called that no program can have: something is wrong with it or with the floor."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contestant at one batch size in one precision.

    Args:
        contestant: its label.
        outcome: TIMED; DIFFERS, if it does not compute what it should, and was not timed; FAILED.
        reason: of the last two.
        description: the contestant's own line on how it computes.
        judged: None where it did not come so far.
        compile_seconds: the first call of the 20 steps that it is judged by, less the faster of two more. Importing is
            not in it, nor what compiles anew for the timed calls' length.
        steps: in each round.
        seconds: of each round's call.
        cpu_seconds: of each round's call, by its process on all cores together; processes that it starts, a loader's
            workers, are not in it.
        memory: the most that its process has used.
    """

    contestant: str
    outcome: str
    reason: str | None = None
    description: str | None = None
    judged: Judged | None = None
    compile_seconds: float | None = None
    steps: int = 0
    seconds: tuple[float, ...] = ()
    cpu_seconds: tuple[float, ...] = ()
    memory: Memory | None = None

    @property
    def step(self) -> Interval:
        """Seconds a step."""
        return median_interval([seconds / self.steps for seconds in self.seconds])

    def times_faster(self, other: Row) -> Interval:
        """The other's step over this one's, round by round."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return median_interval([(theirs / other.steps) / (ours / self.steps) for ours, theirs in pairs])


@dataclass(frozen=True, kw_only=True)
class Cell:
    """All contestants at one batch size in one precision.

    Args:
        dtype: "float32", "float64" or "tf32".
        batch_size: images in a step.
        device: "cpu" or "cuda".
        floor: the least seconds that a step can take; None where the device was not measured.
        bound: what bounds it: "operations" or "bytes".
        single_floor: the same for one thread.
        rows: in the order in which the contestants were named.
        load: the highest of the machine before and after it, contestants included; None in older files.
    """

    dtype: str
    batch_size: int
    device: str
    floor: float | None
    bound: str | None
    single_floor: float | None
    rows: tuple[Row, ...]
    load: float | None = None

    @property
    def timed(self) -> tuple[Row, ...]:
        """The rows that have times to be compared."""
        return tuple(row for row in self.rows if self.outcome(row) == TIMED)

    def outcome(self, row: Row) -> str:
        """The row's, or UNRANKED."""
        beyond = row.outcome == TIMED and self.floor is not None and row.step.median < self.floor
        return UNRANKED if beyond else row.outcome

    def reason(self, row: Row) -> str:
        """Why it is compared with none, as words; "" where it is."""
        if self.outcome(row) != UNRANKED:
            return row.reason or ""
        return f"{row.step.median * 1e6:,.3g} us a step, where {(self.floor or 0) * 1e6:,.3g} are the least: not ranked"

    def derived(self, row: Row) -> dict[str, Any]:
        """What follows from a timed row's seconds, for the file."""
        step = row.step
        ratios = {other.contestant: asdict(row.times_faster(other)) for other in self.timed if other is not row}
        return {
            "microseconds_a_step": asdict(step.scaled(1e6)),
            "steps_per_second": 1 / step.median,
            "images_per_second": self.batch_size / step.median,
            "share_of_the_floor": self.floor / step.median if self.floor else None,
            "times_faster_than": ratios,
            "disturbed": step.disturbed,
        }


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """A whole benchmark.

    Args:
        command: as it was given.
        environment: versions and hardware.
        data: one line on the images.
        threads: that each contestant may use, on as many cores.
        rounds: of each cell.
        load: how many programs were running on this machine in the minute before.
        limits: what the device can do with these threads, and with one, the best of several measurements; () where it
            was not measured.
        cells: in the order in which they were measured.
    """

    command: tuple[str, ...]
    environment: Environment
    data: str
    threads: int
    rounds: int
    load: float
    limits: tuple[Limits, ...]
    cells: tuple[Cell, ...]

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return shown(self)

    @property
    def exit_code(self) -> int:
        """1 where a contestant computes something else, 2 where one failed, else 0."""
        outcomes = {row.outcome for cell in self.cells for row in cell.rows}
        return 1 if DIFFERS in outcomes else 2 if FAILED in outcomes else 0

    def to_json(self) -> str:
        """As a JSON object with a `format` key and the exit code."""
        content = {"format": FORMAT, "exit_code": self.exit_code, **plain(asdict(self))}
        for cell, written in zip(self.cells, content["cells"], strict=True):
            for row, fields in zip(cell.rows, written["rows"], strict=True):
                fields["derived"] = cell.derived(row) if row.outcome == TIMED else None
        return json.dumps(content, indent=1, allow_nan=False)


def read_report(path: Path, *, argument: str) -> BenchReport:
    """The report in a file that `--json` wrote.

    Raises:
        InputError: there is none, or the file cannot be read.
    """
    try:
        content = json.loads(path.read_text())
        found = content["format"]
        report = _report(content) if found == FORMAT else None
    except OSError as error:
        fix = nearest_file(path, "give a file that --json wrote", suffix=".json")
        raise InputError(argument, path, error.strerror or str(error), fix) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"it is no report of `parity bench` ({type(error).__name__}: {error})"
        raise InputError(argument, path, problem, "give a file that --json wrote") from error
    if report is None:
        raise InputError(argument, path, f"its format is {found}, not {FORMAT}", "give such a file")
    return report


def _report(content: Mapping[str, Any]) -> BenchReport:
    return BenchReport(
        command=tuple(content["command"]),
        environment=Environment(**content["environment"]),
        data=content["data"],
        threads=content["threads"],
        rounds=content["rounds"],
        load=content["load"],
        limits=tuple(Limits(**limits) for limits in content["limits"]),
        cells=tuple(_cell(cell, rounds=content["rounds"]) for cell in content["cells"]),
    )


def _cell(content: Mapping[str, Any], *, rounds: int) -> Cell:
    cell = Cell(**{**content, "rows": tuple(map(_row, content["rows"]))})
    _require(cell.dtype in PRECISIONS, f"a cell of dtype {cell.dtype}")
    _require(isinstance(cell.device, str), f"a cell of device {cell.device}")
    _require(isinstance(cell.batch_size, int) and cell.batch_size >= 1, f"a cell of batch size {cell.batch_size}")
    for row in cell.rows:
        _require_whole(row, rounds)
    return cell


def _require_whole(row: Row, rounds: int) -> None:
    """Refuse a row from which nothing, or something else, would follow."""
    name = row.contestant
    _require(isinstance(name, str), f"a contestant {name}")
    _require(row.outcome in (TIMED, DIFFERS, FAILED), f"{name} is {row.outcome}")
    if row.outcome == TIMED:
        _require(isinstance(row.steps, int) and row.steps >= 1, f"{name} has {row.steps} steps")
        for numbers in (row.seconds, row.cpu_seconds):
            _require(len(numbers) == rounds, f"{name} has {len(numbers)} times in {rounds} rounds")
        _require(all(map(math.isfinite, row.cpu_seconds)), f"{name} has times that are no numbers")
        _require(all(0 < seconds < math.inf for seconds in row.seconds), f"{name} has times that are not above 0")


def _require(fine: bool, problem: str) -> None:
    if not fine:
        raise ValueError(problem)


def _row(content: Mapping[str, Any]) -> Row:
    fields = {key: value for key, value in content.items() if key != "derived"}
    judged, memory = fields["judged"], fields["memory"]
    return Row(
        **{
            **fields,
            "judged": judged and Judged(**{**judged, "difference": float(judged["difference"])}),
            "memory": memory and Memory(**memory),
            "seconds": tuple(fields["seconds"]),
            "cpu_seconds": tuple(fields["cpu_seconds"]),
        }
    )
