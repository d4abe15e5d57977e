"""Long runs of the honest pair: float64 agrees to its last digits, float32 stays inside its own envelope."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.compare import agreement, largest_gap, predictions
from parity.contract import ParityError, initial_weights
from parity.measurements.part import Bench, Conclusion, Part, Trial, figures, pair_of
from parity.run import run_sides
from parity.running.history import Run
from parity.running.judgement import Judgement
from parity.running.lockstep import train
from parity.running.replay import Parting
from parity.settings import Settings

__all__ = ["ENSEMBLE", "FLOAT32", "FLOAT64", "loss_gaps"]

LOSS = 1e-10
PARAMETERS = 1e-11

SMALL_LOSS = 1e-3
"""Below it a loss is compared with this instead of itself: on images that are learnt by heart it is almost nothing, and
its last digits are those of the logits."""

ENSEMBLE = 8


def _settings(bench: Bench, seed: int, dtype: str) -> Settings:
    return Settings(seed=seed, epochs=bench.epochs, steps=bench.steps, dtype=dtype, device=bench.device)


def loss_gaps(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """|a - b| / max(|a|, |b|, 1e-3) at each step, (steps,)."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    gaps: NDArray[np.float64] = np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), SMALL_LOSS)
    return gaps


def measure_float64(bench: Bench, seed: int) -> Trial:
    """One seed in float64, judged by nothing but the numbers."""
    begin = time.perf_counter()
    run = train(pair_of(bench.sides), bench.dataset, _settings(bench, seed, "float64"), initial_weights(seed))
    return {"seed": seed, **_complete(run), **_agreement(run), "seconds": round(time.perf_counter() - begin, 1)}


def _complete(run: Run) -> Trial:
    """The number of steps; a run that ended early is no result.

    Raises:
        KeyboardInterrupt: the run was interrupted.
        ParityError: a loss was not finite.
    """
    if run.interrupted:
        raise KeyboardInterrupt
    if run.failure:
        raise ParityError(str(run.failure))
    return {"steps": run.steps}


def _agreement(run: Run) -> Trial:
    a, b = run.sides
    gaps = loss_gaps(a.losses, b.losses)
    worst = int(np.argmax(gaps))
    # Where a flip parts the sides, what came before it still has to agree.
    until = run.parting.step if run.parting else run.steps
    largest = max(run.gaps, key=lambda gap: gap.parameters.difference)
    before = [gap.parameters.difference for gap in run.gaps if gap.steps <= until]
    end = largest_gap(a.weights, b.weights)
    assert end is not None and a.logits is not None and b.logits is not None  # noqa: S101, PT018  a complete run's
    same = agreement(predictions(a.logits), predictions(b.logits))
    return {
        "loss": float(gaps.max()),
        "loss_step": worst,
        "loss_before_parting": float(gaps[:until].max(initial=0.0)),
        "parameters": largest.parameters.difference,
        "parameters_tensor": largest.parameters.tensor,
        "parameters_steps": largest.steps,
        "parameters_before_parting": max(before, default=0.0),
        "parameters_at_end": end.difference,
        "equal_predictions": same,
        "parting": describe_parting(run.parting),
    }


def describe_parting(parting: Parting | None) -> dict[str, Any] | None:
    """Step and cause of a parting, as JSON holds it."""
    if parting is None:
        return None
    return {
        "step": parting.step,
        "gap": figures(parting.gap),
        "gap_before": figures(parting.before),
        "flips": [str(flip) for flip in parting.flips],
        "explained": parting.explained,
        "finding": parting.finding.line if parting.finding else None,
    }


def _agrees(trial: Trial, losses: str, parameters: str) -> bool:
    # float(): JSON has no infinity, so that it is kept as "inf".
    return float(trial[losses]) <= LOSS and float(trial[parameters]) <= PARAMETERS


def float64_is_met(trial: Trial) -> bool:
    """The losses, the parameters and every prediction agree, or do until a flip that is named."""
    parting = trial["parting"]
    if parting and parting["explained"]:
        return _agrees(trial, "loss_before_parting", "parameters_before_parting")
    return _agrees(trial, "loss", "parameters") and trial["equal_predictions"] == 1


def conclude_float64(trials: Sequence[Trial]) -> Conclusion:
    """The worst seed's numbers."""
    met = [float64_is_met(trial) for trial in trials]
    summary = {
        "seeds": len(trials),
        "met": sum(met),
        "steps": min(trial["steps"] for trial in trials),
        "ended_by_a_named_flip": sum(bool(trial["parting"] and trial["parting"]["explained"]) for trial in trials),
        **{f"largest_{name}": max(float(trial[name]) for trial in trials) for name in ("loss", "parameters")},
        **{
            f"largest_{name}_before_parting": max(float(trial[f"{name}_before_parting"]) for trial in trials)
            for name in ("loss", "parameters")
        },
        "least_equal_predictions": min(trial["equal_predictions"] for trial in trials),
    }
    return Conclusion(met=all(met), summary=summary)


def measure_float32(bench: Bench, seed: int) -> Trial:
    """One seed in float32 beside an ensemble, judged as `parity run` judges."""
    begin = time.perf_counter()
    settings = _settings(bench, seed, "float32")
    result = run_sides(pair_of(bench.sides), bench.dataset, settings, ensemble=ENSEMBLE)
    steps = _complete(result.run)
    judgement = result.report.judgement
    assert judgement is not None  # noqa: S101  of two sides that ran to the end; for the type checker
    seconds = {side.name: round(side.seconds, 1) for side in result.run.sides}
    seconds["all"] = round(time.perf_counter() - begin, 1)
    return {"seed": seed, **steps, **_judged(judgement), "seconds": seconds}


def _judged(judgement: Judgement) -> Trial:
    around = judgement.envelope
    assert around is not None  # noqa: S101  there is an ensemble; for the type checker
    return {
        "outcome": str(judgement.outcome.value),
        "line": judgement.line,
        "members": around.members,
        "largest_share": around.largest_share,
        "horizon": around.horizon,
        "largest_gap": max(around.gaps),
        "outside": asdict(judgement.outside) if judgement.outside else None,
        "parting": describe_parting(judgement.parting),
        "distributions": [asdict(figure) for figure in around.distributions],
    }


def float32_is_met(trial: Trial) -> bool:
    """The pair stays inside, and its final figures are among the ensemble's."""
    return trial["outcome"] == "match" and trial["outside"] is None


def conclude_float32(trials: Sequence[Trial]) -> Conclusion:
    """How many seeds stay inside, and by what margin."""
    met = [float32_is_met(trial) for trial in trials]
    partings = [trial["parting"]["step"] for trial in trials if trial["parting"]]
    summary = {
        "seeds": len(trials),
        "met": sum(met),
        "steps": min(trial["steps"] for trial in trials),
        "largest_share": max(float(trial["largest_share"]) for trial in trials),
        "horizons": [trial["horizon"] for trial in trials],
        "partings": partings,
        "largest_t_over_limit": max(
            (float(figure["t"]) / float(figure["limit"]) for trial in trials for figure in trial["distributions"]),
            default=None,
        ),
    }
    return Conclusion(met=all(met), summary=summary)


FLOAT64 = Part(
    name="float64-long",
    bar=(
        "float64, 3 epochs at batch 4, 3 seeds: losses agree to 1e-10 at every step (relative to the larger of the "
        "loss and 1e-3), parameters to 1e-11, and every test prediction; or the first flip that ends it is named"
    ),
    count=3,
    quick=(0,),
    reads=("sides", "epochs", "steps", "device"),
    measure=measure_float64,
    conclude=conclude_float64,
)

FLOAT32 = Part(
    name="float32-long",
    bar="float32, 3 epochs at batch 4, 5 seeds: the pair stays inside its own envelope",
    count=5,
    quick=(0,),
    reads=("sides", "epochs", "steps", "device"),
    measure=measure_float32,
    conclude=conclude_float32,
)
