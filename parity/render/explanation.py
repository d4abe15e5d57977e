"""Why two sides differ, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain import Cause, Explanation
from parity.result import CheckReport

__all__ = ["cause_lines", "explanation_lines"]


def explanation_lines(report: CheckReport) -> Iterator[str]:
    """The causes, one after the other, and the verdict."""
    check = report.check
    yield from report.notes
    if check.explanation is None and check.finding:
        yield "no cause is known: these programs' formulas are their own"
    yield from cause_lines(check.explanation)
    yield f"verdict: {check.finding.line if check.finding else check.line}"


def cause_lines(explanation: Explanation | None) -> Iterator[str]:
    """Each cause with its place, and what it leaves; then what has none."""
    if explanation is None:
        return
    for number, cause in enumerate(explanation.causes, 1):
        yield f"cause {number}: {cause.side} {cause.sentence}"
        yield from (f"  or: {cause.side} {other}" for other in cause.alike)
        left = f"{cause.before:.1e} from the formula, {cause.residual:.1e} with this cause"
        yield f"  {_place(cause)}: {left} [{cause.key}]"
    for unknown in explanation.unknown:
        yield str(unknown)


def _place(cause: Cause) -> str:
    return f"step {cause.step}, {cause.place}"
