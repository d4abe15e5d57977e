"""The page of two traces compared: where they part, what was taken for noise, and their losses."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.compare import Stage, loss_differences
from parity.contract import StepTrace
from parity.environment import Environment
from parity.report.common import cause_blocks, environment_section, reproduce_section
from parity.report.curves import EQUAL, envelope_traces, gap_axis, gap_trace, loss_traces
from parity.report.figures import POINTS, band, figure, finite, positive
from parity.report.page import (
    DIFFERS,
    MATCH,
    UNDECIDED,
    Block,
    Chart,
    Code,
    Fact,
    Facts,
    Headline,
    Page,
    Section,
    Table,
    Text,
)
from parity.report.steps import steps_section
from parity.trace import Break, TraceComparison, TraceOutcome
from parity.trace.manifest import Manifest

__all__ = ["ComparisonReport", "comparison_page"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparisonReport:
    """A comparison, and what its page shows besides.

    Args:
        command: as it was given.
        environment: of the comparison; each side's own is in its trace.
        comparison: the result.
        losses: (steps,) of either side, over the steps that both hold; None where they are gone.
        recorded: the two traces' manifests, with what each was recorded with; None where they are gone.
        steps: the first steps of either with all their stages; None where they are gone, or either has none.
    """

    command: tuple[str, ...]
    environment: Environment
    comparison: TraceComparison
    losses: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    recorded: tuple[Manifest, Manifest] | None = None
    steps: tuple[Sequence[StepTrace], Sequence[StepTrace]] | None = None


def comparison_page(report: ComparisonReport) -> Page:
    """Everything that is known of two traces."""
    comparison = report.comparison
    names = [side.implementation for side in comparison.sides[:2]]
    sections = (
        *_where(comparison),
        *(_losses(report, names, report.losses) if report.losses else ()),
        *(steps_section(report.steps, (names[0], names[1]), first=_first(comparison)) if report.steps else ()),
        _distances(comparison),
        _traces(comparison),
        *(_recorded(report.recorded) if report.recorded else ()),
        environment_section(report.environment, _facts(comparison)),
        reproduce_section(report.command),
    )
    pair = " and ".join(names)
    return Page(
        kicker=f"traces of {pair}", title=f"parity: traces of {pair}", headline=_headline(comparison), sections=sections
    )


def _first(comparison: TraceComparison) -> Stage | None:
    """The tensor that was found; the loss is a tensor of its own."""
    found = comparison.first_break
    return Stage(stage=found.stage, tensor=found.tensor or "loss") if found else None


def _headline(comparison: TraceComparison) -> Headline:
    pair = " and ".join(side.implementation for side in comparison.sides[:2])
    found = comparison.first_break
    if comparison.outcome is TraceOutcome.MATCH:
        until = f", up to step {comparison.horizon:,}" if comparison.horizon is not None else ""
        detail = _noise(comparison)
        return Headline(kind=MATCH, sentence=f"{pair} match in {comparison.dtype}{until}", detail=detail)
    if comparison.outcome is TraceOutcome.DIFFERS and found:
        cause = f"Cause: {comparison.explanation.line}" if comparison.explanation else ""
        return Headline(kind=DIFFERS, sentence=f"{pair} differ at {_place(found)}", detail=cause)
    sentence = f"It is undecided whether {pair} match in {comparison.dtype}"
    return Headline(kind=UNDECIDED, sentence=sentence, detail=_undecided(comparison))


def _noise(comparison: TraceComparison) -> str:
    """The rule in a sentence."""
    rule = comparison.rule
    if rule.startswith("bound "):
        return f"Relative differences up to {rule.removeprefix('bound ')} count as noise."
    return f"What counts as noise: {rule}."


def _undecided(comparison: TraceComparison) -> str:
    if comparison.first_break:
        return f"In {comparison.dtype} rounding alone may part two runs. Record both in float64."
    return f"{comparison.dtype} needs null runs to be held against: record one with --nudge, and give --null."


def _place(found: Break) -> str:
    tensor = f", {found.tensor}" if found.tensor else ""
    return f"step {found.step:,}, {found.stage}{tensor}"


def _where(comparison: TraceComparison) -> tuple[Section, ...]:
    """The first thing beyond the noise, and its causes; nothing where there is none."""
    found = comparison.first_break
    if found is None:
        return ()
    facts = (
        Fact(name="Where", value=f"step {found.step:,}"),
        Fact(name="Stage", value=found.stage),
        *((Fact(name="Tensor", value=found.tensor, mono=True),) if found.tensor else ()),
        Fact(name="Relative difference", value=f"{finite(found.difference)}, {_measured(found)}"),
        Fact(name="Noise may reach", value=f"{found.allowed:.1e}"),
        Fact(name="The last state within it", value=_since(found)),
    )
    blocks: list[Block] = [Facts(facts=facts), *cause_blocks(comparison.explanation)]
    if comparison.lacking:
        blocks.append(Text(lines=(f"The traces do not hold what its cause is found by: {comparison.lacking}",)))
    return (Section(title="Where and why", blocks=tuple(blocks)),)


def _measured(found: Break) -> str:
    return {"exactly": "measured in full", "estimated": "estimated from projections"}.get(
        found.measured, "at least: from norms"
    )


def _since(found: Break) -> str:
    return f"after step {found.since:,}" if found.since >= 0 else "the initial weights"


def _losses(
    report: ComparisonReport, names: Sequence[str], losses: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> tuple[Section, ...]:
    series = [band(each) for each in losses]
    shown = [trace for number, each in enumerate(series) for trace in loss_traces(each, names[number], number)]
    gap = band(loss_differences(*losses))
    below = positive(gap.high)
    apart = bool(np.isfinite(below).any())
    drawn = below.tolist() if apart else []
    if apart and report.comparison.noise is not None:  # first, so that the gaps lie above it
        allowed = band(report.comparison.noise).high
        shown += envelope_traces(gap.steps.tolist(), allowed.tolist(), drawn)
        drawn += allowed.tolist()
    if apart:
        shown.append(gap_trace(gap))
    chart = Chart(
        name="losses",
        figure=figure(shown, _layout(report.comparison, drawn)),
        caption=" ".join(_caption(report.comparison, series[0].width, apart=apart)),
        alt=_alt(report.comparison, names, losses),
        height=560 if apart else 340,
    )
    return (Section(title="Loss", blocks=(chart,)),)


def _layout(comparison: TraceComparison, gaps: Sequence[float]) -> dict[str, Any]:
    apart = len(gaps) > 0
    axis = {"title": {"text": "step"}, "anchor": "y2" if apart else "y", "range": [0, max(comparison.steps - 1, 1)]}
    layout: dict[str, Any] = {
        "margin": {"l": 76, "r": 14, "t": 40, "b": 48},
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        "xaxis": axis,
        "yaxis": {
            "title": {"text": "loss", "standoff": 8},
            "automargin": True,
            "domain": [0.5, 1] if apart else [0, 1],
        },
    }
    if apart:
        layout["yaxis2"] = gap_axis(gaps)
    if comparison.horizon is not None:
        line = {"color": "var(--mark)", "width": 1.5, "dash": "dashdot"}
        step = comparison.horizon
        layout["shapes"] = [{"type": "line", "x0": step, "x1": step, "yref": "paper", "y0": 0, "y1": 1, "line": line}]
    return layout


def _caption(comparison: TraceComparison, width: int, *, apart: bool) -> Iterator[str]:
    yield "Above, the losses." if apart else "The losses, equal to the last bit in every step: there is no gap to draw."
    if width > 1:
        yield (
            f"{comparison.steps:,} steps are drawn as at most {POINTS}: lines are means of {width} steps, the bands "
            "reach from the least to the largest."
        )
    if apart:
        yield f"Below, how far they are apart in each step, the largest where several are drawn as one. {EQUAL}"
    if apart and comparison.noise is not None:
        yield f"Shaded: {comparison.rule}, which count as noise."
    if comparison.horizon is not None:
        yield f"The line: at step {comparison.horizon:,} null runs part by themselves."


def _alt(comparison: TraceComparison, names: Sequence[str], losses: Sequence[NDArray[np.float64]]) -> str:
    ends = " and ".join(
        f"{name} from {each[0]:.3f} to {each[-1]:.3f}" for name, each in zip(names, losses, strict=True)
    )
    largest = comparison.largest["loss"]
    return (
        f"Loss over {comparison.steps:,} steps: {ends}. They are at most {largest.difference:.1e} apart, "
        f"at step {largest.step:,}."
    )


def _distances(comparison: TraceComparison) -> Section:
    rows = tuple(
        (stage, f"{largest.difference:.2e}", f"{largest.step:,}", largest.tensor or "")
        for stage, largest in comparison.largest.items()
    )
    table = Table(
        caption="The largest relative difference of each stage",
        columns=("stage", "difference", "step", "tensor"),
        rows=rows,
    )
    lines = (
        _noise(comparison),
        f"Of {comparison.recorded:,} states {comparison.full:,} are compared in full, the others by projections; "
        f"storing these adds {comparison.resolution:.1e} at most.",
    )
    return Section(title="How far apart", blocks=(table, Text(lines=lines)))


def _traces(comparison: TraceComparison) -> Section:
    labels = ("A", "B", *["null run"] * (len(comparison.sides) - 2))
    rows = tuple(
        (label, side.implementation, side.description, f"{side.steps:,} of {side.planned:,}", side.path)
        for label, side in zip(labels, comparison.sides, strict=True)
    )
    table = Table(
        caption="What was compared", columns=("trace", "implementation", "computed by", "steps", "folder"), rows=rows
    )
    return Section(title="The traces", blocks=(table,))


def _recorded(sides: tuple[Manifest, Manifest]) -> tuple[Section, ...]:
    """What each side was recorded with; a name that only one has stands with a dash on the other."""
    rows = (
        ("device", *(side.device for side in sides)),
        ("packages", *(_packages(side) for side in sides)),
        ("Python", *(f"Python {side.environment.python}" for side in sides)),
        ("processor", *(f"{side.environment.processor}, {side.environment.cores} cores in use" for side in sides)),
        ("system", *(side.environment.system for side in sides)),
        ("variables", *(_variables(side) for side in sides)),
    )
    columns = ("", *(f"{label}: {side.implementation}" for label, side in zip("AB", sides, strict=True)))
    table = Table(caption="What each side was recorded with", columns=columns, rows=rows)
    line = "Precision is part of each side's own description, above: what it computes in, and whether TF32 is off."
    commands = (
        Code(text=shlex.join(side.command), label=f"The command that recorded {label}")
        for label, side in zip("AB", sides, strict=True)
        if side.command
    )
    return (Section(title="Each side's environment", blocks=(table, Text(lines=(line,)), *commands)),)


def _packages(side: Manifest) -> str:
    return ", ".join(f"{name} {version}" for name, version in side.environment.packages.items())


def _variables(side: Manifest) -> str:
    found = side.environment.variables
    return ", ".join(f"{name}={value}" for name, value in found.items()) or "none that change how it computes"


def _facts(comparison: TraceComparison) -> tuple[Fact, ...]:
    return (
        Fact(name="Compared", value=f"{comparison.steps:,} steps in {comparison.dtype}"),
        Fact(name="What follows", value="is of the comparison; each side's own is above"),
    )
