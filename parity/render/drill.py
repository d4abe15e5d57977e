"""A drill as lines of text, at most 80 columns wide: one for each fault, the rates, and the verdict."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from parity.drill import Drilled, Rates

__all__ = ["header", "left_out_lines", "rate_lines", "result_lines", "verdict_line"]

_MARK, _KEY, _SIDE, _WIDTH = 8, 30, 5, 80


def header() -> str:
    """The columns of `result_lines`."""
    return "".join(_row("", "fault", "side", "seen at"))


def result_lines(result: Drilled) -> Iterator[str]:
    """One line; the names, where the fault's own is not the only one; of what is not right, all that is known."""
    yield from _row(_mark(result), result.key, result.side, _seen(result))
    if result.named is False or result.names not in ((), (result.key,)):
        yield from _beneath(f"named: {_called(result)}")
    if not result.applies:
        yield from _beneath(result.line)
    elif not result.right:
        expected = result.expected or "no difference, and no name"
        yield from _beneath(f"{result.title}; expected: {expected}")
        yield from _beneath(result.line)


def left_out_lines(keys: Sequence[str]) -> Iterator[str]:
    """The faults that have no place in this program, where all were asked for."""
    if keys:
        text = f"left out: {', '.join(keys)}"
        yield from textwrap.wrap(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def rate_lines(rates: Rates) -> Iterator[str]:
    """The counts as shares, and the verdict."""
    if rates.faults:
        yield f"detected:                   {_share(rates.detected, rates.faults)}"
        yield f"at the right stage:         {_share(rates.right_stage, rates.faults)}"
        yield f"within the first step:      {_share(rates.in_time, rates.faults)}"
    if rates.nameable:
        yield f"named:                      {_share(rates.named, rates.nameable)}"
    if rates.outside:
        known, unknown = rates.outside_named, rates.outside_unknown
        others = rates.outside - known - unknown
        yield f"outside the catalogue:      {known} named, {unknown} called unknown, {others} otherwise"
    if rates.benign:
        yield f"false alarms:               {_share(rates.false_alarms, rates.benign)}"
    if rates.left_out:
        yield f"no place in this program:   {rates.left_out}"
    yield verdict_line(rates)


def verdict_line(rates: Rates) -> str:
    """The last line."""
    if rates.complete:
        alarms = ", and no other change is called one" if rates.benign else ""
        return f"verdict: complete: every fault is found in its place and time{alarms}"
    counts = {
        "missed": rates.faults - rates.detected,
        "at another stage": rates.detected - rates.right_stage,
        "too late": rates.detected - rates.in_time,
        "false alarms": rates.false_alarms,
    }
    return f"verdict: not complete: {', '.join(f'{count} {what}' for what, count in counts.items() if count)}"


def _mark(result: Drilled) -> str:
    if not result.applies:
        return "-"
    if result.group == "benign":
        return "matches" if result.right else "ALARM"
    if not result.found:
        return "MISSED"
    return "found" if result.right else "MOVED"


def _seen(result: Drilled) -> str:
    if not result.at:
        return ""
    return result.at if result.step is None else f"step {result.step}, {result.at}"


def _called(result: Drilled) -> str:
    """The names; in brackets where none of them is right."""
    names = ", ".join(result.names)
    return f"[{names or 'no name'}]" if result.named is False else names


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.1f} %)"


def _row(mark: str, key: str, side: str, place: str) -> Iterator[str]:
    """A place that is too long goes on beneath itself."""
    head = f"{mark:<{_MARK}}{key:<{_KEY}}{side:<{_SIDE}}"
    yield from textwrap.wrap(head + place, _WIDTH, subsequent_indent=" " * len(head), break_on_hyphens=False)


def _beneath(text: str) -> Iterator[str]:
    indent = " " * _MARK
    yield from textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
