"""A check as lines of text: a table at most 80 columns wide, and prose."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from parity.checking import Check
from parity.compare import Rounding, Rung
from parity.compare.formula import EPS
from parity.contract import STAGES
from parity.render.explanation import cause_lines
from parity.result import CheckReport

__all__ = ["check_lines", "shown_rungs", "stage_table"]

_WIDTHS = (30, 10, 9, 10, 10, 6)
_GAP = 2
_LONGEST = 80 - sum(_WIDTHS[1:])
"""A place that is longer has a line to itself."""


def check_lines(report: CheckReport) -> Iterator[str]:
    """Everything that is known at the end of a check."""
    check = report.check
    for name, description in zip(report.names, check.descriptions, strict=True):
        yield f"{name}: {description}"
    yield from report.notes
    yield from stage_table(check, report.names)
    if check.blame:
        yield str(check.blame)
    yield from cause_lines(check.explanation)
    yield f"{check.seconds:.1f} s"
    yield f"verdict: {check.line}"


def stage_table(check: Check, names: tuple[str, str]) -> Iterator[str]:
    """The stages in order, each by its worst tensor; every activation, and every tensor of the first that breaks."""
    yield "float64: largest relative difference, in ulp (2.2e-16), and as a share of what rounding explains"
    if check.rounding:
        yield f"float32: each side's own error against its float64 run (a: {names[0]}, b: {names[1]})"
    rounding = {tensor.place: tensor for tensor in check.rounding}
    shown = shown_rungs(check)
    width = min(max([_WIDTHS[0], *(len(str(rung.place)) + _GAP for rung in shown)]), _LONGEST)
    yield from _row(("stage", "f64, ulp", "share", "f32 a", "f32 b", "ratio"), width)
    for rung in shown:
        yield from _row((str(rung.place), *_exact(rung), *_single(rounding.get(rung.place))), width)
    for name, exact, single in zip(names, check.fast_rungs, check.fast_rounding, strict=True):
        if exact:
            yield from _fast_row(name, exact, single, width)
    if any(check.fast_rounding):
        yield "fast path: run() beside observe(); there float32 a is observe(), b is run()"
    yield from _zeros(check.rungs)
    yield from _left_out(check)


def shown_rungs(check: Check) -> list[Rung]:
    """The rungs of the table, in the order of the stages."""
    broken = next((rung.place.stage for rung in check.rungs if rung.broken), None)
    return [
        rung
        for stage in STAGES
        for rung in _shown([rung for rung in check.rungs if rung.place.stage == stage], whole=stage == broken)
    ]


def _fast_row(name: str, exact: Sequence[Rung], single: Sequence[Rounding], width: int) -> Iterator[str]:
    """A side's fast path by its worst tensor in each precision."""
    rung = max(exact, key=_rank)
    worst = max(single, key=lambda tensor: (tensor.broken, tensor.excess), default=None)
    yield from _row((f"fast path, {name}", *_exact(rung), *_single(worst)), width)


def _zeros(rungs: Sequence[Rung]) -> Iterator[str]:
    """Which tensors were not judged because their gradient is nothing but rounding."""
    names = dict.fromkeys(rung.place.tensor for rung in rungs if rung.zero and rung.place.stage == "gradients")
    if names:
        yield f"zero but for rounding, so not judged: the gradient of {', '.join(names)}, and what comes of it"


def _left_out(check: Check) -> Iterator[str]:
    """How many tensors rounding may move by their own size, step by step."""
    vacuous = [rung for rung in (*check.rungs, *itertools.chain(*check.fast_rungs)) if rung.vacuous]
    for step, rungs in itertools.groupby(sorted(vacuous, key=lambda rung: rung.step), key=lambda rung: rung.step):
        places = list(dict.fromkeys(rung.place for rung in rungs))
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        yield f"left out at step {step}, because rounding may move it by its own size: {places[0]}{more}"


def _rank(rung: Rung) -> tuple[bool, bool, float]:
    """What breaks is worse than what agrees, and what says nothing comes last."""
    return rung.broken, rung.judged, rung.share


def _shown(rungs: Sequence[Rung], *, whole: bool) -> list[Rung]:
    """The worst of each tensor over the steps; of those the worst, or all where they are worth it."""
    worst: dict[object, Rung] = {}
    for rung in rungs:
        known = worst.get(rung.place)
        if known is None or _rank(rung) > _rank(known):
            worst[rung.place] = rung
    ranked = list(worst.values())
    if whole or any(rung.place.stage == "activations" for rung in ranked):
        return ranked
    return sorted((rung for rung in ranked if not rung.zero), key=_rank, reverse=True)[:1]


def _exact(rung: Rung) -> tuple[str, str]:
    if rung.zero:
        return "zero", ""
    if rung.difference == float("inf"):
        return "-", "BROKEN"
    if rung.vacuous:
        return f"{rung.difference / EPS:.3g}", "noise"
    share = "BROKEN" if rung.broken else f"{100 * rung.share:.1f} %"
    return f"{rung.difference / EPS:.3g}", share


def _single(tensor: Rounding | None) -> tuple[str, str, str]:
    if tensor is None:
        return "", "", ""
    mark = "!" if tensor.broken else ""
    return f"{tensor.errors.a:.1e}", f"{tensor.errors.b:.1e}", f"{tensor.excess:.3g}{mark}"


def _row(cells: Sequence[str], width: int) -> Iterator[str]:
    label, *numbers = cells
    columns = zip(numbers, _WIDTHS[1:], strict=True)
    text = "".join(f"{cell:>{column}}" for cell, column in columns).rstrip()
    if len(label) > width:
        yield label
        label = ""
    yield f"{label:<{width}}{text}"
