"""The verdict of a whole run: the float64 check, the parting of the sides, the envelope, and what comes after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.compare import (
    BOUND,
    FACTOR,
    Distribution,
    Outcome,
    Verdict,
    accuracy,
    agreement,
    compare_distribution,
    envelope,
    predictions,
)
from parity.compare.measure import ratio
from parity.running.history import EnsembleRun, Run
from parity.running.replay import Parting, jumped
from parity.running.watch import Outside

Labels = NDArray[np.integer]

__all__ = ["Envelope", "Judgement", "Truth", "judge_run"]


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """The pair beside an ensemble of one side.

    Args:
        side: that side's name.
        members: how many runs.
        steps, gaps, limits: the pair's gap after each chunk, and FACTOR times the ensemble's envelope.
        largest_share: the largest gap as a share of its limit, up to the pair's own flip if it has one.
        horizon: the step up to which a comparison step by step means anything; None if that is the whole run.
        distributions: what is compared beyond the horizon; empty if the run ended before its evaluation.
    """

    side: str
    members: int
    steps: tuple[int, ...]
    gaps: tuple[float, ...]
    limits: tuple[float, ...]
    largest_share: float
    horizon: int | None
    distributions: tuple[Distribution, ...]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The test set's labels, (N,) integers, and the names of the classes that they number."""

    labels: NDArray[np.integer]
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a run of two sides shows: the outcome, the reason in one line, and what it rests on."""

    outcome: Outcome
    line: str
    parting: Parting | None
    outside: Outside | None
    envelope: Envelope | None


def judge_run(run: Run, verdict: Verdict, check: Run | None, truth: Truth, dtype: str) -> Judgement:
    """Judge two sides.

    Args:
        run: the run, or the float64 check that ended it.
        verdict: that of the first float64 steps.
        check: the float64 check that came before the run; None where the run is in float64 itself.
        truth: of the test set.
        dtype: of the run.
    """
    exact = check or run
    around = _envelope(run, run.ensemble, truth, dtype) if run.ensemble else None
    outcome, line = _conclude(run, verdict, exact, around, dtype)
    parting = exact.parting if verdict.outcome is Outcome.DIFFERS else run.parting
    return Judgement(outcome=outcome, line=line, parting=parting, outside=run.outside, envelope=around)


def _conclude(run: Run, verdict: Verdict, exact: Run, around: Envelope | None, dtype: str) -> tuple[Outcome, str]:
    if line := _another_formula(run, verdict, exact):
        return Outcome.DIFFERS, line
    if around and (problem := _unproved(around)):
        return Outcome.UNDECIDED, f"undecided: {problem}"
    if line := _too_far(run, dtype) or (_strange_line(around.distributions) if around else None):
        return Outcome.DIFFERS, line
    if around and (problem := _untold(around)):
        return Outcome.UNDECIDED, f"undecided: {problem}"
    if around is None:
        return Outcome.MATCH, "match in float64" + ("" if dtype == "float64" else f"; {dtype} reported, not judged")
    return Outcome.MATCH, _inside_line(around, dtype)


def _another_formula(run: Run, verdict: Verdict, exact: Run) -> str | None:
    if verdict.outcome is Outcome.DIFFERS:
        finding = exact.parting.finding if exact.parting else None
        return finding.line if finding else f"differs in float64: {verdict.reason} first"
    found = (run.parting.finding if run.parting else None) or run.late
    return found.line if found else None


def _unproved(around: Envelope) -> str | None:
    """Why the ensemble is nothing to judge by, or None: an envelope of nothing, or one that nothing could leave."""
    limit = max(around.limits, default=0.0)
    if limit == 0:
        return "runs from weights one ulp apart stayed equal to the last bit; there is no envelope to judge by"
    if not math.isfinite(limit):
        return "a run from weights one ulp apart is no longer finite; any pair would be inside its envelope"
    if limit >= 1 and not around.distributions:
        return "the envelope is as large as the parameters themselves, and no distribution was compared"
    return None


def _untold(around: Envelope) -> str | None:
    """Why what comes after the horizon says nothing, or None."""
    figures = around.distributions
    if around.horizon is None or not figures or any(figure.judged for figure in figures):
        return None
    runs = f"{around.members} run{'s' if around.members > 1 else ''}"
    return f"after step {around.horizon:,} any outcome would be one of the ensemble's, of {runs}; give --ensemble 4"


def _too_far(run: Run, dtype: str) -> str | None:
    """Beside an ensemble its envelope decides, without one a bound: in float64 alone, float32 has none."""
    if run.outside:
        return _outside_line(run.outside, run.parting)
    return _far(run) if run.ensemble is None and dtype == "float64" else None


def _far(run: Run) -> str | None:
    """Without an ensemble: float64 states further apart than the bound, which no flip explains."""
    far = next((gap for gap in run.gaps if not gap.parameters.difference <= BOUND), None)
    if far is None or (run.parting and run.parting.explained and run.parting.apart <= BOUND):
        return None
    where = f"{far.parameters.tensor} is {far.parameters.difference:.1e} apart, where {BOUND:.0e} are allowed"
    return f"differs after {far.steps:,} steps: {where}; no flip explains it"


def _outside_line(outside: Outside, parting: Parting | None) -> str:
    why = "no flip explains it" if parting is None else f"the flip at step {parting.step:,} does not explain it"
    return (
        f"differs after {outside.steps:,} steps: the parameters are {outside.gap:.1e} apart, where runs of one side "
        f"from weights one ulp apart allow {outside.limit:.1e}; {why}"
    )


def _strange_line(figures: Sequence[Distribution]) -> str | None:
    figure = next((figure for figure in figures if not figure.inside), None)
    if figure is None:
        return None
    mean = sum(figure.ensemble) / len(figure.ensemble)
    return (
        f"differs in the end: {figure.name} is {100 * figure.value:.2f} %, where the ensemble's runs have "
        f"{100 * mean:.2f} % on average ({figure.t:.1f} standard deviations, {figure.limit:.1f} allowed)"
    )


def _inside_line(around: Envelope, dtype: str) -> str:
    until = "all steps" if around.horizon is None else f"up to step {around.horizon:,}, then as distributions"
    return f"match: same formula in float64, inside its own envelope in {dtype} ({until})"


def _envelope(run: Run, ensemble: EnsembleRun, truth: Truth, dtype: str) -> Envelope:
    limits = [FACTOR * limit for limit in envelope(ensemble.spreads)]
    boundaries = run.gaps[: len(limits)]  # Ctrl-C may come between the pair's comparison and the ensemble's
    gaps = [gap.parameters.difference for gap in boundaries]
    horizon = _horizon(run, ensemble, dtype)
    own = run.parting.step if run.parting and run.parting.explained else run.steps
    judged = [ratio(gap, limit) for gap, limit in zip(gaps, limits, strict=True)]
    before = [share for share, gap in zip(judged, boundaries, strict=True) if gap.steps <= own]
    return Envelope(
        side=run.sides[ensemble.side].name,
        members=len(ensemble.spreads[0].members) if ensemble.spreads else 0,
        steps=tuple(gap.steps for gap in boundaries),
        gaps=tuple(gaps),
        limits=tuple(limits),
        largest_share=max(before, default=0.0),
        horizon=horizon,
        distributions=_distributions(run, ensemble, truth),
    )


def _horizon(run: Run, ensemble: EnsembleRun, dtype: str) -> int | None:
    """Where the pair parts, or the first boundary at which a member has."""
    own = run.parting.step if run.parting else None
    largest = 0.0
    for spread in ensemble.spreads:
        furthest = max(spread.members)
        if jumped(furthest, largest, dtype):
            return spread.steps if own is None else min(own, spread.steps)
        largest = max(largest, furthest)
    return own


def _distributions(run: Run, ensemble: EnsembleRun, truth: Truth) -> tuple[Distribution, ...]:
    """The other side's accuracies among the ensemble's, and its agreement with the side that the ensemble is of."""
    own, other = run.sides[ensemble.side].logits, run.sides[1 - ensemble.side].logits
    if own is None or other is None or not ensemble.logits:
        return ()
    base, twin = predictions(own), predictions(other)
    members = [predictions(logits) for logits in ensemble.logits]
    runs = [base, *members]
    overall = compare_distribution(
        "the share of correct predictions",
        accuracy(twin, truth.labels),
        [accuracy(run, truth.labels) for run in runs],
        resolution=1 / len(truth.labels),
    )
    return overall, *_agreement(twin, base, members), *_per_class(twin, runs, truth)


def _agreement(twin: Labels, base: Labels, members: Sequence[Labels]) -> list[Distribution]:
    """None with one member: two runs agree once, which has no deviation."""
    if len(members) == 1:
        return []
    return [
        compare_distribution(
            "the share of equal predictions",
            agreement(twin, base),
            [agreement(member, base) for member in members],
            resolution=1 / len(base),
            more_is_fine=True,
        )
    ]


def _per_class(twin: Labels, runs: Sequence[Labels], truth: Truth) -> list[Distribution]:
    """One for each class that has images."""
    images = [(name, np.flatnonzero(truth.labels == number)) for number, name in enumerate(truth.classes)]
    present = [(name, rows) for name, rows in images if len(rows)]
    return [
        compare_distribution(
            f"the share of correct predictions of {name}",
            accuracy(twin[rows], truth.labels[rows]),
            [accuracy(run[rows], truth.labels[rows]) for run in runs],
            resolution=1 / len(rows),
            among=len(present),
        )
        for name, rows in present
    ]
