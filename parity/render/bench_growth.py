"""How training time grows, and what judging costs, as lines of text and as figures."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from parity.bench.growth import Growth
from parity.bench.own_cost import Cost
from parity.bench.scaling import AXES, GrowthCurve, ScalingReport
from parity.study import Curve, Figure, Panel

__all__ = ["axis_lines", "cost_lines", "scaling_figure"]

WIDTH = 80


def axis_lines(curves: Sequence[GrowthCurve]) -> Iterator[str]:
    """One axis: a column for each contestant, a row for each point, and what dominates where."""
    axis = AXES[curves[0].axis]
    drawn = [curve for curve in curves if curve.points]
    yield ""
    if drawn:
        yield f"{f'{axis.name}':<24}" + "".join(f"{curve.contestant:>18}" for curve in drawn)
        for number, point in enumerate(drawn[0].points):
            cells = (f"{curve.points[number].seconds * 1e6:,.0f} us" for curve in drawn)
            yield f"{point.x:<24,g}" + "".join(f"{cell:>18}" for cell in cells)
    for curve in curves:
        yield from _wrapped(curve.sentence or f"{curve.contestant}: failed {curve.reason}")


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
            f"second panel are plain ones made for it. {where.processor}, {where.cores} cores."
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
