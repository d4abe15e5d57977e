"""How far each tensor's two values are apart over a run, as a heat map, and the elements of the final ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from parity.compare import Stage, StateGap, tensor_detail
from parity.report.figures import figure, finite, log_ticks
from parity.report.ladder import COLOUR_BAR, ROW, ROWS, entry_of, heat_layout
from parity.report.page import Chart, Explorer, Section
from parity.running.history import Run

__all__ = ["gap_map", "tensor_section"]

END = "the end of the run"
"""What the elements are of."""

COLUMNS = 160
"""Comparisons that have a column of their own; of more than that several share one, by the largest."""


def tensor_section(run: Run) -> tuple[Section, ...]:
    """Parameters and momentum; nothing for one side, or where no states were compared."""
    if len(run.sides) < 2 or not run.gaps or not run.gaps[-1].tensors:
        return ()
    places = _shown(run.gaps)
    end = run.gaps[-1].tensors
    explorer = Explorer(
        chart=gap_map(run.gaps, places, name="tensors", caption=_CAPTION),
        legend="Look into a tensor at the end of the run:",
        entries=tuple(_entry(place, run) for place in places),
        sides=(run.sides[0].name, run.sides[1].name),
        chosen=max(range(len(places)), key=lambda number: end.get(places[number], 0.0)),
        columns=(*(_column(group) for group in _groups(run.gaps)[:-1]), END),
    )
    return (Section(title="Tensor by tensor", blocks=(explorer,)),)


def _column(group: Sequence[StateGap]) -> str:
    """In words."""
    return f"up to step {group[-1].steps:,}" if len(group) > 1 else f"after {group[-1].steps:,} steps"


def _shown(gaps: Sequence[StateGap]) -> list[Stage]:
    """In their order; of too many those that end furthest apart."""
    places = list(dict.fromkeys(place for gap in gaps for place in gap.tensors))
    kept = sorted(places, key=lambda place: -gaps[-1].tensors.get(place, 0.0))[:ROWS]
    return [place for place in places if place in kept]


_CAPTION = (
    "Relative difference of each tensor after every comparison of the two states. Empty where both are equal to the "
    "last bit. A click on a cell or on a name looks into that tensor as it is at the end of the run; so does the list "
    "below."
)


def _groups(gaps: Sequence[StateGap]) -> list[Sequence[StateGap]]:
    """The comparisons of each column."""
    width = math.ceil(len(gaps) / COLUMNS)
    return [gaps[start : start + width] for start in range(0, len(gaps), width)]


def gap_map(
    gaps: Sequence[StateGap], places: Sequence[Stage], *, name: str, caption: str, when: str = "up to step"
) -> Chart:
    """A heat map of how far each tensor is apart; a column is one comparison, or the largest of several.

    Args:
        gaps: the comparisons.
        places: the tensors, in the order of the rows.
        name: of the chart.
        caption: what it shows.
        when: before a column's number.
    """
    groups = _groups(gaps)
    width = len(groups[0])
    values = np.array([[max(gap.tensors.get(place, 0.0) for gap in group) for group in groups] for place in places])
    known = values[(values > 0) & np.isfinite(values)]
    low, high = (math.floor(math.log10(known.min())), math.ceil(math.log10(known.max()))) if known.size else (-17, 0)
    with np.errstate(divide="ignore"):
        levels = np.where(np.isfinite(values), np.log10(values), high)
    labels = [str(place) for place in places]
    trace = {
        "type": "heatmap",
        "z": [[level if math.isfinite(level) else None for level in row] for row in levels.tolist()],
        "x": [group[-1].steps for group in groups],
        "y": labels,
        "customdata": [[finite(value, ".1e") if value else "equal to the last bit" for value in row] for row in values],
        "hovertemplate": f"%{{y}}<br>{when} %{{x}}: %{{customdata}}<extra></extra>",
        "zmin": low,
        "zmax": max(high, low + 1),
        "colorscale": [(0, "var(--low)"), (0.5, "var(--mid)"), (1, "var(--high)")],
        "ygap": 1,
        "colorbar": {
            **COLOUR_BAR,
            **log_ticks(low, max(high, low + 1)),
        },
    }
    layout = heat_layout(labels, "step")
    layout["xaxis"] |= {"type": "linear", "nticks": 3, "tickangle": 0}
    worst = max(gaps[-1].tensors, key=lambda place: gaps[-1].tensors[place])
    return Chart(
        name=name,
        figure=figure([trace], layout),
        caption=caption + (f" A column is the largest of {width} comparisons." if width > 1 else ""),
        alt=f"Heat map of {len(labels)} tensors over {gaps[-1].steps:,} steps. At the end {worst} differs most, by "
        f"{finite(gaps[-1].tensors[worst], '.1e')}.",
        height=ROW * len(labels) + 120,
    )


def _entry(place: Stage, run: Run) -> dict[str, object]:
    first, second = ({"weights": side.weights, "momentum": side.momentum}[place.stage] for side in run.sides[:2])
    a, b = first.get(place.tensor), second.get(place.tensor)
    largest = max(run.gaps, key=lambda gap: gap.tensors.get(place, 0.0))
    facts = [
        ("After", f"{run.gaps[-1].steps:,} steps"),
        ("Relative difference", finite(run.gaps[-1].tensors.get(place, 0.0))),
        ("Largest during the run", f"{finite(largest.tensors.get(place, 0.0))}, after {largest.steps:,} steps"),
    ]
    detail = tensor_detail(place, a, b, step=run.steps) if a is not None and b is not None else None
    return dict(entry_of(str(place), facts, detail, note="" if detail else "Only one side keeps it.", shown=END))
