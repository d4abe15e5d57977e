"""Reports as Markdown, for a job summary or a pull request: the verdict, the cause, and a table.

What comes from outside (names, paths, class names) is escaped: markup in it stays text.

Source: https://github.github.com/gfm/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from parity.checking import Check
from parity.compare import Gap
from parity.compare.formula import EPS
from parity.explain import Explanation
from parity.render.check import shown_rungs
from parity.render.drill import verdict_line as drill_verdict
from parity.render.terminal import last_line
from parity.render.trace import verdict_line
from parity.result import CheckReport, DrillReport, Report
from parity.trace import TraceComparison

__all__ = ["check_summary", "drill_summary", "run_summary", "trace_summary"]

MARKED = ("*", "`")
"""With these begins a cell that is marked up already."""

_LISTED = 20
"""Faults of a drill that are listed one by one, where they are not found as they should be."""


def run_summary(report: Report) -> str:
    """A run of one or two sides."""
    names = [side.name for side in report.sides]
    rows = [
        ("last loss", *(_number(side.final_loss) for side in report.sides)),
        ("test accuracy", *(_share(side.predictions.accuracy if side.predictions else None) for side in report.sides)),
        (f"{report.steps:,} steps, seconds", *(f"{side.seconds:.1f}" for side in report.sides)),
    ]
    lines = [
        *_head("run" if len(names) > 1 else "train", names, last_line(report)),
        *_table(("", *map(_code, names)), rows),
    ]
    if report.comparison:
        compared = report.comparison
        pairs = [
            ("losses, at most", f"{compared.largest_loss:.1e} (step {compared.largest_loss_step:,})"),
            ("final parameters, at most", _gap(compared.parameters)),
            ("final momentum, at most", _gap(compared.momentum)),
            ("equal predictions", _share(compared.agreement)),
        ]
        lines += _table((f"{report.settings.dtype}, the two sides", "relative difference"), pairs)
    lines += [f"Data: {_text(report.data.origin)}.", "", *_foot(report.command)]
    return "\n".join(lines)


def check_summary(report: CheckReport) -> str:
    """A check: each stage by its worst tensor, and every tensor of the first that breaks."""
    check = report.check
    lines = _head("check", report.names, f"verdict: {check.finding.line if check.finding else check.line}")
    lines += _causes(check.explanation)
    lines += _table(("stage", "float64, ulp", "share of rounding", "float32, ratio"), list(_stages(check)))
    lines += [f"Data: {_text(report.data)}.", "", *_foot(report.command)]
    return "\n".join(lines)


def _stages(check: Check) -> Iterator[tuple[str, ...]]:
    rounding = {tensor.place: tensor for tensor in check.rounding}
    for rung in shown_rungs(check):
        single = rounding.get(rung.place)
        finite = rung.difference < float("inf")
        ulps = "zero" if rung.zero else f"{rung.difference / EPS:.3g}" if finite else "-"
        share = "**BROKEN**" if rung.broken else "noise" if rung.vacuous else f"{100 * rung.share:.1f} %"
        ratio = "" if single is None else f"{single.excess:.3g}"
        yield str(rung.place), ulps, "" if rung.zero else share, f"**{ratio}**" if single and single.broken else ratio


def trace_summary(comparison: TraceComparison) -> str:
    """Two traces: the largest differences, and where they are."""
    sides = comparison.sides[:2]
    lines = _head("compare", [f"{side.implementation} ({side.path})" for side in sides], verdict_line(comparison))
    lines += _causes(comparison.explanation)
    rows = [
        (stage, largest.tensor or "", f"{largest.step:,}", f"{largest.difference:.1e}")
        for stage, largest in comparison.largest.items()
    ]
    lines += _table(("largest difference", "tensor", "step", f"{comparison.dtype}, relative"), rows)
    lines += [f"{comparison.steps:,} steps, {comparison.recorded:,} recorded states; noise: {_text(comparison.rule)}."]
    return "\n".join([*lines, ""])


def drill_summary(report: DrillReport) -> str:
    """A drill: the rates, and what was not found as it should be."""
    rates, applied = report.rates, [result for result in report.results if result.applies]
    lines = _head("drill", [report.implementation], drill_verdict(rates))
    counts = [
        ("detected", rates.detected, rates.faults),
        ("at the right stage", rates.right_stage, rates.faults),
        ("within the first step that can show it", rates.in_time, rates.faults),
        ("named", rates.named, rates.nameable),
        ("false alarms", rates.false_alarms, rates.benign),
    ]
    lines += _table(("faults", "", ""), [(what, str(part), f"of {of}") for what, part, of in counts if of])
    wrong = [result for result in applied if not result.right]
    if wrong:
        rows = [(result.key, result.title, result.expected, result.at) for result in wrong[:_LISTED]]
        lines += _table(("not as it should be", "what it is", "expected", "seen at"), rows)
        lines += [f"and {len(wrong) - _LISTED} more", ""] if len(wrong) > _LISTED else []
    lines += [f"Data: {_text(report.data)}.", "", *_foot(report.command)]
    return "\n".join(lines)


def _head(command: str, names: Sequence[str], verdict: str) -> list[str]:
    """The title, and the verdict with what is read first in bold."""
    head, colon, rest = verdict.removeprefix("verdict: ").partition(": ")
    title = " and ".join(_code(name) for name in names)
    return [f"### parity {command}: {title}", "", f"**{_text(head)}**{colon}{_text(rest)}", ""]


def _causes(explanation: Explanation | None) -> list[str]:
    if explanation is None:
        return []
    found = [*map(str, explanation.causes), *map(str, explanation.unknown)] or [explanation.line]
    return [*(f"- Cause: {_text(cause)}" for cause in found), ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column is text; what is bold already stays so."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    cells = [[cell if cell[:1] in MARKED else _text(cell) for cell in row] for row in (head, *rows)]
    return [*(f"| {' | '.join(row)} |" for row in (cells[0], marks, *cells[1:])), ""]


def _foot(command: Sequence[str]) -> list[str]:
    return [f"Made by {_code(' '.join(command))}.", ""] if command else []


def _text(text: str) -> str:
    """Markup in it stays text, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """As code, fenced by more backticks than are in it."""
    text = " ".join(text.split()).replace("|", "\N{BROKEN BAR}")  # which would end a table's cell, in code too
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _gap(gap: Gap | None) -> str:
    return f"{gap.difference:.1e} ({gap.tensor})" if gap else "none"
