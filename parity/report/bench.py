"""The page of a benchmark: who is how many times as fast as whom, and how near each comes to what is possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from parity.bench.changes import Change, changes, differences
from parity.bench.contestants import REFERENCE
from parity.bench.interval import Interval
from parity.bench.report import BUSY, DIFFERS, FAILED, TIMED, UNRANKED, BenchReport, Cell, Row
from parity.render.bench import TF32, throughput_figure
from parity.report import page
from parity.report.common import environment_section, reproduce_section
from parity.report.page import Block, Fact, Facts, Headline, Page, Section, Table, Text
from parity.report.panels import charts_of
from parity.report.ratios import ratios_section

__all__ = ["bench_page"]

MB, MICRO, GIGA = 1e6, 1e6, 1e9


def bench_page(report: BenchReport, old: BenchReport | None = None) -> Page:
    """Everything that was measured, and what has changed since an older benchmark."""
    cells = sorted(report.cells, key=lambda cell: (cell.dtype, cell.batch_size))
    names = tuple(dict.fromkeys(row.contestant for cell in cells for row in cell.rows))
    sections = (
        *_not_timed(cells),
        *_throughput(report),
        *ratios_section(cells, first=report.cells),
        *_figures(cells),
        *_changes(old, report),
        *_limits(report),
        _contestants(cells),
        _environment(report),
        reproduce_section(report.command),
    )
    return Page(
        kicker=f"benchmark of {', '.join(names)}",
        title=f"parity: benchmark of {', '.join(names)}",
        headline=_headline(report, cells),
        sections=sections,
    )


def _headline(report: BenchReport, cells: Sequence[Cell]) -> Headline:
    untimed = {cell.outcome(row) for cell in cells for row in cell.rows} - {TIMED}
    kind, word = page.TRAINED, "Measured"
    if untimed:
        kind, word = page.STOPPED, "Not all were timed"
        if DIFFERS in untimed:
            kind, word = page.DIFFERS, "Not all compute the same"
    first = [cell for cell in cells if cell.dtype == cells[0].dtype and cell.timed]
    sentence = "; ".join(_sentences(first)) or "Nothing was timed"
    return Headline(kind=kind, word=word, sentence=sentence, detail=" ".join(_details(report, cells)))


def _sentences(cells: Sequence[Cell]) -> Iterator[str]:
    """The fastest of each batch size, beside who was named first; of cells with the same two, in one clause."""
    for (fastest, other, apart), group in groupby(cells, key=_pair):
        batches = [(cell.batch_size, _times(cell, fastest, other)) for cell in group]
        if not other:
            yield f"{fastest} alone was timed, at batch {_listed([f'{batch:,}' for batch, _ in batches])}"
        elif apart:
            times = [f"{_factor(ratio.median)} times at batch {batch:,}" for batch, ratio in batches]
            times[0] = times[0].replace(" times", f" times as fast as {other}", 1)
            yield f"{fastest} is {_listed(times)}"
        else:
            shown = _listed([f"{batch:,}" for batch, _ in batches])
            yield f"{fastest} and {other} are equally fast, within the intervals, at batch {shown}"


def _pair(cell: Cell) -> tuple[str, str, bool]:
    """The fastest and the one that it is held against ("" for none), and whether they are apart beyond the interval.

    That is the first of those named, or the next fastest, where the first is the fastest. The compiled reference, which
    nobody would use, is left out as long as there are others.
    """
    rows = [row for row in cell.timed if row.contestant != REFERENCE] or list(cell.timed)
    ranked = sorted(rows, key=lambda row: row.step.median)
    if len(ranked) == 1:
        return ranked[0].contestant, "", False
    other = ranked[1] if rows[0] is ranked[0] else rows[0]
    ratio = ranked[0].times_faster(other)
    return ranked[0].contestant, other.contestant, ratio.low > 1


def _times(cell: Cell, name: str, other: str) -> Interval:
    rows = {row.contestant: row for row in cell.timed}
    return rows[name].times_faster(rows[other or name])


def _listed(parts: Sequence[str]) -> str:
    """With commas, and "and" before the last.

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _factor(value: float) -> str:
    return f"{value:.2f}" if value < 1.1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _details(report: BenchReport, cells: Sequence[Cell]) -> Iterator[str]:
    """What did not pass the judge, how far it is to the slowest and to the reference, and how it was measured."""
    untimed: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        for row in cell.rows:
            if row not in cell.timed:
                untimed.setdefault((row.contestant, cell.outcome(row)), []).append(f"{cell.batch_size:,}")
    for (name, outcome), batches in untimed.items():
        yield f"{name} {_WORDS[outcome].format(_listed(list(dict.fromkeys(batches))))}."
    if not untimed:
        yield "Every contestant computes what it should."
    largest = max((cell for cell in cells if cell.timed), key=lambda cell: len(cell.timed), default=None)
    if largest and len(largest.timed) > 2:
        yield from _extremes(largest)
    threads = "1 thread" if report.threads == 1 else f"{report.threads} threads"
    yield f"Medians of {report.rounds} rounds taken in turns, {cells[0].dtype}, {threads} each."
    if report.load > BUSY:
        yield f"Other programs were running (load {report.load:.1f}): the times are disturbed."


_WORDS = {
    DIFFERS: "does not compute what it should at batch {}, and was not timed there",
    FAILED: "failed at batch {}, and was not timed there",
    UNRANKED: "was faster than the floor at batch {}, which no program can be, and is not ranked there",
}


def _extremes(cell: Cell) -> Iterator[str]:
    """At one batch size: the fastest beside the slowest, and beside the reference."""
    fastest = next(row for row in cell.timed if row.contestant == _pair(cell)[0])
    slowest = max(cell.timed, key=lambda row: row.step.median)
    reference = next((row for row in cell.timed if row.contestant == REFERENCE), None)
    more = _factor(fastest.times_faster(slowest).median)
    text = f"At batch {cell.batch_size:,} {fastest.contestant} is {more} times as fast as {slowest.contestant}"
    if reference and reference is not fastest:
        best = _factor(reference.times_faster(fastest).median)
        text += f", and the compiled reference, on one thread, {best} times as fast as {fastest.contestant}"
    yield f"{text}."


def _not_timed(cells: Sequence[Cell]) -> tuple[Section, ...]:
    rows = tuple(
        (row.contestant, cell.dtype, f"{cell.batch_size:,}", cell.outcome(row), cell.reason(row))
        for cell in cells
        for row in cell.rows
        if row not in cell.timed
    )
    if not rows:
        return ()
    columns = ("contestant", "precision", "batch", "outcome", "reason")
    blocks: tuple[Block, ...] = (Table(caption="Compared with none", columns=columns, rows=rows),)
    if any(cell.device == "cuda" and row.outcome == DIFFERS for cell in cells for row in cell.rows):
        blocks += (Text(lines=(f"{TF32}.",)),)
    return (Section(title="What did not pass", blocks=blocks),)


def _throughput(report: BenchReport) -> tuple[Section, ...]:
    drawn = throughput_figure(report)
    if not drawn.panels:
        return ()
    return (Section(title=drawn.title, blocks=(charts_of(drawn), Text(lines=(drawn.caption,)))),)


def _figures(cells: Sequence[Cell]) -> tuple[Section, ...]:
    tables = tuple(_table(cell) for cell in cells if cell.timed)
    return (Section(title="Every figure", blocks=tables),) if tables else ()


def _table(cell: Cell) -> Table:
    """A row for each that was timed."""
    first = cell.timed[0]
    on_device = any(row.memory and row.memory.device is not None for row in cell.timed)
    columns = (
        *("contestant", "µs a step", "95 %", "images/s", f"times {first.contestant}", "95 %", "of the floor"),
        *("cores in use", "first call, s", "memory, MB", *(("on the GPU, MB",) if on_device else ())),
        "nearest to the judge's limit",
    )
    rows = tuple(_row(cell, row, on_device=on_device) for row in cell.timed)
    return Table(
        caption=f"{cell.dtype}, batch {cell.batch_size:,}, {cell.device}: {_floor(cell)}", columns=columns, rows=rows
    )


def _floor(cell: Cell) -> str:
    if cell.floor is None:
        return "no floor was measured"
    single = f", on one thread {_micro(cell.single_floor * MICRO)}" if cell.single_floor else ""
    return f"the floor is {_micro(cell.floor * MICRO)} µs a step, bound by {cell.bound}{single}"


def _row(cell: Cell, row: Row, *, on_device: bool) -> tuple[str, ...]:
    step, times = row.step.scaled(MICRO), row.times_faster(cell.timed[0])
    device = row.memory.device if row.memory else None
    return (
        row.contestant,
        _micro(step.median),
        f"{_micro(step.low)} to {_micro(step.high)}",
        f"{cell.batch_size * MICRO / step.median:,.0f}",
        f"{times.median:.2f}",
        f"{times.low:.2f} to {times.high:.2f}",
        f"{100 * cell.floor * MICRO / step.median:.1f} %" if cell.floor else "-",
        f"{sum(row.cpu_seconds) / sum(row.seconds):.2f}",
        f"{row.compile_seconds:.1f}" if row.compile_seconds is not None else "-",
        f"{row.memory.host / MB:,.0f}" if row.memory else "-",
        *((f"{device / MB:,.0f}" if device is not None else "-",) if on_device else ()),
        f"{100 * row.judged.difference / row.judged.allowed:.3g} % ({row.judged.place})" if row.judged else "-",
    )


def _micro(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _changes(old: BenchReport | None, new: BenchReport) -> tuple[Section, ...]:
    if old is None:
        return ()
    rows = tuple(
        (
            change.contestant,
            change.dtype,
            f"{change.batch_size:,}",
            change.word,
            _spread(change.old),
            _spread(change.new),
            f"{100 * (change.new.median / change.old.median - 1):+.1f} %" if change.old and change.new else "-",
            change.beside or "-",
            _ratios(change),
        )
        for change in changes(old, new)
    )
    columns = (
        *("contestant", "precision", "batch", "what", "before, µs a step", "now, µs a step", "change"),
        *("beside", "times as fast as that, before and now"),
    )
    blocks: tuple[Block, ...] = (
        Table(
            caption="Changes beyond the intervals have a word; a drift is one of the machine's level",
            columns=columns,
            rows=rows,
        ),
    )
    if lines := tuple(f"Not alike: {line}." for line in differences(old, new)):
        blocks = (Text(lines=lines), *blocks)
    return (Section(title="What has changed", blocks=blocks),) if rows else ()


def _ratios(change: Change) -> str:
    if not (change.old_ratio and change.new_ratio):
        return "-"
    spans = [f"{r.median:.2f} ({r.low:.2f} to {r.high:.2f})" for r in (change.old_ratio, change.new_ratio)]
    return ", ".join(spans)


def _spread(step: Interval | None) -> str:
    if step is None:
        return "-"
    step = step.scaled(MICRO)
    return f"{_micro(step.median)} ({_micro(step.low)} to {_micro(step.high)})"


def _limits(report: BenchReport) -> tuple[Section, ...]:
    """What the device can do, measured beside."""
    if not report.limits:
        return ()
    dtypes = tuple(dict.fromkeys(dtype for each in report.limits for dtype in each.operations))
    rows = tuple(
        (
            str(each.threads),
            *(f"{each.operations[dtype] / GIGA:,.0f}" if dtype in each.operations else "-" for dtype in dtypes),
            f"{each.bandwidth / GIGA:,.0f}",
            f"{each.memory_bandwidth / GIGA:,.0f}",
            f"{each.latency * MICRO:.2g}",
        )
        for each in report.limits
    )
    products = tuple(f"products in {dtype}, GFLOP/s" for dtype in dtypes)
    columns = ("threads", *products, "copies, GB/s", "copies beyond the caches, GB/s", "a call, µs")
    name = next((each.name for each in report.limits if each.name), report.environment.processor)
    table = Table(caption=f"{name}, measured on the spot", columns=columns, rows=rows)
    why = (
        "The floor of a step is the work that it must do at these rates: its operations at the rate of matrix "
        "products, its bytes at the rate of the fastest copy, whichever takes longer. No program that does this work "
        "on this machine is faster."
    )
    return (Section(title="Limits of this machine", blocks=(table, Text(lines=(why,)))),)


def _contestants(cells: Sequence[Cell]) -> Section:
    """How each computes, in its own words."""
    described = {row.contestant: row.description or "" for cell in cells for row in cell.rows}
    described |= {row.contestant: row.description for cell in cells for row in cell.rows if row.description}
    facts = tuple(Fact(name=name, value=text or "it did not come so far") for name, text in described.items())
    return Section(title="Contestants", blocks=(Facts(facts=facts),))


def _environment(report: BenchReport) -> Section:
    facts = (
        Fact(name="Data", value=report.data),
        Fact(name="Threads", value=f"{report.threads} for each contestant, on as many cores; one runs at a time"),
        Fact(name="Rounds", value=f"{report.rounds}, in turns; every contestant in a process of its own"),
        Fact(name="Load before", value=f"{report.load:.2f} programs running"),
        Fact(name="Intervals", value="the bootstrap's, 95 %, of the median over the rounds"),
        Fact(
            name="First call",
            value="of the 20 steps that each is judged by, less the faster of two more: mostly compiling",
        ),
    )
    return environment_section(report.environment, facts)
