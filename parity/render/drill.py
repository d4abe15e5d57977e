"""A drill as lines of text: one for each fault, and the rates."""

from __future__ import annotations

from collections.abc import Iterator

from parity.drill import Drilled, Rates

__all__ = ["header", "rate_lines", "result_lines"]

_MARK, _KEY, _SIDE, _PLACE = 9, 32, 5, 38


def header() -> str:
    """The columns of `result_lines`."""
    return _row("", "fault", "side", "seen at", "")


def result_lines(result: Drilled) -> Iterator[str]:
    """One line; where something is missed, what was expected, and the verdict, in two more."""
    yield _row(_mark(result), result.key, result.side, _seen(result), _called(result))
    if not result.applies:
        yield f"{'':<{_MARK}}{result.line}"
    elif not result.right:
        expected = result.expected or "no difference, and no name"
        yield f"{'':<{_MARK}}{result.title}; expected: {expected}"
        yield f"{'':<{_MARK}}{result.line}"


def rate_lines(rates: Rates) -> Iterator[str]:
    """The counts as shares."""
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


def _row(mark: str, key: str, side: str, place: str, names: str) -> str:
    return f"{mark:<{_MARK}}{key:<{_KEY}}{side:<{_SIDE}}{place:<{_PLACE}}{names}".rstrip()
