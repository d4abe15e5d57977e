"""The page of a check."""

from __future__ import annotations

from dataclasses import replace

from parity.compare import Rounding
from parity.compare.rounding import CAP
from parity.report.common import cause_blocks, environment_section, headline, reproduce_section
from parity.report.figures import A, B, figure, finite, positive, short
from parity.report.ladder import ladder_section
from parity.report.page import Block, Chart, Fact, Facts, Headline, Page, Section, Table, Text
from parity.result import CheckReport

__all__ = ["check_page"]

_ROW = 19
"""Pixels of a row in a chart of tensors."""


def check_page(report: CheckReport) -> Page:
    """Everything that is known at the end of a check."""
    sections = (
        *_difference(report),
        ladder_section(report.check, report.names),
        *_precision(report),
        _sides(report),
        _environment(report),
        reproduce_section(report.command),
    )
    names = " and ".join(report.names)
    return Page(
        kicker=f"check of {names}",
        title=f"parity: {names}",
        headline=_headline(report),
        sections=sections,
    )


def _headline(report: CheckReport) -> Headline:
    """The cause, where it is known, is what a reader wants beside the place."""
    check = report.check
    found = headline(check.finding.line if check.finding else check.line, report.names)
    if check.explanation and check.explanation.causes:
        return replace(found, detail=f"Because {'; and '.join(map(str, check.explanation.causes))}.")
    return found


def _difference(report: CheckReport) -> tuple[Section, ...]:
    """Where they part and why; nothing for a match."""
    check = report.check
    found = check.finding
    if found is None:
        return ()
    when = "in all steps alike" if found.step is None else f"step {found.step}"
    facts = [
        Fact(name="Where", value=f"{found.phase}, {when}" if found.phase else when),
        Fact(name="Stage", value=found.place.stage),
        Fact(name="Tensor", value=found.place.tensor, mono=True),
        Fact(name="Relative difference", value=f"{finite(found.difference)}; {found.allowed:.1e} is rounding"),
        Fact(name="In words", value=found.detail),
    ]
    if found.local is not None:
        facts.append(Fact(name="In this step alone", value=finite(found.local)))
    if found.off:
        facts.append(Fact(name="Who is off", value=" and ".join(found.off)))
    causes = cause_blocks(check.explanation) or (Text(lines=("No cause is known.",)),)
    return (Section(title="Where and why", blocks=(Facts(facts=tuple(facts)), *causes)),)


def _precision(report: CheckReport) -> tuple[Section, ...]:
    """Each side's own rounding errors in float32; or why there are none."""
    check = report.check
    title = "Precision in float32"
    if not check.rounding:
        if check.finding and not check.refusal:
            return ()  # float64 has decided
        why = check.refusal or "nothing was compared in float32"
        return (Section(title=title, blocks=(Text(lines=(why,)),)),)
    blocks: tuple[Block, ...] = (_error_chart(check.rounding, report.names), _error_table(report))
    return (Section(title=title, blocks=blocks),)


def _error_chart(rounding: tuple[Rounding, ...], names: tuple[str, str]) -> Chart:
    labels = [str(tensor.place) for tensor in rounding]
    floor = {
        "type": "bar",
        "orientation": "h",
        "x": positive([CAP * tensor.errors.floor for tensor in rounding]),
        "y": labels,
        "name": "counts as none",
        "marker": {"color": "var(--band)"},
        "hovertemplate": "%{y}<br>below %{x:.1e} an error is not held against a side<extra></extra>",
    }
    errors = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": positive([getattr(tensor.errors, side) for tensor in rounding]),
            "y": labels,
            "name": name,
            "marker": {"color": color, "symbol": symbol, "size": 9, "line": {"width": 2, "color": color}},
            "hovertemplate": "%{y}<br>%{x:.2e}<extra>" + "%{fullData.name}</extra>",
        }
        for side, name, color, symbol in zip("ab", names, (A, B), ("circle", "x-thin"), strict=True)
    ]
    worst = max(rounding, key=lambda tensor: tensor.excess)
    return Chart(
        name="precision",
        figure=figure([floor, *errors], {**_rows(labels), "xaxis": _ERRORS}),
        caption="Each side's own rounding error in float32, against its float64 run, by tensor: medians of the steps. "
        f"A side is less precise where its error is more than {CAP:g} times the other's, and beyond the bar.",
        alt=f"Rounding errors of {names[0]} and {names[1]} for {len(rounding)} tensors. They differ most in "
        f"{worst.place}: {worst.errors.a:.1e} and {worst.errors.b:.1e}, a factor of {worst.excess:.2g}.",
        height=_ROW * len(labels) + 110,
    )


_ERRORS = {"type": "log", "title": {"text": "relative error"}, "exponentformat": "e", "side": "bottom", "dtick": 1}


def _rows(labels: list[str]) -> dict[str, object]:
    """A layout with a row for each label, from above, and the legend above them."""
    return {
        "margin": {"l": 10, "r": 18, "t": 34, "b": 48},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "yaxis": {
            "autorange": "reversed",
            "automargin": True,
            "tickvals": labels,
            "ticktext": list(map(short, labels)),
            "tickfont": {"size": 12},
        },
    }


def _error_table(report: CheckReport) -> Table:
    rows = tuple(
        (
            str(tensor.place),
            f"{tensor.errors.a:.1e}",
            f"{tensor.errors.b:.1e}",
            f"{tensor.excess:.3g}" + (" (too large)" if tensor.broken else ""),
        )
        for tensor in report.check.rounding
    )
    columns = ("tensor", f"error of {report.names[0]}", f"error of {report.names[1]}", "factor between them")
    return Table(caption="Rounding errors in float32", columns=columns, rows=rows, folded=True)


def _sides(report: CheckReport) -> Section:
    described = zip(report.names, report.check.descriptions, strict=True)
    facts = tuple(Fact(name=name, value=description) for name, description in described)
    blocks: tuple[Block, ...] = (Facts(facts=facts),)
    if report.notes:
        blocks += (Text(lines=report.notes),)
    return Section(title="The two sides", blocks=blocks)


def _environment(report: CheckReport) -> Section:
    settings, sgd = report.settings, report.settings.sgd
    # Only programs that bring their own data and optimizer leave notes on how they were brought together.
    optimizer = "each program's own" if report.notes else f"SGD, lr {sgd.lr}, momentum {sgd.momentum}"
    facts = (
        Fact(name="Took", value=f"{report.check.seconds:.1f} s"),
        Fact(name="Device", value=report.check.device),
        Fact(name="Precision", value="float64, then full float32 (TF32 is off on both sides)"),
        Fact(name="Optimizer", value=f"{optimizer}; batch {settings.batch_size}"),
        Fact(name="Seed", value=str(settings.seed)),
        Fact(name="Data", value=report.data),
        *_digest("SHA-256 of the data", report.data_sha256),
        *_digest("SHA-256 of the weights", report.weights_sha256),
    )
    return environment_section(report.environment, facts)


def _digest(name: str, digest: str | None) -> tuple[Fact, ...]:
    return (Fact(name=name, value=digest, mono=True),) if digest else ()
