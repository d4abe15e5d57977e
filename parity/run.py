"""`parity run` and `parity train` as functions: the float64 check, the training, and the report.

A float32 run cannot tell a wrong formula from rounding. So when two sides train in float32, the first steps are run in
float64 beforehand, and the verdict comes from there; a float64 run is judged itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.compare import (
    JUDGED_STEPS,
    Outcome,
    Verdict,
    accuracy,
    accuracy_per_class,
    agreement,
    judge,
    largest_gap,
    loss_differences,
    momentum_gap,
    predictions,
)
from parity.contract import Weights, initial_weights
from parity.data import Dataset
from parity.environment import describe_environment
from parity.lockstep import Run, Settings, Side, SideRun, Watcher, train
from parity.registry import resolve
from parity.result import Comparison, DataReport, Ending, Predictions, Report, SideReport

__all__ = ["Result", "resolve_sides", "run_sides"]

INTERRUPTED = 130
"""The exit code that shells give to a program ended by Ctrl-C."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The report, and the run with its arrays: the float64 check's when the check ended it."""

    report: Report
    run: Run


def resolve_sides(names: Sequence[str]) -> tuple[Side, ...]:
    """Import the implementations; equal names are told apart by a number.

    Raises:
        InputError: a name cannot be resolved; see `parity.registry.resolve`.
    """
    implementations = [resolve(name) for name in names]
    labels = [f"{name}#{number}" if names.count(name) > 1 else name for number, name in enumerate(names, 1)]
    return tuple(Side(name=label, implementation=found) for label, found in zip(labels, implementations, strict=True))


def run_sides(
    sides: Sequence[Side],
    dataset: Dataset,
    settings: Settings,
    *,
    weights: Weights | None = None,
    watcher: Watcher | None = None,
    on_verdict: Callable[[Verdict], None] | None = None,
    command: Sequence[str] = (),
) -> Result:
    """Train one side, or train two and judge them.

    Args:
        sides: one or two.
        dataset: training and test images.
        settings: what to train.
        weights: canonical initial weights; None to draw them from the seed.
        watcher: told of progress while training.
        on_verdict: told of the float64 verdict as soon as it is known, where that is before the training.
        command: the command line that asked for it, for the report.

    Raises:
        InputError: a side cannot start, or the batch does not fit the set.
    """
    start = initial_weights(settings.seed) if weights is None else weights
    verdict = None
    checked_first = len(sides) == 2 and settings.dtype != "float64"
    if checked_first:
        check = replace(settings, dtype="float64", steps=min(JUDGED_STEPS, settings.steps or JUDGED_STEPS))
        run = train(sides, dataset, check, start, evaluate=False)
        verdict = _judge(run)
        if run.interrupted or run.failure:
            report = _report(run, dataset, check, verdict=verdict, command=command)
            return Result(report=report, run=run)
        if verdict and on_verdict:
            on_verdict(verdict)
    run = train(sides, dataset, settings, start, watcher=watcher)
    if len(sides) == 2 and not checked_first:
        verdict = _judge(run)
    return Result(report=_report(run, dataset, settings, verdict=verdict, command=command), run=run)


def _judge(run: Run) -> Verdict | None:
    """The verdict of a float64 run; None when it was stopped before there was anything to compare."""
    return judge(run.sides[0].losses, run.sides[1].losses, list(run.gaps)) if run.gaps else None


def _report(
    run: Run, dataset: Dataset, settings: Settings, *, verdict: Verdict | None, command: Sequence[str]
) -> Report:
    return Report(
        command=tuple(command),
        environment=describe_environment(),
        data=_data_report(dataset),
        settings=settings,
        steps=run.steps,
        sides=tuple(_side_report(side, dataset, settings.batch_size) for side in run.sides),
        ground_truth=tuple(dataset.test_labels[: settings.batch_size].tolist()),
        windows=run.windows,
        epochs=run.epochs,
        verdict=verdict,
        comparison=_compare(*run.sides) if len(run.sides) == 2 and run.steps else None,
        ending=_ending(run, verdict),
    )


def _data_report(dataset: Dataset) -> DataReport:
    return DataReport(
        name=dataset.name,
        origin=dataset.origin,
        train_size=len(dataset.train_labels),
        test_size=len(dataset.test_labels),
        classes=dataset.classes,
        sha256=dataset.fingerprint(),
    )


def _side_report(side: SideRun, dataset: Dataset, batch_size: int) -> SideReport:
    results = None
    if side.logits is not None:
        predicted = predictions(side.logits)
        results = Predictions(
            accuracy=accuracy(predicted, dataset.test_labels),
            accuracy_per_class=accuracy_per_class(predicted, dataset.test_labels),
            first_batch=tuple(predicted[:batch_size].tolist()),
        )
    return SideReport(
        name=side.name,
        description=side.description,
        final_loss=float(side.losses[-1]) if len(side.losses) else None,
        predictions=results,
        seconds=side.seconds,
    )


def _compare(a: SideRun, b: SideRun) -> Comparison:
    differences = loss_differences(a.losses, b.losses)
    worst = int(np.argmax(differences))
    both = a.logits is not None and b.logits is not None
    return Comparison(
        largest_loss=float(differences[worst]),
        largest_loss_step=worst,
        parameters=largest_gap(a.weights, b.weights),
        momentum=momentum_gap(a.momentum, b.momentum),
        agreement=agreement(predictions(a.logits), predictions(b.logits)) if both else None,  # type: ignore[arg-type]
    )


def _ending(run: Run, verdict: Verdict | None) -> Ending:
    if run.failure:
        return Ending(kind="not finite", detail=str(run.failure), exit_code=run.failure.exit_code)
    if run.interrupted:
        return Ending(kind="interrupted", detail=f"after step {run.steps}", exit_code=INTERRUPTED)
    differs = verdict is not None and verdict.outcome is Outcome.DIFFERS
    return Ending(kind="complete", detail=None, exit_code=1 if differs else 0)
