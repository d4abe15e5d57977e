"""A benchmark as lines of text, at most 80 columns wide, and as a figure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from parity.bench.changes import Change
from parity.bench.contestants import PEERS
from parity.bench.interval import SPREAD, Interval
from parity.bench.limits import Limits
from parity.bench.report import BUSY, DIFFERS, FAILED, TIMED, UNRANKED, BenchReport, Cell, Row
from parity.study import Curve, Figure, Panel

__all__ = ["cell_lines", "change_lines", "limit_lines", "report_lines", "throughput_figure"]

WIDTH = 80
TF32 = (
    "on CUDA a framework may compute in TF32, which keeps 10 of float32's 23 bits: NVIDIA_TF32_OVERRIDE=0 and "
    "JAX_DEFAULT_MATMUL_PRECISION=highest forbid it"
)

_COLUMNS = {"us/step": 9, "95 %": 16, "images/s": 10, "times": 7, "floor": 7, "compile": 8, "MB": 6}
"""Heads and widths; on a GPU there is one more."""

_ON_GPU = {"GPU MB": 8}
MB = 1e6


def cell_lines(cell: Cell) -> Iterator[str]:
    """One batch size in one precision: the floor, and a row for each contestant.

    "times" is how many times as fast as the first timed contestant, round by round; "floor" the share of the floor that
    is reached.
    """
    yield ""
    yield f"{cell.dtype}, batch {cell.batch_size:,}, {cell.device}: {_floor(cell)}"
    columns = _COLUMNS | (_ON_GPU if cell.device == "cuda" else {})
    yield _line("", dict(zip(columns, columns, strict=True)), columns)
    for row in cell.rows:
        if row in cell.timed:
            yield _line(row.contestant, _figures(cell, row), columns)
        else:
            yield from _untimed(cell, row)
    if disturbed := [row.contestant for row in cell.timed if row.step.disturbed]:
        text = f"disturbed: the interval is wider than {100 * SPREAD:.0f} % of the median of {', '.join(disturbed)}"
        yield from _wrapped(text, "  ")
    if cell.device == "cuda" and any(row.outcome == DIFFERS for row in cell.rows):
        yield from _wrapped(TF32, "  ")


def _floor(cell: Cell) -> str:
    if cell.floor is None:
        return "no floor was measured"
    single = f", on one thread {cell.single_floor * 1e6:,.1f}" if cell.single_floor else ""
    return f"floor {cell.floor * 1e6:,.1f} us a step ({cell.bound}){single}"


def _figures(cell: Cell, row: Row) -> Mapping[str, str]:
    """By the heads of the columns; that of the GPU's memory too."""
    step = row.step.scaled(1e6)
    device = row.memory.device if row.memory else None
    return {
        "us/step": _micro(step.median),
        "95 %": f"{_micro(step.low)}-{_micro(step.high)}",
        "images/s": f"{cell.batch_size * 1e6 / step.median:,.0f}",
        "times": f"{row.times_faster(cell.timed[0]).median:.2f}",
        "floor": f"{100 * cell.floor * 1e6 / step.median:.1f} %" if cell.floor else "-",
        "compile": f"{row.compile_seconds:.1f} s" if row.compile_seconds is not None else "-",
        "MB": f"{row.memory.host / MB:,.0f}" if row.memory else "-",
        "GPU MB": "-" if device is None else f"{device / MB:,.0f}",
    }


def _micro(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _untimed(cell: Cell, row: Row) -> Iterator[str]:
    yield from _wrapped(f"{row.contestant}: {cell.outcome(row)}, not compared: {cell.reason(row)}", "  ")


def _line(name: str, cells: Mapping[str, str], columns: Mapping[str, int]) -> str:
    """A long name has a line to itself; where a number is too wide for its column, each has the column's head."""
    if any(len(cells[head]) >= width for head, width in columns.items()):
        text = f"{name}: {'; '.join(f'{head} {cells[head]}' for head in columns)}"
        return "\n".join(_wrapped(text, "  "))
    text = "".join(f"{cells[head]:>{width}}" for head, width in columns.items())
    if len(text) > WIDTH - len(name) and name:
        return f"{name}\n{text:>{WIDTH}}"
    return f"{name:<{WIDTH - len(text)}}{text}".rstrip()


def limit_lines(limits: Sequence[Limits]) -> Iterator[str]:
    """What the device can do."""
    for each in limits:
        rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s {dtype}" for dtype, rate in each.operations.items())
        bandwidth = f"copies {each.bandwidth / 1e9:,.0f} GB/s ({each.memory_bandwidth / 1e9:,.0f} beyond the caches)"
        yield from _wrapped(
            f"  {_threads(each.threads)}: products {rates}; {bandwidth}; a call {each.latency * 1e6:.2g} us", "    "
        )


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def report_lines(report: BenchReport) -> Iterator[str]:
    """What belongs to all cells: the limits, how each contestant computes, and the verdict."""
    yield ""
    yield "limits, measured here:"
    yield from limit_lines(report.limits)
    described = {row.contestant: row.description for cell in report.cells for row in cell.rows if row.description}
    for contestant, description in described.items():
        yield from _wrapped(f"{contestant}: {description}", "  ")
    yield from _wrapped(
        f"medians of {report.rounds} rounds, taken in turns, {_threads(report.threads)} each; 95 %: bootstrap of the "
        "median; times: as fast as the first; floor: the share of it that is reached; compile: of the 20 steps that "
        "each is judged by; MB: of the host, by its process alone"
        + (", GPU MB: of the GPU's memory" if _on_gpu(report) else ""),
        "  ",
    )
    if report.load > BUSY:
        yield from _wrapped(f"other programs were running (load {report.load:.1f}): the times are disturbed", "  ")
    yield _verdict(report)


def _on_gpu(report: BenchReport) -> bool:
    return any(cell.device == "cuda" for cell in report.cells)


def _verdict(report: BenchReport) -> str:
    found = [cell.outcome(row) for cell in report.cells for row in cell.rows]
    words = {DIFFERS: DIFFERS, FAILED: FAILED, UNRANKED: "not ranked"}
    others = "".join(f", {found.count(outcome)} {word}" for outcome, word in words.items() if outcome in found)
    return f"verdict: {found.count(TIMED)} of {len(found)} compute what they should, and were timed{others}"


def change_lines(found: Sequence[Change], *, differences: Sequence[str] = ()) -> Iterator[str]:
    """Under which other conditions they were measured; then each row's change, the words first."""
    for line in differences:
        yield from _wrapped(f"not alike: {line}", "    ")
    for change in found:
        place = f"{change.contestant}, {change.dtype}, batch {change.batch_size:,}"
        if change.old and change.new:
            yield from _wrapped(f"{change.word:<8}{place}: {_change(change.old, change.new)}{_beside(change)}", "    ")
        else:
            yield from _wrapped(f"{'':<8}{place}: {change.word}", "    ")
    if any(change.word == "drift" for change in found):
        yield from _wrapped("drift: of the machine's level; beside the contestant that is named it is the same", "    ")


def _change(old: Interval, new: Interval) -> str:
    return f"{_spread(old)} -> {_spread(new)} us, {_percent(new.median / old.median)}"


def _spread(seconds: Interval) -> str:
    step = seconds.scaled(1e6)
    return f"{_micro(step.median)} ({_micro(step.low)}-{_micro(step.high)})"


def _beside(change: Change) -> str:
    """The change of its time in units of another contestant's."""
    if not (change.old_ratio and change.new_ratio):
        return ""
    return f"; beside {change.beside} {_percent(change.old_ratio.median / change.new_ratio.median)}"


def _percent(factor: float) -> str:
    return f"{100 * (factor - 1):+.1f} %"


def _wrapped(text: str, indent: str) -> Iterator[str]:
    yield from textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def throughput_figure(report: BenchReport) -> Figure:
    """Images a second against the batch size, a panel for each precision in which any was timed, with the floor's."""
    dtypes = tuple(dict.fromkeys(cell.dtype for cell in report.cells if cell.timed))
    return Figure(
        name="throughput",
        title="Training throughput",
        caption=_caption(report),
        panels=tuple(_panel([cell for cell in report.cells if cell.dtype == dtype]) for dtype in dtypes),
        columns=2,
    )


def _caption(report: BenchReport) -> str:
    where = report.environment
    return (
        f"Medians of {report.rounds} rounds taken in turns, with their 95 % intervals, a little beside each other at "
        f"each batch size; {_threads(report.threads)} each. Thin: other ways to train the same network. Dashed: the "
        "floor, a step's products and bytes at the rates of matrix products and of copies measured beside. "
        f"{where.processor}, {where.cores} cores."
    )


def _panel(cells: Sequence[Cell]) -> Panel:
    found = dict.fromkeys(row.contestant for cell in cells for row in cell.timed)
    names = sorted(found, key=lambda name: name in PEERS)  # the others have the strong colours
    floors = sorted((cell.batch_size, cell.batch_size / cell.floor) for cell in cells if cell.floor)
    x, y = np.array(floors, np.float64).reshape(-1, 2).T
    limit = [Curve(x=x, y=y, label="the floor", color=-1, dashed=True)] if floors else []
    return Panel(
        title=cells[0].dtype,
        x_label="images in a step",
        y_label="images a second",
        curves=(*(_contestant(cells, name, number) for number, name in enumerate(names)), *limit),
        log_x=True,
        log_y=True,
        x_ticks=tuple(sorted(float(cell.batch_size) for cell in cells)),
        direct=True,
    )


def _contestant(cells: Sequence[Cell], name: str, color: int) -> Curve:
    """Images a second, with the ends of their intervals."""
    points = [
        (cell.batch_size, *(cell.batch_size / seconds for seconds in (row.step.median, row.step.high, row.step.low)))
        for cell in cells
        for row in cell.timed
        if row.contestant == name
    ]
    x, y, low, high = np.array(sorted(points), np.float64).T
    return Curve(x=x, y=y, low=low, high=high, label=name, color=color, thin=name in PEERS)
