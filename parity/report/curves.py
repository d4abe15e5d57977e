"""A run's losses over the steps, and below them, on the same steps, how far the sides are apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from parity.compare import StateGap, loss_differences
from parity.report.figures import POINTS, A, B, Band, Values, band, counted, every, figure, positive
from parity.report.page import Chart, Section, Table, Text
from parity.result import Report
from parity.running.history import Run, Window
from parity.running.judgement import Envelope

__all__ = ["EQUAL", "envelope_traces", "gap_axis", "gap_trace", "loss_section", "loss_traces"]

Trace = Mapping[str, Any]

EQUAL = "Where its line is broken, both are equal to the last bit."
"""Of a gap of exactly 0, which no log axis shows."""

_BANDS = ("var(--a-band)", "var(--b-band)")


def loss_section(report: Report, run: Run | None) -> Section:
    """The losses of every step where they are known; a table of the means in any case."""
    names = [side.name for side in report.sides]
    table = (_window_table(report.windows, names),) if report.windows else ()
    if run is None or not len(run.sides[0].all_losses):
        why = "The losses of single steps are not part of this report." if run is None else "No step was completed."
        return Section(title="Loss", blocks=(Text(lines=(why,)), *table))
    around = report.judgement.envelope if report.judgement else None
    return Section(title="Loss", blocks=(_chart(run, names, around), *table))


def _window_table(windows: Sequence[Window], names: Sequence[str]) -> Table:
    gap = ("largest gap of a step",) if len(names) == 2 else ()
    rows = tuple(
        (
            f"[{window.epoch}, {window.step:,}]",
            *(f"{loss:.4f}" for loss in window.losses),
            *((f"{window.largest_gap:.1e}",) if window.largest_gap is not None else ()),
        )
        for window in every(windows)
    )
    shown = f"; {len(rows)} of {len(windows):,} lines" if len(rows) < len(windows) else ""
    caption = f"Mean loss since the line before; [epoch, step] counts the steps done{shown}"
    return Table(caption=caption, columns=("after", *names, *gap), rows=rows, folded=True)


def _chart(run: Run, names: Sequence[str], around: Envelope | None) -> Chart:
    series = [band(side.all_losses) for side in run.sides]
    losses = [trace for number, each in enumerate(series) for trace in loss_traces(each, names[number], number)]
    gaps = list(_gap_traces(run, around)) if len(run.sides) > 1 else []
    below = any(np.isfinite(np.asarray(trace["y"], np.float64)).any() for trace in gaps)
    return Chart(
        name="losses",
        figure=figure([*losses, *(gaps if below else [])], _layout(run, around, gaps if below else [])),
        caption=_caption(series[0], run, around, below=below),
        alt=_alt(run, names, around),
        height=560 if below else 340,
    )


def loss_traces(series: Band, name: str, number: int) -> Iterator[Trace]:
    """The mean of a side, 0 or 1, and where it is one of several steps the band around it."""
    if series.width > 1:
        edges = np.concatenate([series.high, series.low[::-1]])
        yield {
            "type": "scatter",
            "x": np.concatenate([series.steps, series.steps[::-1]]),
            "y": edges,
            "fill": "toself",
            "fillcolor": _BANDS[number],
            "line": {"width": 0},
            "mode": "lines",
            "hoverinfo": "skip",
            "showlegend": False,
            "legendgroup": name,
        }
    yield {
        "type": "scatter",
        "x": series.steps,
        "y": series.mean,
        "name": name,
        "legendgroup": name,
        "mode": "lines" if len(series.steps) > 1 else "markers",
        "line": {"color": (A, B)[number], "width": 2, "dash": ("solid", "dash")[number]},
        "hovertemplate": "step %{x:,.0f}: %{y:.6g}<extra>%{fullData.name}</extra>",
    }


def _gap_traces(run: Run, around: Envelope | None) -> Iterator[Trace]:
    """The envelope first, so that the gaps lie above it; all on the lower axis."""
    if around and around.steps:
        yield from envelope_traces(around.steps, around.limits, around.gaps)
    yield gap_trace(band(loss_differences(run.sides[0].all_losses, run.sides[1].all_losses)))
    gaps = positive([state.parameters.difference for state in run.gaps])
    yield {
        "type": "scatter",
        "yaxis": "y2",
        "x": [state.steps for state in run.gaps],
        "y": gaps,
        "name": "gap of the parameters",
        "mode": "lines+markers",
        "line": {"color": "var(--text)", "width": 2.5},
        "marker": {"color": "var(--text)", "size": _dots(gaps, 7)},
        "text": [state.parameters.tensor for state in run.gaps],
        "hovertemplate": "after %{x:,} steps: %{text} %{y:.1e} apart<extra></extra>",
    }


def gap_trace(gap: Band) -> Trace:
    """How far the losses are apart, on the lower axis; a point between gaps of 0 is a dot: no line leads to it."""
    values = positive(gap.high)
    return {
        "type": "scatter",
        "yaxis": "y2",
        "mode": "lines+markers",
        "x": gap.steps,
        "y": values,
        "name": "gap of the losses",
        "line": {"color": "var(--soft)", "width": 1.5 if len(values) < _FEW else 1},
        "marker": {"color": "var(--soft)", "size": _dots(values, 5)},
        "hovertemplate": "step %{x:,.0f}: losses %{y:.1e} apart<extra></extra>",
    }


_FEW = 60
"""Points of a line that are all marked."""


def _dots(values: Values, size: int) -> list[int]:
    """The size of each point's dot: 0 within a line of many."""
    known = np.isfinite(values)
    beside = np.concatenate([[False], known, [False]])
    alone = known & ~beside[:-2] & ~beside[2:]
    return [size if dot else 0 for dot in alone | (len(values) < _FEW)]


def gap_axis(values: Sequence[float]) -> dict[str, Any]:
    """The lower axis: whole decades, with ticks at powers of ten alone."""
    low, high = _decades(values)
    ticks = {"tickmode": "linear", "tick0": low, "dtick": max(math.ceil((high - low) / 6), 1)}
    axis = {"title": {"text": "relative gap", "standoff": 8}, "automargin": True, "domain": [0, 0.44], "type": "log"}
    return {**axis, "exponentformat": "power", "range": [low - 0.1, high + 0.1], **ticks}


def envelope_traces(steps: Sequence[float], limits: Sequence[float], gaps: Sequence[float]) -> Iterator[Trace]:
    """What is allowed after so many steps, shaded down to below all gaps; nothing where nothing is."""
    allowed = positive(limits)
    if not np.isfinite(allowed).any():
        return
    # On a log axis there is no 0 to fill down to.
    floor = np.full(len(allowed), 10.0 ** (_decades([*limits, *gaps])[0] - 2))
    line = {"type": "scatter", "yaxis": "y2", "x": steps, "mode": "lines", "legendgroup": "envelope"}
    yield {**line, "y": floor, "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    yield {
        **line,
        "y": allowed,
        "name": "the envelope allows",
        "fill": "tonexty",
        "fillcolor": "var(--band)",
        "line": {"color": "var(--edge)", "width": 1.5, "dash": "dot"},
        "hovertemplate": "after %{x:,} steps: %{y:.1e} allowed<extra></extra>",
    }


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten that the values above 0 lie between; (-1, 0) where there is none."""
    found = positive(values)
    found = found[np.isfinite(found)]
    if not found.size:
        return -1, 0
    low = math.floor(math.log10(found.min()))
    return low, max(math.ceil(math.log10(found.max())), low + 1)


def _layout(run: Run, around: Envelope | None, gaps: Sequence[Trace]) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "margin": {"l": 64, "r": 14, "t": 40, "b": 48},
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        "xaxis": {
            "title": {"text": "step"},
            "anchor": "y2" if gaps else "y",
            "range": [0, max(len(run.sides[0].all_losses), 1)],
        },
        "yaxis": {
            "title": {"text": "loss", "standoff": 8},
            "automargin": True,
            "domain": [0.5, 1] if gaps else [0, 1],
        },
    }
    if gaps:
        shown = [float(value) for trace in gaps if trace.get("name") for value in trace["y"]]
        layout["yaxis2"] = gap_axis(shown)
        layout |= _marks(run, around)
    return layout


def _marks(run: Run, around: Envelope | None) -> dict[str, Any]:
    """The horizon, as a line through both charts."""
    step = _horizon(run, around)
    if step is None:
        return {}
    line = {"color": "var(--mark)", "width": 1.5, "dash": "dashdot"}
    near_end = step > 0.7 * run.steps
    return {
        "shapes": [{"type": "line", "x0": step, "x1": step, "yref": "paper", "y0": 0, "y1": 1, "line": line}],
        "annotations": [
            {
                "x": step,
                "yref": "paper",
                "y": 0.47,
                "text": f"horizon: step {step:,}",
                "showarrow": False,
                "xanchor": "right" if near_end else "left",
                "xshift": -5 if near_end else 5,
                "font": {"color": "var(--mark)", "size": 12},
            }
        ],
    }


def _horizon(run: Run, around: Envelope | None) -> int | None:
    if run.parting and run.parting.finding:
        return None  # another formula: there is no step up to which they are the same
    if around:
        return around.horizon
    return run.parting.step if run.parting else None


def _caption(series: Band, run: Run, around: Envelope | None, *, below: bool) -> str:
    parts = ["Above, the losses."]
    if series.width > 1:
        parts.append(
            f"{run.steps:,} steps are drawn as at most {POINTS}: lines are means of {series.width} steps, the bands "
            "reach from the least to the largest, so that no extreme is lost."
        )
    if below:
        parts.append(
            "Below, relative gaps: of the losses in each step (the largest, where several are drawn as one), and of "
            f"the parameters, by the tensor that differs most, after each of {len(run.gaps):,} comparisons. "
            f"{EQUAL}"
        )
    elif len(run.sides) > 1:
        parts.append("The two sides are equal to the last bit in every step: there is no gap to draw.")
    if below and around:
        parts.append(
            f"Shaded: what {counted(around.members, 'run')} of {around.side} from weights one ulp apart "
            f"{'allows' if around.members == 1 else 'allow'} the parameters."
        )
    if tail := len(run.sides[0].tail):
        parts.append(
            f"The last {tail} are of steps after which the states were not kept: a loss stopped being finite there."
            if tail > 1
            else "The last is of a step after which the states were not kept: a loss stopped being finite there."
        )
    if below and _horizon(run, around) is not None:
        parts.append("Beyond the horizon a comparison step by step means nothing; there, distributions are compared.")
    return " ".join(parts)


def _alt(run: Run, names: Sequence[str], around: Envelope | None) -> str:
    ends = " and ".join(
        f"{name} from {side.all_losses[0]:.3f} to {side.all_losses[-1]:.3f}"
        for name, side in zip(names, run.sides, strict=True)
    )
    text = f"Loss over {counted(len(run.sides[0].all_losses), 'step')}: {ends}."
    if run.gaps:
        largest: StateGap = max(run.gaps, key=lambda gap: gap.parameters.difference)
        text += f" The parameters are at most {largest.parameters.difference:.1e} apart, after {largest.steps:,} steps."
    horizon = _horizon(run, around)
    return text + (f" The horizon is at step {horizon:,}." if horizon is not None else "")
