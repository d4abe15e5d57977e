"""The pages of `parity bench --scaling` and `--judge`: how training time grows, and what judging costs."""

from __future__ import annotations

from parity.bench.growth import Growth, Point
from parity.bench.own_cost import Cost, CostReport
from parity.bench.scaling import AXES, GrowthCurve, ScalingReport
from parity.render.bench_growth import scaling_figure
from parity.report import page
from parity.report.common import environment_section, reproduce_section
from parity.report.figures import figure
from parity.report.page import Block, Chart, Fact, Headline, Page, Section, Table, Text
from parity.report.panels import charts_of

__all__ = ["cost_page", "scaling_page"]

TITLES = {"batch": "Batch size", "width": "Width", "steps": "Steps in a call", "data": "Size of the data set"}


def scaling_page(report: ScalingReport) -> Page:
    """How time grows along each axis, and what dominates where."""
    names = ", ".join(dict.fromkeys(curve.contestant for curve in report.curves))
    return Page(
        kicker=f"scaling of {names}",
        title=f"parity: scaling of {names}",
        headline=_scaling_headline(report),
        sections=(*_failed(report), *_drawn(report), *_tables(report), _conditions(report), _command(report)),
    )


def _scaling_headline(report: ScalingReport) -> Headline:
    fitted = [curve for curve in report.curves if curve.line]
    if not fitted:
        return Headline(kind=page.STOPPED, word="Not measured", sentence="No contestant could be timed along any axis")
    first = [curve for curve in fitted if curve.axis == fitted[0].axis]
    sentence = "; ".join(f"{curve.contestant}: {_dominates(curve.sentence)}" for curve in first)
    failed = any(curve.reason for curve in report.curves)
    kind, word = (page.STOPPED, "Not all were timed") if failed else (page.TRAINED, "Measured")
    detail = f"As {AXES[first[0].axis].name} grow. Whether they compute what they should was not judged here."
    return Headline(kind=kind, word=word, sentence=sentence, detail=detail)


def _dominates(sentence: str) -> str:
    """The end of the sentence: what dominates where."""
    return sentence.rpartition(": ")[2]


def _failed(report: ScalingReport) -> tuple[Section, ...]:
    rows = tuple((c.contestant, TITLES[c.axis], c.reason) for c in report.curves if c.reason)
    if not rows:
        return ()
    table = Table(caption="Without a curve", columns=("contestant", "axis", "reason"), rows=rows)
    return (Section(title="What failed", blocks=(table,)),)


def _drawn(report: ScalingReport) -> tuple[Section, ...]:
    drawn = scaling_figure(report)
    if not drawn.panels:
        return ()
    return (Section(title=drawn.title, blocks=(charts_of(drawn), Text(lines=(drawn.caption,)))),)


def _tables(report: ScalingReport) -> tuple[Section, ...]:
    """Along each axis: the points, the fitted line, and what dominates."""
    by_axis: dict[str, list[GrowthCurve]] = {}
    for curve in report.curves:
        if curve.points:
            by_axis.setdefault(curve.axis, []).append(curve)
    return tuple(_axis_section(axis, curves) for axis, curves in by_axis.items())


def _axis_section(axis: str, curves: list[GrowthCurve]) -> Section:
    rows = tuple(
        (f"{point.x:,g}", *(_shown(curve.points[number]) for curve in curves))
        for number, point in enumerate(curves[0].points)
    )
    columns = (AXES[axis].name, *(f"{curve.contestant}, µs" for curve in curves))
    words = tuple(f"{curve.sentence}." for curve in curves)
    table = Table(caption=f"Microseconds {AXES[axis].of}, by {AXES[axis].name}", columns=columns, rows=rows)
    fitted = tuple(_fit_row(curve.contestant, curve.line) for curve in curves if curve.line)
    heads = ("contestant", "fixed, µs", f"for each {AXES[axis].unit}, µs", "largest deviation of the line")
    blocks: tuple[Block, ...] = (Text(lines=words), table)
    if fitted:
        blocks += (Table(caption=f"The fitted lines, by {AXES[axis].name}", columns=heads, rows=fitted, folded=True),)
    return Section(title=TITLES[axis], blocks=blocks)


def _shown(point: Point) -> str:
    """Microseconds, with the interval."""
    text, found = f"{point.seconds * 1e6:,.0f}", point.interval
    if found is None:
        return text
    word = ", disturbed" if found.disturbed else ""
    return f"{text} ({found.low * 1e6:,.0f} to {found.high * 1e6:,.0f}{word})"


def _fit_row(name: str, line: Growth) -> tuple[str, ...]:
    return name, f"{line.fixed * 1e6:,.3g}", f"{line.slope * 1e6:,.3g}", f"{100 * line.residual:.0f} %"


def _conditions(report: ScalingReport) -> Section:
    facts = (
        Fact(name="Data", value=report.data),
        Fact(name="Precision and device", value=f"{report.dtype}, {report.device}"),
        Fact(name="Threads", value=f"{report.threads} for each contestant"),
        Fact(name="Rounds", value=f"{report.rounds}, in turns; the bootstrap's 95 % intervals of their medians"),
        Fact(name="Highest load", value=f"{report.load:.1f}, the contestants' own included"),
    )
    return environment_section(report.environment, facts)


def _command(report: ScalingReport | CostReport) -> Section:
    return reproduce_section(report.command)


def cost_page(report: CostReport) -> Page:
    """What judging costs, beside what it may."""
    pair = " and ".join(report.names)
    facts = (
        Fact(name="Sides", value=pair),
        Fact(name="Data", value=report.data),
        Fact(name="Threads", value=str(report.threads)),
    )
    return Page(
        kicker=f"what judging {pair} costs",
        title=f"parity: what judging {pair} costs",
        headline=_cost_headline(report),
        sections=(_costs(report), environment_section(report.environment, facts), _command(report)),
    )


def _cost_headline(report: CostReport) -> Headline:
    over = [cost.name for cost in report.costs if cost.met is False]
    shown = {cost.name: cost for cost in report.costs}
    lockstep = shown.get("lockstep")
    sentence = (
        f"Training both sides in lockstep takes {lockstep.value.median:.2f} times as long as training them alone"
        if lockstep
        else "What judging costs"
    )
    detail = f"Over its limit: {', '.join(over)}." if over else "Every figure is under its limit."
    kind, word = (page.DIFFERS, "Over a limit") if over else (page.MATCH, "Under all limits")
    return Headline(kind=kind, word=word, sentence=sentence, detail=detail)


def _costs(report: CostReport) -> Section:
    rows = tuple(_cost_row(cost) for cost in report.costs)
    columns = ("what", "median", "95 %", "unit", "limit", "met", "how it was measured")
    table = Table(caption="Costs, and what they may be", columns=columns, rows=rows)
    limited = [cost for cost in report.costs if cost.bar]
    return Section(title="Costs", blocks=(*((_cost_chart(limited),) if limited else ()), table))


def _cost_row(cost: Cost) -> tuple[str, ...]:
    value = cost.value
    interval = f"{value.low:.3g} to {value.high:.3g}" if value.low < value.high else "-"
    bar = "-" if cost.bar is None else f"{cost.bar:,g}"
    met = {None: "-", True: "yes", False: "no"}[cost.met]
    return cost.name, f"{value.median:.3g}", interval, cost.unit, bar, met, cost.detail


def _cost_chart(costs: list[Cost]) -> Chart:
    """Each as a share of its limit, so that seconds and bytes have room on one axis."""
    shares = [100 * cost.value.median / (cost.bar or 1) for cost in costs]
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": [cost.name for cost in costs],
        "x": shares,
        "text": [f"{cost.value.median:.3g} {cost.unit}" for cost in costs],
        "textposition": "auto",
        "marker": {"color": ["var(--a)" if cost.met else "var(--over)" for cost in costs]},
        "hovertemplate": "%{y}: %{text}, %{x:.0f} % of its limit<extra></extra>",
    }
    layout = {
        "margin": {"l": 10, "r": 14, "t": 10, "b": 48},
        "showlegend": False,
        "xaxis": {"title": {"text": "% of the limit"}, "rangemode": "tozero"},
        "yaxis": {"automargin": True, "autorange": "reversed", "showgrid": False},
        "shapes": [
            {
                "type": "line",
                "x0": 100,
                "x1": 100,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"color": "var(--mark)", "width": 2, "dash": "dash"},
            }
        ],
    }
    listed = "; ".join(f"{cost.name} {share:.0f} %" for cost, share in zip(costs, shares, strict=True))
    return Chart(
        name="costs",
        figure=figure([trace], layout),
        caption="Each figure as a share of its limit, which is the dashed line.",
        alt=f"Costs as shares of their limits: {listed}.",
        height=46 * len(costs) + 70,
    )
