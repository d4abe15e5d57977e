"""`parity run` and `parity train` as functions: the float64 check, the training, and the report.

A float32 run cannot tell a wrong formula from rounding. So when two sides train in float32, the first steps are run in
float64 beforehand; a float64 run is its own check. What follows is judged beside an ensemble: see
`parity.running.judgement`.
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
    largest,
    largest_gap,
    loss_differences,
    momentum_gaps,
    predictions,
)
from parity.contract import AnyImplementation, Weights, initial_weights
from parity.data import Dataset, fingerprint
from parity.environment import describe_environment
from parity.registry import require_methods, resolve
from parity.result import Comparison, Ending, Predictions, Report, SideReport, WeightsReport, data_report, shown
from parity.running.history import Run, SideRun, Watcher
from parity.running.judgement import Judgement, Truth, judge_run
from parity.running.lockstep import train
from parity.settings import Settings, Side, resolve_device

__all__ = ["INTERRUPTED", "Result", "checks_first", "resolve_sides", "run_sides"]

INTERRUPTED = 130
"""The exit code that shells give to a program ended by Ctrl-C; the command line's too."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The report, and the run with its arrays: the float64 check's when the check ended it."""

    report: Report
    run: Run

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return shown(self.report)


def resolve_sides(implementations: Sequence[str | AnyImplementation]) -> tuple[Side, ...]:
    """Import the implementations that are given by name; equal names are told apart by a number.

    Args:
        implementations: "module:attribute" each, or the object itself, which goes by the name of its class.

    Raises:
        InputError: a name cannot be resolved, or an object lacks a method; see `parity.registry`.
    """
    given = [_named(implementation) for implementation in implementations]
    names = [name for name, _ in given]
    labels = [f"{name}#{number}" if names.count(name) > 1 else name for number, name in enumerate(names, 1)]
    return tuple(Side(name=label, implementation=found) for label, (_, found) in zip(labels, given, strict=True))


def _named(implementation: str | AnyImplementation) -> tuple[str, AnyImplementation]:
    if isinstance(implementation, str):
        return implementation, resolve(implementation)
    name = implementation.__name__ if isinstance(implementation, type) else type(implementation).__name__
    return name, require_methods(implementation, name=name, attribute=name)


def run_sides(
    sides: Sequence[Side],
    dataset: Dataset,
    settings: Settings,
    *,
    weights: Weights | None = None,
    weights_origin: str | None = None,
    watcher: Watcher | None = None,
    on_verdict: Callable[[Verdict], None] | None = None,
    command: Sequence[str] = (),
    ensemble: int = 0,
) -> Result:
    """Train one side, or train two and judge them.

    Args:
        sides: one or two.
        dataset: training and test images.
        settings: what to train.
        weights: canonical initial weights; None to draw them from the seed.
        weights_origin: where they come from, for the report.
        watcher: told of progress while training.
        on_verdict: told of the float64 verdict as soon as it is known, where that is before the training.
        command: the command line that asked for it, for the report.
        ensemble: how many runs of one side, from weights one ulp away, to judge two sides by; 0 to judge only the
            float64 steps, and report the rest.

    Raises:
        InputError: a side cannot start, or the batch does not fit the set.
    """
    origin = "given" if weights is not None else f"drawn from seed {settings.seed}"
    start = initial_weights(settings.seed) if weights is None else weights
    reporter = _Reporter(
        command=tuple(command),
        dataset=dataset,
        settings=settings,
        device=resolve_device(sides, settings.device),
        weights=WeightsReport(origin=weights_origin or origin, sha256=fingerprint(start)),
    )
    checked = None
    if checks_first(settings, len(sides)):
        check = replace(settings, dtype="float64", steps=min(JUDGED_STEPS, settings.steps or JUDGED_STEPS))
        checked = train(sides, dataset, check, start, evaluate=False)
        verdict = _judge(checked)
        if checked.interrupted or checked.failure:
            report = reporter.report(checked, verdict, None, phase="float64 check")
            return Result(report=report, run=checked)
        if verdict and on_verdict:
            on_verdict(verdict)
    run = train(sides, dataset, settings, start, watcher=watcher, ensemble=ensemble)
    verdict = _judge(checked or run) if len(sides) == 2 else None
    truth = Truth(labels=dataset.test_labels, classes=dataset.classes)
    judged = judge_run(run, verdict, checked, truth, settings.dtype) if verdict else None
    return Result(report=reporter.report(run, verdict, judged, phase="training"), run=run)


def checks_first(settings: Settings, sides: int) -> bool:
    """Whether a float64 check precedes the training: of two sides, unless the training is in float64 itself."""
    return sides == 2 and settings.dtype != "float64"


def _judge(run: Run) -> Verdict | None:
    """The verdict of a float64 run; None when it was stopped before there was anything to compare."""
    return judge(run.sides[0].losses, run.sides[1].losses, list(run.gaps)) if run.gaps else None


@dataclass(frozen=True, kw_only=True)
class _Reporter:
    """What is known before the run, to which a report adds what came of it."""

    command: tuple[str, ...]
    dataset: Dataset
    settings: Settings
    device: str
    weights: WeightsReport

    def report(self, run: Run, verdict: Verdict | None, judgement: Judgement | None, *, phase: str) -> Report:
        """The report; of a run that the float64 check ended, there is nothing to compare in the run's own dtype."""
        settings, dataset = self.settings, self.dataset
        compares = phase == "training" and len(run.sides) == 2 and run.steps
        return Report(
            command=self.command,
            environment=describe_environment(),
            data=data_report(dataset),
            settings=settings,
            device=self.device,
            weights=self.weights,
            steps=run.steps,
            sides=tuple(_side_report(side, dataset, settings.batch_size) for side in run.sides),
            ground_truth=tuple(dataset.test_labels[: settings.batch_size].tolist()),
            windows=run.windows,
            epochs=run.epochs,
            verdict=verdict,
            judgement=judgement,
            comparison=_compare(*run.sides) if compares else None,
            ending=_ending(run, verdict, judgement, phase),
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
        momentum=largest(momentum_gaps(a.momentum, b.momentum)),
        agreement=agreement(predictions(a.logits), predictions(b.logits)) if both else None,  # type: ignore[arg-type]
    )


def _ending(run: Run, verdict: Verdict | None, judgement: Judgement | None, phase: str) -> Ending:
    if run.failure:
        return Ending(kind="not finite", phase=phase, detail=str(run.failure), exit_code=run.failure.exit_code)
    if run.interrupted:
        return Ending(kind="interrupted", phase=phase, detail=f"after {run.steps} steps", exit_code=INTERRUPTED)
    outcome = judgement.outcome if judgement else verdict.outcome if verdict else None
    exit_code = {None: 0, Outcome.MATCH: 0, Outcome.DIFFERS: 1, Outcome.UNDECIDED: 2}[outcome]
    return Ending(kind="complete", phase=phase, detail=None, exit_code=exit_code)
