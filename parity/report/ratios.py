"""How many times as fast a benchmark's contestants are as any one of them, with intervals, as bars on a log axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from parity.bench.interval import Interval
from parity.bench.report import Cell
from parity.report.figures import figure, short
from parity.report.page import Chart, Choice, Section
from parity.report.panels import style

__all__ = ["ratios_section"]

MARGIN = 0.06
"""Of an axis of ratios, in decades, beyond the intervals."""

BAR = 15
"""Pixels of a bar."""

PATTERNS = ("", "/", "x", ".", "-", "+", "\\", "|")

BAR_STYLES = (5, 1, 3, 4, 2, 6, 0)
"""Of the cells of a chart, in turn."""


def ratios_section(cells: Sequence[Cell], *, first: Sequence[Cell]) -> tuple[Section, ...]:
    """A chart for each contestant that the others may be held against; () where nobody can be.

    Args:
        cells: in the order in which they are drawn.
        first: the same in the order in which they were measured: the contestant that was named first is shown first.
    """
    timed = [cell for cell in cells if len(cell.timed) > 1]
    baselines = tuple(dict.fromkeys(row.contestant for cell in first for row in cell.timed if cell in timed))
    if not timed:
        return ()
    options = tuple((name, _ratio_chart(name, number, timed)) for number, name in enumerate(baselines))
    choice = Choice(name="baseline", legend="How many times as fast as", options=options)
    return (Section(title="How many times as fast", blocks=(choice,)),)


def _ratio_chart(baseline: str, number: int, cells: Sequence[Cell]) -> Chart:
    ratios = [(cell, found) for cell in cells if (found := _ratios_in(cell, baseline))]
    order = dict(
        sorted(((name, -value.median) for _, found in reversed(ratios) for name, value in found.items()), key=_second)
    )
    several = len({cell.dtype for cell, _ in ratios}) > 1
    traces = [_bars(cell, found, list(order), place, several) for place, (cell, found) in enumerate(ratios)]
    best = min(order, key=lambda name: order[name])
    low = min(1.0, *(value.low for _, found in ratios for value in found.values()))
    high = max(1.0, *(value.high for _, found in ratios for value in found.values()))
    return Chart(
        name=f"ratios-{number}",
        figure=figure(traces, _ratio_layout(list(order), baseline, low, high)),
        caption=f"How many times as fast as {baseline}, taken round by round: medians, and the bootstrap's 95 % "
        "intervals. Bars to the right of 1 are faster, to the left slower; the axis is logarithmic.",
        alt=f"Speed of {len(order)} contestants as a multiple of {baseline}'s. Most: {best}, {-order[best]:.3g} times. "
        + " ".join(f"{_cell_name(cell, several=True)}: {_in_words(found)}." for cell, found in ratios),
        height=BAR * len(order) * len(ratios) + 12 * len(order) + 110,
    )


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def _ratios_in(cell: Cell, baseline: str) -> dict[str, Interval]:
    """By contestant; nothing where the baseline was not timed."""
    rows = {row.contestant: row for row in cell.timed}
    if baseline not in rows:
        return {}
    return {name: row.times_faster(rows[baseline]) for name, row in rows.items() if name != baseline}


def _in_words(found: Mapping[str, Interval]) -> str:
    return ", ".join(f"{name} {value.median:.3g}" for name, value in found.items())


def _cell_name(cell: Cell, *, several: bool) -> str:
    return f"{cell.dtype}, batch {cell.batch_size:,}" if several else f"batch {cell.batch_size:,}"


def _bars(cell: Cell, found: Mapping[str, Interval], order: Sequence[str], place: int, several: bool) -> dict[str, Any]:
    """From 1 to the ratio: on a log axis a bar has no other beginning."""
    shown = [name for name in order if name in found]
    values = [found[name] for name in shown]
    return {
        "type": "bar",
        "orientation": "h",
        "y": shown,
        "x": [value.median - 1 for value in values],
        "base": [1.0] * len(values),
        "error_x": {
            "type": "data",
            "array": [value.high - value.median for value in values],
            "arrayminus": [value.median - value.low for value in values],
            "color": "var(--text)",
            "thickness": 1.2,
            "width": 3,
        },
        "customdata": [f"{value.median:.3g} times ({value.low:.3g} to {value.high:.3g})" for value in values],
        "name": _cell_name(cell, several=several),
        "marker": {
            "color": style(BAR_STYLES[place % len(BAR_STYLES)]).color,
            "pattern": {"shape": PATTERNS[place % len(PATTERNS)], "fillmode": "overlay", "size": 6, "solidity": 0.25},
        },
        "hovertemplate": "%{y}, %{fullData.name}: %{customdata}<extra></extra>",
    }


def _ticks(low: float, high: float) -> dict[str, Any]:
    """A log axis from a little below the lowest to a little above the highest, with 1, 2 and 5 in each decade.

    >>> _ticks(0.4, 3.0)["ticktext"]
    ['0.5', '1', '2']
    """
    ends = [math.log10(low) - MARGIN, math.log10(high) + MARGIN]
    decades = range(math.floor(ends[0]), math.ceil(ends[1]) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if ends[0] <= math.log10(tick) <= ends[1]]
    return {"range": ends, "tickvals": shown, "ticktext": [f"{tick:g}" for tick in shown]}


def _ratio_layout(order: Sequence[str], baseline: str, low: float, high: float) -> dict[str, Any]:
    line = {"color": "var(--text)", "width": 1.5}
    return {
        "margin": {"l": 10, "r": 14, "t": 34, "b": 48},
        "bargap": 0.25,
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"},
        "xaxis": {"type": "log", "title": {"text": f"times as fast as {baseline}"}, **_ticks(low, high)},
        "yaxis": {
            "type": "category",
            "autorange": "reversed",
            "automargin": True,
            "tickvals": list(order),
            "ticktext": [short(name) for name in order],
            "tickfont": {"size": 12},
            "showgrid": False,
        },
        "shapes": [{"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1, "line": line}],
    }
