"""An experiment's figures as PNG and SVG, and its table as JSON and CSV.

Colours are those of M. Okabe and K. Ito, which people with any kind of colour vision tell apart; lines of different
kinds differ in their dashes too.

Source: https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from parity.environment import describe_environment
from parity.render.line_names import dodged, name_lines
from parity.result import plain
from parity.study import Curve, Experiment, Figure, Landscape, Outcome, Panel, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = [
    "DASHES",
    "FORMAT",
    "GREY",
    "LINE",
    "PALETTE",
    "csv_text",
    "draw",
    "files_of",
    "json_text",
    "saved",
    "table_lines",
]

FORMAT = "parity.study/1"

PALETTE = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7")
GREY = "#8C8C8C"
TONES = ("#5A5A5A", "#9A9A9A", "#787878")
"""Of thin lines; of more than seven, those of one dash and marker differ in the tone."""
DASHES = ("-", (0, (6, 1.5)), (0, (3, 1, 1, 1)), (0, (1.5, 1)), (0, (8, 2, 1.5, 2)), (0, (4, 1.2)), (0, (2, 2.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "h")
CROSSES = ("x", "+", "1", "2", "3", "4", "|")
FITTED = ((0, (3, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (7, 3)), (0, (2, 4)), (0, (4, 1, 1, 1, 1, 1)), (0, (9, 1)))
"""Lines and points of the same colour, of which there are more than seven, differ in these: see `_round`."""

PANEL = {1: 6.0, 2: 5.0, 3: 4.3}
"""Inches across, by how many stand side by side."""
HEIGHT = 3.3
TALL = 4.6
"""Inches of a row of panels, and of one where names stand at the ends of lines."""
LINE = 0.19
LONG_LABEL = 32
LEVELS = 14
FEW = 200
SPARSE = 12
"""Points of a line that is short enough to mark each of them."""


def files_of(experiment: Experiment, outcome: Outcome, command: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Each file's name and content: two for each figure, two for the numbers."""
    for figure in outcome.figures:
        for kind in ("png", "svg"):
            yield f"{figure.name}.{kind}", draw(figure, kind)
    yield f"{experiment.name}.csv", csv_text(outcome.table).encode()
    yield f"{experiment.name}.json", json_text(experiment, outcome, command).encode()


def draw(figure: Figure, kind: str) -> bytes:
    """The figure with its caption beneath, as "png" or "svg"; the same bytes for the same numbers."""
    import matplotlib as mpl  # slow to import, and only needed here
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    columns = min(figure.columns, len(figure.panels))
    rows = math.ceil(len(figure.panels) / columns)
    width = PANEL[columns] * columns
    caption = textwrap.wrap(figure.caption, width=int(width * 14.2))
    foot = LINE * (len(caption) + 0.6)
    height = TALL if any(panel.direct for panel in figure.panels) else HEIGHT
    body = height * rows + 0.4 + LINE * max(map(_legend_rows, figure.panels))
    with mpl.rc_context({"svg.hashsalt": "parity", "font.size": 9, "axes.titlesize": 10, "legend.fontsize": 8}):
        canvas = Canvas(figsize=(width, body + foot), layout="constrained")
        FigureCanvasAgg(canvas)
        top, bottom = canvas.subfigures(2, 1, squeeze=False, height_ratios=[body, foot])[:, 0]
        top.suptitle(figure.title, fontsize=12, parse_math=False)
        grid = top.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(figure.panels) :]:
            axes.set_axis_off()
        for axes, panel in zip(grid.flat, figure.panels, strict=False):
            _draw_panel(axes, panel)
        bottom.text(0.012, 0.92, "\n".join(caption), va="top", fontsize=9, parse_math=False, linespacing=1.25)
        return saved(canvas, kind)


def saved(canvas: Canvas, kind: str) -> bytes:
    """The drawing as "png" or "svg"."""
    # Without a date the same numbers make the same file.
    metadata: dict[str, Any] = {"svg": {"Date": None}, "png": {"Software": None}}[kind]
    memory = io.BytesIO()
    canvas.savefig(memory, format=kind, dpi=150, metadata=metadata)
    return memory.getvalue()


def _draw_panel(axes: Axes, given: Panel) -> None:
    panel = dodged(given) if given.direct and given.log_x else given
    axes.set_title(panel.title, parse_math=False)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if panel.log_x:
        axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
    if panel.landscape:
        _draw_landscape(axes, panel.landscape, panel.curves[0])
    else:
        axes.grid(visible=True, color="#E3E3E3", linewidth=0.6)
        axes.set_axisbelow(True)
    for curve in panel.curves:
        _draw_curve(axes, curve, path=panel.landscape is not None)
    if panel.landscape:
        _frame(axes, panel.landscape)
    else:  # after the curves: what is not given is fitted to them
        axes.set_ylim(*panel.y_limits)
    if panel.x_ticks:
        axes.set_xticks(panel.x_ticks, [f"{tick:g}" for tick in panel.x_ticks])
        axes.set_xticks([], minor=True)
    if panel.direct:
        name_lines(axes, panel, [_color(curve) for curve in panel.curves])
    if _keys(panel) and panel.landscape:
        axes.legend(framealpha=0.9, handlelength=2.6)
    elif _keys(panel):  # beneath the axes, where it hides nothing
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=_legend_columns(panel), frameon=False)


def _keys(panel: Panel) -> int:
    """Entries in the panel's legend."""
    return sum(bool(curve.label) for curve in panel.curves) if panel.legend and not panel.direct else 0


def _legend_columns(panel: Panel) -> int:
    longest = max(len(curve.label) for curve in panel.curves)
    return 1 if longest > LONG_LABEL else 2


def _legend_rows(panel: Panel) -> int:
    """Lines beneath the panel's axes."""
    return 0 if panel.landscape or not _keys(panel) else math.ceil(_keys(panel) / _legend_columns(panel))


def _draw_curve(axes: Axes, curve: Curve, *, path: bool) -> None:
    style: dict[str, Any] = {"color": _color(curve)}
    if curve.low is not None and curve.high is not None:
        axes.vlines(curve.x, curve.low, curve.high, color=_color(curve), linewidth=1.0)
    if curve.label:
        style["label"] = curve.label
    if curve.beyond:
        style |= {"linestyle": "", "marker": r"$\uparrow$", "markersize": 11}
    elif curve.marks:
        markers = CROSSES if curve.dashed else MARKERS
        style |= {"linestyle": "", "marker": markers[_round(curve)], "markerfacecolor": "none", "markersize": 5}
    else:
        style |= _line(curve, path=path)
    axes.plot(curve.x, curve.y, **style)


def _color(curve: Curve) -> str:
    if curve.thin:
        return TONES[curve.color % len(TONES)]
    return GREY if curve.color < 0 else PALETTE[curve.color % len(PALETTE)]


def _round(curve: Curve) -> int:
    """How often the palette has been used up: curves of one colour differ in this."""
    return max(curve.color, 0) // len(PALETTE) % len(MARKERS)


def _line(curve: Curve, *, path: bool) -> dict[str, Any]:
    """A path of few steps has a point for each of them."""
    if curve.thin:
        turn, place = divmod(curve.color, len(MARKERS))
        how = {"linestyle": DASHES[(place + turn) % len(DASHES)], "marker": MARKERS[place]}
        return {**how, "linewidth": 0.9, "markersize": 4, "markerfacecolor": "none" if turn % 2 else None}
    if curve.dashed:
        dashes: Any = FITTED[_round(curve)]
    else:
        # In the second round each colour has the next colour's dashes, so that no pair comes twice.
        dashes = "-" if path or curve.solid or curve.color <= 0 else DASHES[(curve.color + _round(curve)) % len(DASHES)]
    if path and len(curve.x) <= FEW:
        return {"linestyle": dashes, "marker": ".", "markersize": 3.5, "linewidth": 1.0}
    # A line of one point is none, and lines of few points are told apart by them.
    marker = (
        MARKERS[(max(curve.color, 0) + _round(curve)) % len(MARKERS)] if np.isfinite(curve.y).sum() <= SPARSE else ""
    )
    return {"linestyle": dashes, "linewidth": 1.5, "marker": marker, "markersize": 4}


def _draw_landscape(axes: Axes, ground: Landscape, first: Curve) -> None:
    levels = np.geomspace(max(float(ground.z.min()), 1e-3 * float(ground.z.max())), float(ground.z.max()), LEVELS)
    axes.contour(ground.x, ground.y, ground.z, levels=levels, colors="#B9CFE0", linewidths=0.7, zorder=0)
    axes.plot(first.x[:1], first.y[:1], marker="o", markersize=8, color="#000000", markerfacecolor="none", zorder=5)
    axes.plot(*ground.optimum, marker="*", markersize=11, color="#000000", linestyle="", zorder=5)


def _frame(axes: Axes, ground: Landscape) -> None:
    axes.set_xlim(float(ground.x[0]), float(ground.x[-1]))
    axes.set_ylim(float(ground.y[0]), float(ground.y[-1]))


def table_lines(table: Table) -> Iterator[str]:
    """The table as text, columns aligned."""
    cells = [list(table.columns), *([_cell(value) for value in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(f"{value:<{width}}" for value, width in zip(row, widths, strict=True)).rstrip()


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def csv_text(table: Table) -> str:
    """The table as CSV; missing values are empty."""
    memory = io.StringIO()
    writer = csv.writer(memory, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return memory.getvalue()


def json_text(experiment: Experiment, outcome: Outcome, command: tuple[str, ...]) -> str:
    """Everything that is drawn, with the captions, the table, and what it was computed with."""
    document = {
        "format": FORMAT,
        "experiment": experiment.name,
        "question": experiment.question,
        "command": command,
        "environment": asdict(describe_environment()),
        "table": [dict(zip(outcome.table.columns, row, strict=True)) for row in outcome.table.rows],
        "figures": [_numbers(figure) for figure in outcome.figures],
    }
    return json.dumps(plain(document), indent=1, allow_nan=False) + "\n"


def _numbers(figure: Figure) -> dict[str, Any]:
    """A figure without its contours, whose formula the caption gives."""
    panels = [
        {
            "title": panel.title,
            "x": panel.x_label,
            "y": panel.y_label,
            "curves": [{"label": c.label, "x": c.x.tolist(), "y": c.y.tolist()} for c in panel.curves],
        }
        for panel in figure.panels
    ]
    return {"name": figure.name, "title": figure.title, "caption": figure.caption, "panels": panels}
