"""The figures of studies and benchmarks as interactive charts: a chart for each panel, with the same numbers.

Colours are those of M. Okabe and K. Ito without yellow, which no white page shows; darkened or lightened to a contrast
of 3 with the page. A series has a dash and a marker too: what is alike in one of the three differs in the others.

Source: https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.report.figures import figure as plotly_figure
from parity.report.page import Chart, Charts
from parity.study import Curve, Figure, Landscape, Panel

__all__ = ["Style", "charts_of", "style"]

COLORS = ("black", "orange", "sky", "green", "vermillion", "blue", "purple")
DASHES = ("solid", "8px,2px", "2px,2px", "12px,3px,2px,3px", "5px,3px", "8px,2px,2px,2px,2px,2px")
SYMBOLS = (
    *("circle", "square", "diamond", "triangle-up", "x", "triangle-down", "star"),
    *("pentagon", "cross", "hexagram", "bowtie", "hourglass", "triangle-left"),
)

POINTS = 300
"""Points of a curve at most."""

GRID = 70
"""Points of a landscape along each axis at most."""

LEVELS = 14
MARKERS = 8
"""Markers along a line."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a series is drawn: a colour of the page by name, a dash and a symbol as Plotly takes them."""

    color: str
    dash: str
    symbol: str


def style(number: int) -> Style:
    """The style of a series by its number, from 0 on; below 0 it is grey.

    There are 7 colours, 6 dashes and 13 symbols, which have no divisor in common: 546 styles. Of the first 42, those
    that share a colour differ in dash and symbol.

    >>> style(0) == style(7), style(0).color == style(7).color
    (False, True)
    """
    if number < 0:
        return Style(color="var(--grey)", dash="5px,3px", symbol="circle")
    return Style(
        color=f"var(--{COLORS[number % len(COLORS)]})",
        dash=DASHES[number % len(DASHES)],
        symbol=SYMBOLS[number % len(SYMBOLS)],
    )


def _escaped(text: str) -> str:
    """Text for a template; elsewhere `figure` does it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def charts_of(figure: Figure) -> Charts:
    """A chart for each panel."""
    return Charts(charts=tuple(_chart(panel, f"{figure.name}-{n}") for n, panel in enumerate(figure.panels)))


def _chart(panel: Panel, name: str) -> Chart:
    entries = sum(bool(curve.label) for curve in panel.curves)
    return Chart(
        name=name,
        figure=plotly_figure(list(_traces(panel)), _layout(panel)),
        caption=panel.title,
        alt=_alt(panel),
        height=310 + 22 * entries,
    )


def _traces(panel: Panel) -> Iterator[Mapping[str, Any]]:
    ground = panel.landscape
    if ground:
        yield _contours(ground)
    pointed = {curve.color for curve in panel.curves if curve.marks}
    labels = {curve.color: curve.label for curve in reversed(panel.curves) if curve.label}
    points = iter(SYMBOLS)
    for curve in panel.curves:
        trace = {
            **_numbers(curve, path=ground is not None),
            **_intervals(curve),
            "type": "scatter",
            "name": curve.label or labels.get(curve.color, ""),
            "showlegend": bool(curve.label),
            "legendgroup": curve.label or labels.get(curve.color, ""),
            "hovertemplate": f"{_hover(panel)}<extra>%{{fullData.name}}</extra>",
        }
        if curve.beyond:
            yield trace | _points(curve, "arrow-up", 14)
        elif curve.marks:
            yield trace | _points(curve, "x-thin-open" if curve.dashed else f"{_next(curve, points)}-open", 9)
        else:
            yield trace | _line(curve, pointed=curve.color in pointed)
    if ground:
        yield from _ends(ground, panel.curves[0])


def _intervals(curve: Curve) -> dict[str, Any]:
    """Bars from each point to the ends of its interval."""
    if curve.low is None or curve.high is None or len(curve.x) > POINTS:
        return {}
    ends = {"array": _short(curve.high - curve.y), "arrayminus": _short(curve.y - curve.low)}
    return {"error_y": {"type": "data", **ends, "color": style(curve.color).color, "thickness": 1.2, "width": 3}}


def _next(curve: Curve, symbols: Iterator[str]) -> str:
    """Points with a name have a symbol of their own; those without are drawn as the first are."""
    return next(symbols, SYMBOLS[-1]) if curve.label else SYMBOLS[0]


def _points(curve: Curve, symbol: str, size: int) -> dict[str, Any]:
    color = style(curve.color).color
    return {"mode": "markers", "marker": {"color": color, "symbol": symbol, "size": size, "line": {"width": 2}}}


def _line(curve: Curve, *, pointed: bool) -> dict[str, Any]:
    """Dashed lines are the second of a pair, and have open markers; through points there are lines alone."""
    look = style(curve.color)
    line = {"color": look.color, "width": 2, "dash": "6px,4px" if curve.dashed else look.dash}
    if np.isfinite(curve.y).sum() < 2:  # a line of one point is none
        return _points(curve, "line-ew-open" if curve.color < 0 else look.symbol, 12)
    if curve.color < 0 or pointed:
        return {"mode": "lines", "line": line}
    symbol = f"{look.symbol}-open" if curve.dashed else look.symbol
    marker = {"color": look.color, "symbol": symbol, "size": 8, "maxdisplayed": MARKERS}
    return {"mode": "lines+markers", "line": line, "marker": marker}


def _numbers(curve: Curve, *, path: bool) -> dict[str, NDArray[np.floating]]:
    """The points, as many as can be seen, in the digits that can be."""
    kept = _spread(len(curve.x), POINTS) if path else _extremes(curve.y)
    return {"x": _short(curve.x[kept]), "y": _short(curve.y[kept])}


def _short(values: NDArray[np.float64]) -> NDArray[np.floating]:
    """In float32, which has more digits than a screen has pixels, where it has room for the exponents."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    limits = np.finfo(np.float32)
    fits = not sizes.size or (sizes.min() >= limits.tiny and sizes.max() <= limits.max)
    return values.astype(np.float32) if fits else values


def _spread(length: int, count: int) -> NDArray[np.intp]:
    """Indices of at most so many elements at equal distances, the first and the last among them."""
    return np.unique(np.linspace(0, length - 1, min(length, count)).round().astype(np.intp))


def _extremes(values: NDArray[np.float64], points: int = POINTS) -> NDArray[np.intp]:
    """Indices of at most so many elements: of each stretch the least and the largest, so that no extreme is lost.

    >>> _extremes(np.array([0.0, 9.0, 1.0, 2.0, -9.0, 3.0, 4.0, 5.0]), points=6).tolist()
    [0, 1, 4, 7]
    """
    length = len(values)
    if length <= points:
        return np.arange(length)
    stretches = np.array_split(np.arange(length), max(points // 2 - 1, 1))
    low = np.where(np.isfinite(values), values, np.inf)
    high = np.where(np.isfinite(values), values, -np.inf)
    found = [index for part in stretches for index in (part[low[part].argmin()], part[high[part].argmax()])]
    return np.unique([0, *found, length - 1])


def _hover(panel: Panel) -> str:
    return f"{_escaped(panel.x_label)}: %{{x:.6~g}}<br>{_escaped(panel.y_label)}: %{{y:.4~g}}"


def _contours(ground: Landscape) -> Mapping[str, Any]:
    """Lines of equal height, at equal logarithmic distances."""
    rows, columns = _spread(len(ground.y), GRID), _spread(len(ground.x), GRID)
    least = 1e-3 * float(ground.z.max())
    heights = np.log10(np.maximum(ground.z, least))[np.ix_(rows, columns)]
    low, high = max(float(ground.z.min()), least), float(ground.z.max())
    return {
        "type": "contour",
        "x": ground.x[columns].astype(np.float32),
        "y": ground.y[rows].astype(np.float32),
        "z": heights.astype(np.float32),
        "autocontour": False,
        "contours": {
            "coloring": "none",
            "start": math.log10(low),
            "end": math.log10(high),
            "size": math.log10(high / low) / (LEVELS - 1),
        },
        "line": {"color": "var(--contour)", "width": 1},
        "hoverinfo": "skip",
        "showlegend": False,
        "showscale": False,
    }


def _ends(ground: Landscape, first: Curve) -> Iterator[Mapping[str, Any]]:
    """Where the paths begin, and where they should end."""
    start = (first.x[0], first.y[0])
    for name, (x, y), symbol in (("start", start, "circle-open"), ("optimum", ground.optimum, "star")):
        yield {
            "type": "scatter",
            "x": [float(x)],
            "y": [float(y)],
            "name": name,
            "mode": "markers",
            "marker": {"color": "var(--text)", "symbol": symbol, "size": 12, "line": {"width": 2}},
            "hovertemplate": f"{name}<extra></extra>",
        }


def _layout(panel: Panel) -> dict[str, Any]:
    x: dict[str, Any] = {"title": {"text": panel.x_label}, **_kind(log=panel.log_x)}
    y: dict[str, Any] = {"title": {"text": panel.y_label}, "automargin": True, **_kind(log=panel.log_y)}
    if panel.landscape:
        x["range"], y["range"] = _ends_of(panel.landscape.x), _ends_of(panel.landscape.y)
    elif panel.y_limits != (None, None):
        y["range"] = [limit and (math.log10(limit) if panel.log_y else limit) for limit in panel.y_limits]
    if panel.x_ticks:
        x |= {"tickvals": list(panel.x_ticks), "ticktext": [f"{tick:,g}" for tick in panel.x_ticks]}
    return {
        "margin": {"l": 62, "r": 12, "t": 10, "b": 48},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "showlegend": any(curve.label for curve in panel.curves),
        "xaxis": x,
        "yaxis": y,
    }


def _kind(*, log: bool) -> dict[str, Any]:
    return {"type": "log", "exponentformat": "power", "nticks": 8} if log else {"exponentformat": "power"}


def _ends_of(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    return [float(values[0]), float(values[-1])]


def _alt(panel: Panel) -> str:
    """What the axes are, and where each named curve begins and ends."""
    text = f"{panel.title}: {panel.y_label} over {panel.x_label}."
    if panel.landscape:
        return f"{text} Paths over lines of equal height: {', '.join(c.label for c in panel.curves if c.label)}."
    ends = [_ends_in_words(curve) for curve in panel.curves if curve.label]
    return text + (f" {'; '.join(ends)}." if ends else "")


def _ends_in_words(curve: Curve) -> str:
    known = np.flatnonzero(np.isfinite(curve.y))
    if not known.size:
        return f"{curve.label}: nothing"
    first, last = ((float(curve.x[index]), float(curve.y[index])) for index in (known[0], known[-1]))
    if len(known) == 1:
        return f"{curve.label}: {first[1]:.3g} at {first[0]:,g}"
    return f"{curve.label}: {first[1]:.3g} at {first[0]:,g} to {last[1]:.3g} at {last[0]:,g}"
