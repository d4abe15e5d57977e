"""The ladder of stages as a heat map over steps and tensors, down to the elements of one tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parity.checking import Check
from parity.checking.details import TIE_PROBE
from parity.compare import Detail, Rung, Stage
from parity.compare.formula import EPS
from parity.contract import STAGES
from parity.report.figures import figure, finite, short
from parity.report.page import Chart, Explorer, Section

__all__ = ["COLOUR_BAR", "entry_of", "heat_layout", "ladder_section"]

LEAST, MOST = -4, 2
"""Powers of ten of the share of what is allowed that have colours of their own."""

ROWS = 60
"""Tensors that are shown; of more than that the worst."""

ROW = 19

OUTPUTS, TIES = "outputs", "ties"


@dataclass(frozen=True, kw_only=True)
class _Cell:
    column: str
    rung: Rung


def ladder_section(check: Check, names: tuple[str, str]) -> Section:
    """Every tensor of every step in float64: its difference as a share of what rounding explains."""
    cells = list(_cells(check))
    columns = list(dict.fromkeys(cell.column for cell in cells))
    places = _shown(cells)
    details = {(detail.phase, detail.place): detail for detail in check.details}
    worst = {place: max((c for c in cells if c.rung.place == place), key=_rank) for place in places}
    entries = tuple(_entry(worst[place], details) for place in places)
    rungs = [worst[place].rung for place in places]
    chosen = _chosen(check, places, rungs, entries)
    explorer = Explorer(
        chart=_heat_map(cells, columns, places, left_out=len({c.rung.place for c in cells}) - len(places)),
        legend="Look into a tensor:",
        entries=entries,
        sides=names,
        chosen=chosen,
        columns=tuple(map(_where, columns)),
    )
    return Section(title="The ladder of stages", blocks=(explorer,))


def _where(column: str) -> str:
    """A column in words."""
    return {OUTPUTS: "the outputs after the steps", TIES: "the step full of ties"}.get(column, f"step {column}")


def _chosen(check: Check, places: Sequence[Stage], rungs: Sequence[Rung], entries: Sequence[Mapping[str, Any]]) -> int:
    """The tensor shown at first: what was found, or else the first that breaks, or the one nearest to it.

    Of those that agree, one whose elements were kept is preferred: there is more to look at.
    """
    if check.finding and check.finding.place in places:
        return places.index(check.finding.place)
    broken = (number for number, rung in enumerate(rungs) if rung.broken)
    return next(
        broken, max(range(len(rungs)), key=lambda n: (bool(entries[n]["rows"]), rungs[n].judged, rungs[n].share))
    )


def _cells(check: Check) -> Iterator[_Cell]:
    """Each rung with what it was computed in: after the steps comes the evaluation, and after that the tie probe."""
    evaluated = False
    for rung in check.rungs:
        if rung.place.stage == "evaluation":
            evaluated = True
            yield _Cell(column=OUTPUTS, rung=rung)
        else:
            yield _Cell(column=TIES if evaluated else str(rung.step), rung=rung)


def _rank(cell: _Cell) -> tuple[bool, bool, float]:
    return cell.rung.broken, cell.rung.judged, cell.rung.share


def _shown(cells: Sequence[_Cell]) -> list[Stage]:
    """The places in the order of the stages, if need be the worst of them alone."""
    places = list(
        dict.fromkeys(cell.rung.place for cell in sorted(cells, key=lambda c: STAGES.index(c.rung.place.stage)))
    )
    if len(places) <= ROWS:
        return places
    worst = sorted(cells, key=_rank, reverse=True)
    kept = set(list(dict.fromkeys(cell.rung.place for cell in worst))[:ROWS])
    return [place for place in places if place in kept]


def _heat_map(cells: Sequence[_Cell], columns: Sequence[str], places: Sequence[Stage], *, left_out: int) -> Chart:
    by_place = {(cell.rung.place, cell.column): cell.rung for cell in cells}
    grid = [[by_place.get((place, column)) for column in columns] for place in places]
    labels = [str(place) for place in places]
    trace = {
        "type": "heatmap",
        "z": [[_level(rung) for rung in row] for row in grid],
        "x": list(columns),
        "y": labels,
        "text": [["✗" if rung and rung.broken else "" for rung in row] for row in grid],
        "texttemplate": "%{text}",
        "customdata": [[_cell_text(rung) for rung in row] for row in grid],
        "hovertemplate": "%{y}<br>%{x}: %{customdata}<extra></extra>",
        "zmin": LEAST,
        "zmax": MOST,
        "xgap": 2,
        "ygap": 2,
        "colorscale": _SCALE,
        "colorbar": {
            **COLOUR_BAR,
            "tickvals": [-4, -2, 0, 2],
            "ticktext": ["0.01%", "1%", "100%", "x100"],
        },
    }
    broken = [cell for cell in cells if cell.rung.broken]
    more = f" {left_out} tensors that agree better are not shown." if left_out else ""
    return Chart(
        name="ladder",
        figure=figure([trace], heat_layout(labels, "")),
        caption="Relative difference in float64, as a share of what rounding explains; ✗ is beyond it. Empty where "
        "there is nothing to compare: no such tensor, zero but for rounding, or rounding may move it by its own size. "
        f"Columns are steps; “{OUTPUTS}” are the outputs after the steps, “{TIES}” one step on inputs full of them. "
        "A click on a cell or on a name looks into that tensor, at the step where it is worst; so does the list "
        f"below.{more}",
        alt=f"Heat map of {len(labels)} tensors over {len(columns)} columns. " + _summary(cells, broken),
        height=ROW * len(labels) + 120,
    )


def _summary(cells: Sequence[_Cell], broken: Sequence[_Cell]) -> str:
    if broken:
        return f"{len(broken)} cells are beyond rounding, first {broken[0].rung.place} at step {broken[0].rung.step}."
    worst = max(cells, key=_rank).rung
    return f"No cell is beyond rounding; the largest share is {100 * worst.share:.1f} %, of {worst.place}."


_SCALE = [(0, "var(--low)"), (0.33, "var(--mid)"), (0.666, "var(--high)"), (0.667, "var(--over)"), (1, "var(--far)")]
"""Blue up to what is allowed (at two thirds: a share of 1), orange beyond it."""


COLOUR_BAR = {
    "orientation": "h",
    "thickness": 10,
    "x": 0,
    "xanchor": "left",
    "y": 1,
    "yanchor": "bottom",
    "len": 1,
    "tickangle": 0,
    "tickfont": {"size": 11},
    "outlinewidth": 0,
}
"""Above the map, over its whole width, with labels that stand upright: on a phone there is no room beside it."""


def heat_layout(labels: Sequence[str], title: str) -> dict[str, Any]:
    """A heat map's layout: a row for each label, from above."""
    return {
        "margin": {"l": 10, "r": 26, "t": 44, "b": 46},
        "xaxis": {
            "title": {"text": title, "standoff": 8},
            "automargin": True,
            "type": "category",
            "showgrid": False,
            "fixedrange": True,
        },
        "yaxis": {
            "autorange": "reversed",
            "automargin": True,
            "type": "category",
            "tickvals": list(labels),
            "ticktext": list(map(short, labels)),
            "tickfont": {"size": 12},
            "showgrid": False,
            "fixedrange": True,
        },
    }


def _level(rung: Rung | None) -> float | None:
    """The colour: a power of ten, or None for a gap."""
    if rung is None or not rung.judged:
        return None
    return (
        min(max(math.log10(rung.share), LEAST), MOST) if 0 < rung.share < math.inf else (MOST if rung.share else LEAST)
    )


def _cell_text(rung: Rung | None) -> str:
    if rung is None:
        return "not computed"
    if rung.problem:
        return rung.problem
    if rung.zero:
        return "zero but for rounding"
    return f"{finite(rung.difference, '.1e')} of {rung.allowed:.1e} allowed"


def _entry(cell: _Cell, details: Mapping[tuple[str, Stage], Detail]) -> Mapping[str, Any]:
    rung = cell.rung
    detail = details.get((TIE_PROBE if cell.column == TIES else "", rung.place))
    where = _where(cell.column)
    share = f"{100 * rung.share:.3g} % of it" if rung.share <= 1 else f"{rung.share:.2g} times that"
    facts = [("Worst in", where)]
    if rung.difference < math.inf:
        facts.append(("Relative difference", f"{rung.difference:.2e} ({rung.difference / EPS:,.3g} ulp)"))
        facts.append(("Rounding explains", f"{rung.allowed:.2e}" + (f"; this is {share}" if rung.judged else "")))
    elif not rung.problem:
        facts.append(("Relative difference", finite(rung.difference)))
    why = rung.problem or ("its gradient is zero but for rounding, so it is not judged" if rung.zero else "")
    note = why or ("" if detail else "Its elements were not kept.")
    return entry_of(str(rung.place), facts, detail, note=note, shown=where)


def entry_of(
    label: str, facts: Sequence[tuple[str, str]], detail: Detail | None, *, note: str = "", shown: str
) -> Mapping[str, Any]:
    """A tensor as an explorer shows it; `shown` is the column that its elements are of."""
    return {
        "label": label,
        "facts": [*facts, *(_counted(detail) if detail else ())],
        "note": note,
        "shown": shown,
        "edges": detail.edges if detail else (),
        "counts": detail.counts if detail else (),
        "rows": [
            (f"[{', '.join(map(str, each.index))}]", f"{each.a:.9g}", f"{each.b:.9g}", f"{each.a - each.b:+.3e}")
            for each in (detail.largest if detail else ())
        ],
    }


def _counted(detail: Detail) -> Iterator[tuple[str, str]]:
    """Its size, and how many of its elements differ, or are no numbers."""
    size = math.prod(detail.shape)
    share = f" ({100 * detail.unequal / size:.1f} %)" if size else ""
    yield "Shape", " by ".join(map(str, detail.shape)) or "a single number"
    yield "Elements that differ at all", f"{detail.unequal:,} of {size:,}{share}"
    if detail.not_finite:
        alike = f", {detail.not_finite_alike:,} of them the same on both sides" if detail.not_finite_alike else ""
        yield "Elements that are not finite", f"{detail.not_finite:,} of {size:,}{alike}; no histogram counts them"
