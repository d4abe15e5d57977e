"""How training time grows, and what judging costs, as lines of text and as figures."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from parity.bench.growth import Growth, Point
from parity.bench.interval import SPREAD
from parity.bench.own_cost import Cost
from parity.bench.scaling import AXES, GrowthCurve, ScalingReport
from parity.study import Curve, Figure, Panel

__all__ = ["axis_lines", "cost_lines", "scaling_figure", "scaling_lines"]

WIDTH = 80
FIRST, COLUMN = 24, 18
BESIDE = (WIDTH - FIRST) // COLUMN
"""Contestants that have room beside each other."""


def axis_lines(curves: Sequence[GrowthCurve]) -> Iterator[str]:
    """One axis: a column for each contestant, a row for each point, and what dominates where."""
    axis = AXES[curves[0].axis]
    drawn = [curve for curve in curves if curve.points]
    yield ""
    for first in range(0, len(drawn), BESIDE):
        yield from _table(axis.name, drawn[first : first + BESIDE])
    for curve in curves:
        yield from _wrapped(curve.sentence or f"{curve.contestant}: failed {curve.reason}")


def _table(name: str, curves: Sequence[GrowthCurve]) -> Iterator[str]:
    yield f"{name:<{FIRST}}" + "".join(f"{_short(curve.contestant):>{COLUMN}}" for curve in curves)
    for number, point in enumerate(curves[0].points):
        cells = (_cell(curve.points[number]) for curve in curves)
        yield f"{point.x:<{FIRST},g}" + "".join(f"{cell:>{COLUMN}}" for cell in cells)


def _cell(point: Point) -> str:
    """The median, and by how much the interval reaches beyond it; "!" where the rounds were disturbed."""
    text, found = f"{point.seconds * 1e6:,.0f} us", point.interval
    if found is None:
        return text
    reach = max(found.high - found.median, found.median - found.low) / found.median
    return f"{text} ±{100 * reach:.0f}%{'!' if found.disturbed else ''}"


def _short(name: str) -> str:
    """The end of a long name, by which those of one package differ; the sentences have all of it."""
    return name if len(name) < COLUMN else f"...{name[4 - COLUMN :]}"


def scaling_lines() -> Iterator[str]:
    """What belongs to all axes."""
    yield ""
    yield from _wrapped(
        "±: how far the bootstrap's 95 % interval of the median reaches, as a share of it; !: it is wider than "
        f"{100 * SPREAD:.0f} % of the median, the rounds were disturbed"
    )
    yield from _wrapped("not judged: whether they compute what they should is what parity bench says without --scaling")


def cost_lines(cost: Cost) -> Iterator[str]:
    """One figure, and whether it is under its bar."""
    value = cost.value
    interval = f" ({value.low:.3g} to {value.high:.3g})" if value.low < value.high else ""
    bar = "" if cost.bar is None else f", {'under' if cost.met else 'OVER'} {cost.bar:g}"
    yield from _wrapped(f"{cost.name}: {value.median:.3g} {cost.unit}{interval}{bar}: {cost.detail}")


def _wrapped(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def scaling_figure(report: ScalingReport) -> Figure:
    """A panel for each axis: what was measured as points, the fitted lines through them."""
    axes = dict.fromkeys(curve.axis for curve in report.curves if curve.points)
    where = report.environment
    return Figure(
        name="scaling",
        title="How training time grows",
        caption=(
            f"Points: medians of {report.rounds} rounds taken in turns, {report.dtype}, {report.device}, "
            f"{report.threads} threads. Lines: a fixed time and one in proportion to the work. Both programs of the "
            f"second panel are plain ones made for it. Not judged. {where.processor}, {where.cores} cores."
        ),
        panels=tuple(_panel(axis, [c for c in report.curves if c.axis == axis and c.points]) for axis in axes),
        columns=2,
    )


def _panel(axis: str, curves: Sequence[GrowthCurve]) -> Panel:
    return Panel(
        title=f"{AXES[axis].of[2:]} time by {AXES[axis].name}",
        x_label=AXES[axis].name,
        y_label=f"seconds {AXES[axis].of}",
        curves=tuple(drawn for number, curve in enumerate(curves) for drawn in _drawn(curve, number)),
        log_x=True,
        log_y=True,
        x_ticks=tuple(point.x for point in curves[0].points),
    )


def _drawn(curve: GrowthCurve, color: int) -> Iterator[Curve]:
    x, work, seconds = (np.array([getattr(p, name) for p in curve.points]) for name in ("x", "work", "seconds"))
    yield Curve(x=x, y=seconds, label=curve.contestant, color=color, marks=True)
    if curve.line:
        yield Curve(x=x, y=_fitted(curve.line, work), color=color, dashed=True)


def _fitted(line: Growth, work: np.ndarray) -> np.ndarray:
    return line.fixed + line.slope * work
