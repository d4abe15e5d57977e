"""A run as lines of text: tables at most 80 columns wide, in which long names are cut, and prose."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from parity.compare import BOUND, Distribution, Gap, Verdict
from parity.data import Dataset
from parity.result import Comparison, Report
from parity.running.history import EpochResult, Window
from parity.running.judgement import Judgement
from parity.settings import Settings

__all__ = [
    "data_line",
    "epoch_line",
    "header",
    "last_line",
    "report_lines",
    "settings_lines",
    "verdict_lines",
    "window_line",
]

_LABEL, _COLUMN = 18, 20
_WIDTH = 80
_FLIPS = 3  # choices of one step that are printed
EXTRAS = ("dampening", "weight_decay", "clip_norm", "clip_value")  # printed where they are not 0 and not None
_SHOWN = 8  # images of the first test batch: more would not fit on a screen


def data_line(dataset: Dataset) -> str:
    """Which data: the first line of every output."""
    train, test = len(dataset.train_labels), len(dataset.test_labels)
    return f"data: {dataset.origin}, {train:,} + {test:,} images"


def settings_lines(settings: Settings, steps_per_epoch: int, weights: str) -> Iterator[str]:
    """What is trained, and from where."""
    sgd = settings.sgd
    flags = "".join(f", {flag}" for flag in ("nesterov", "maximize") if getattr(sgd, flag))
    extras = "".join(f", {name} {getattr(sgd, name)}" for name in EXTRAS if getattr(sgd, name))
    extras += "" if sgd.decay_biases else ", biases not decayed"
    limit = f", at most {settings.steps:,} steps" if settings.steps else ""
    yield f"SGD: lr {sgd.lr}, momentum {sgd.momentum}{extras}{flags}"
    if sgd.schedule is not None:
        yield from textwrap.wrap(f"schedule: {sgd.schedule}", _WIDTH, subsequent_indent="  ")
    yield (
        f"training: {settings.dtype}, batch {settings.batch_size}, {settings.epochs} epochs of "
        f"{steps_per_epoch:,} steps{limit}, seed {settings.seed}"
    )
    yield f"initial weights: {weights}"


def header(names: Sequence[str]) -> str:
    """The line above the side-by-side losses."""
    return _row("", [*names, "largest gap"] if len(names) == 2 else names)


def window_line(window: Window) -> str:
    """The tutorial's line, with a column for each side and one for the largest relative gap of a single step."""
    label = f"[{window.epoch}, {window.step:5d}] loss:"
    gap = [] if window.largest_gap is None else [f"{window.largest_gap:.1e}"]
    return _row(label, [*(f"{loss:.3f}" for loss in window.losses), *gap])


def epoch_line(result: EpochResult) -> str:
    """Accuracy over the test set after an epoch."""
    return _row(f"[{result.epoch}] test accuracy:", [f"{100 * value:.2f} %" for value in result.accuracies])


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """The float64 verdict, and what it rests on."""
    steps = "step" if verdict.steps == 1 else f"{verdict.steps} steps"
    first = f"; first {verdict.reason}" if verdict.reason else ""
    yield f"float64, first {steps}: {verdict.outcome.value}{first}"
    momentum = f", momentum {_format_gap(verdict.largest_momentum)}" if verdict.largest_momentum else ""
    yield f"  largest relative differences (bound {BOUND:.0e}): loss {verdict.largest_loss:.1e},"
    yield f"  parameters {_format_gap(verdict.largest_parameters)}{momentum}"


def report_lines(report: Report) -> Iterator[str]:
    """Everything that is known at the end of a run."""
    names = [side.name for side in report.sides]
    results = [side.predictions for side in report.sides if side.predictions]
    classes = report.data.classes
    if results:
        yield ""
        yield _row("first test images", ["ground truth", *names])
        for number, label in enumerate(report.ground_truth[:_SHOWN]):
            yield _row(f"  {number}", [classes[label], *(classes[side.first_batch[number]] for side in results)])
        yield ""
        yield f"accuracy on the test images of {report.data.name}"
        yield _row("", names)
        yield _row("  all classes", [_percent(side.accuracy) for side in results])
        for label, name in enumerate(classes):
            yield _row(f"  {name}", [_percent(side.accuracy_per_class[label]) for side in results])
    yield ""
    for side in report.sides:
        yield f"{side.name}: {report.steps:,} steps in {side.seconds:.1f} s, compilation included"
    if report.comparison:
        yield from _comparison_lines(report.comparison, report.settings.dtype, report.steps)
    if report.judgement:
        yield from _judgement_lines(report.judgement)
    if report.verdict:
        yield from verdict_lines(report.verdict)
    yield last_line(report)


def _comparison_lines(comparison: Comparison, dtype: str, steps: int) -> Iterator[str]:
    yield f"{dtype}, {steps:,} steps"
    yield f"  largest relative loss difference {comparison.largest_loss:.1e}, at step {comparison.largest_loss_step}"
    final = [f"parameters {_format_gap(comparison.parameters)}"] if comparison.parameters else []
    final += [f"momentum {_format_gap(comparison.momentum)}"] if comparison.momentum else []
    yield f"  final {', '.join(final)}"
    if comparison.agreement is not None:
        yield f"  the two sides predict the same class for {_percent(comparison.agreement)} of the test images"


def _judgement_lines(judgement: Judgement) -> Iterator[str]:
    parting = judgement.parting
    if parting and not parting.finding:
        yield f"the sides part at step {parting.step:,}: gradients {parting.gap:.1e} apart, {parting.before:.1e} before"
        for flip in parting.flips[:_FLIPS]:
            yield from textwrap.wrap(str(flip), initial_indent="  ", subsequent_indent="    ", width=_WIDTH)
        if len(parting.flips) > _FLIPS:
            yield f"  and {len(parting.flips) - _FLIPS} more choices that the sides make differently"
    if around := judgement.envelope:
        runs = "1 run" if around.members == 1 else f"{around.members} runs"
        yield f"beside {runs} of {around.side} whose weights begin one ulp away:"
        horizon = "not reached" if around.horizon is None else f"step {around.horizon:,}"
        yield f"  horizon of a comparison step by step: {horizon}"
        yield f"  largest gap: {100 * around.largest_share:.0f} % of what the ensemble allows"
        for figure in _shown_distributions(around.distributions):
            yield from _distribution_lines(figure)


def _shown_distributions(figures: Sequence[Distribution]) -> list[Distribution]:
    """Those of all classes together, and of the single classes the furthest from the runs'."""
    single = [figure for figure in figures if figure.among > 1]
    return [figure for figure in figures if figure.among == 1] + sorted(single, key=lambda figure: -figure.share)[:1]


def _distribution_lines(figure: Distribution) -> Iterator[str]:
    low, high = 100 * min(figure.ensemble), 100 * max(figure.ensemble)
    lowest, highest = 100 * max(figure.lowest, 0), 100 * min(figure.highest, 1)
    yield f"  {figure.name}: {100 * figure.value:.2f} %,"
    yield f"    the runs' {low:.2f} to {high:.2f} %; {lowest:.2f} to {highest:.2f} % is allowed"


def last_line(report: Report) -> str:
    """The verdict, or how it ended without one."""
    ending = report.ending
    if ending.kind != "complete":
        return f"stopped in the {ending.phase}: {ending.kind}, {ending.detail}"
    return f"verdict: {report.judgement.line}" if report.judgement else "trained"


def _row(label: str, cells: Sequence[str]) -> str:
    return f"{_cut(label, _LABEL):<{_LABEL}}" + "".join(f" {_cut(cell, _COLUMN - 1):>{_COLUMN - 1}}" for cell in cells)


def _cut(text: str, width: int) -> str:
    """The end of a long name, by which those of one package differ; the lines above have all of it."""
    return text if len(text) <= width else f"...{text[3 - width :]}"


def _percent(share: float | None) -> str:
    return "no images" if share is None else f"{100 * share:.2f} %"


def _format_gap(gap: Gap | None) -> str:
    return f"{gap.difference:.1e} ({gap.tensor})" if gap else "none"
