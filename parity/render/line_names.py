"""Names at the ends of lines, so that nobody has to look from a line to a legend and back.

They stand beside the axes in the order of the lines, moved apart where they would overlap; a thin line leads to each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from parity.study import Curve, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["apart", "dodged", "name_lines"]

BESIDE = 1.02
"""Factor between two curves' places on a log axis."""

GAP = 0.045
"""Between two names, as a share of the axes' height."""

RIGHT = 1.04
"""Where names begin, as a share of the axes' width."""

ROOM = 1.7
"""Factor by which a log axis reaches beyond what is drawn: a single point has ticks around it then."""


def name_lines(axes: Axes, panel: Panel, colors: Sequence[str]) -> None:
    """Name each line that has a name, on axes with all of them; both scales are made to be read."""
    if panel.log_x:
        axes.set_xlim(min(panel.x_ticks) / ROOM, max(panel.x_ticks) * ROOM)
    if panel.log_y:
        _plain_ticks(axes)
    named = [(curve, color) for curve, color in zip(panel.curves, colors, strict=True) if np.isfinite(curve.y).any()]
    ends = [_end(curve) for curve, _ in named]
    places = apart([_height(axes, y) for _, y in ends], GAP)
    for (curve, color), end, place in zip(named, ends, places, strict=True):
        axes.annotate(
            curve.label,
            xy=end,
            xytext=(RIGHT, place),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            fontweight="normal" if curve.thin or curve.color < 0 else "bold",
            color=color,
            parse_math=False,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": color, "shrinkA": 1, "shrinkB": 3},
        )


def dodged(panel: Panel) -> Panel:
    """The same with its curves a little beside each other, so that intervals do not hide each other; grey stays."""
    middle = (len(panel.curves) - 1) / 2
    shifts = [1.0 if c.color < 0 else BESIDE ** (number - middle) for number, c in enumerate(panel.curves)]
    return replace(panel, curves=tuple(replace(c, x=c.x * s) for c, s in zip(panel.curves, shifts, strict=True)))


def _end(curve: Curve) -> tuple[float, float]:
    last = np.flatnonzero(np.isfinite(curve.y))[-1]
    return float(curve.x[last]), float(curve.y[last])


def _plain_ticks(axes: Axes) -> None:
    """1, 2 and 5 in each decade, in digits."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axes.get_ylim()
    axes.set_ylim(low / ROOM, high * ROOM)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=30))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,.12g}"))


def _height(axes: Axes, y: float) -> float:
    """As a share of the axes' height."""
    return float(axes.transAxes.inverted().transform(axes.transData.transform((axes.get_xlim()[0], y)))[1])


def apart(places: Sequence[float], gap: float) -> list[float]:
    """The same places, moved as little as it takes for neighbours to be a gap apart, in the same order.

    Places that come too near to each other make a group, which stands around their mean.

    >>> apart([0.5, 0.5, 0.9], 0.1)
    [0.45, 0.55, 0.9]
    """
    order = np.argsort(places, kind="stable")
    groups: list[list[float]] = []
    for index in order:
        groups.append([places[index]])
        while len(groups) > 1 and _first(groups[-1], gap) - _first(groups[-2], gap) < gap * (len(groups[-2]) - 1e-9):
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = [_first(group, gap) + gap * number for group in groups for number in range(len(group))]
    found = [0.0] * len(places)
    for index, place in zip(order, moved, strict=True):
        found[index] = float(round(place, 9))
    return found


def _first(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2
