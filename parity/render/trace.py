"""Traces as lines of text, at most 80 columns wide as long as names are short."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parity.render.explanation import cause_lines
from parity.trace import Break, Recording, TraceComparison, TraceOutcome
from parity.trace.compare import Largest, TraceSide

__all__ = ["comparison_lines", "recording_lines", "verdict_line"]


def recording_lines(recording: Recording, folder: Path) -> Iterator[str]:
    """What was recorded, and where it is."""
    manifest = recording.manifest
    if not manifest.complete:
        yield f"stopped: {manifest.ending}; what there is can be compared"
    yield f"{manifest.implementation}: {manifest.steps:,} steps in {recording.seconds:.1f} s, compilation included"
    yield f"wrote {folder}: the trace, {recording.bytes / 1e6:.1f} MB"


def comparison_lines(comparison: TraceComparison) -> Iterator[str]:
    """What was compared, how far the two are apart, and the verdict."""
    for label, side in zip(("A", "B", *["null"] * len(comparison.sides)), comparison.sides, strict=False):
        yield f"{label}: {side.implementation} ({side.path}): {side.description}"
        yield from _incomplete(side)
    steps, states = _counted(comparison.steps, "step"), _counted(comparison.recorded, "state")
    yield f"{comparison.dtype}, {steps}, {states} of which {comparison.full:,} in full"
    largest = comparison.largest
    yield f"  noise: {comparison.rule}"
    yield f"  largest relative differences: loss {_size(largest['loss'])},"
    yield f"  update {_size(largest['update'])}, of which storage {comparison.resolution:.1e} at most,"
    if "momentum" in largest:
        yield f"  momentum {_size(largest['momentum'])}"
    if comparison.horizon is not None:
        yield f"  null runs part by themselves at step {comparison.horizon:,}"
    if comparison.first_break:
        yield f"first beyond the noise: {_place(comparison.first_break)}"
        yield f"  {_excess(comparison.first_break)}"
    yield from cause_lines(comparison.explanation)
    if comparison.lacking:
        yield f"cause: not in the traces: {comparison.lacking}"
    yield verdict_line(comparison)


def _incomplete(side: TraceSide) -> Iterator[str]:
    if side.steps < side.planned:
        yield f"  incomplete: {side.steps:,} of {side.planned:,} steps ({side.ending})"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _size(largest: Largest) -> str:
    tensor = f"{largest.tensor}, " if largest.tensor else ""
    return f"{largest.difference:.1e} ({tensor}step {largest.step:,})"


def _place(found: Break) -> str:
    tensor = f", {found.tensor}" if found.tensor else ""
    return f"step {found.step:,}, {found.stage}{tensor}"


def _excess(found: Break) -> str:
    measured = "" if found.measured == "exactly" else f"{found.measured} "
    since = "" if found.step - found.since == 1 else f"; the last state before is that of step {found.since:,}"
    return f"{measured}{found.difference:.1e}, noise may reach {found.allowed:.1e}{since}"


def verdict_line(comparison: TraceComparison) -> str:
    """The last line."""
    if comparison.outcome is TraceOutcome.DIFFERS and comparison.first_break:
        cause = f"; cause: {comparison.explanation.line}" if comparison.explanation else ""
        return f"verdict: differs at {_place(comparison.first_break)}{cause}"
    if comparison.outcome is TraceOutcome.MATCH:
        horizon = f", up to step {comparison.horizon:,}" if comparison.horizon is not None else ""
        return f"verdict: match in {comparison.dtype}{horizon}"
    if comparison.first_break:
        return f"verdict: none; in {comparison.dtype} rounding alone may part two runs there. Record both in float64"
    return f"verdict: none; {comparison.dtype} needs null runs to be held against (--null)"
