"""A relative change of 1e-10 in one tensor of one step must be found there and nowhere else, in float64."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

from parity.checking import check_batches
from parity.checking.ladder import Climb, climb
from parity.contract import CNN_PARAMETERS, SGD, Stream
from parity.measurements.draws import GROUPS, choose, draw_sgd, sampled_problem
from parity.measurements.part import Bench, Conclusion, Part, Trial, figures
from parity.measurements.perturbed import STAGES, Fault, Perturbed
from parity.pair import start_pair
from parity.problem import Problem
from parity.registry import resolve
from parity.settings import Settings, Side, resolve_device

__all__ = ["PERTURBATIONS"]

SEEDS = 30_000  # they begin here

STEPS = 4
"""The fault is in one of them; the third has half the examples."""

BATCHES = (1, 2, 3, 4, 8, 16, 32)

ORACLE = "parity.oracle"

SLOW_EVERY = 10
"""One trial in ten is held against the second side of the honest pair, which compiles every setting anew."""


def measure(bench: Bench, number: int) -> Trial:
    """One fault in the oracle, beside an honest side."""
    begin = time.perf_counter()
    seed = SEEDS + number
    stream = Stream(seed)
    fault = Fault(
        stage=choose(stream, STAGES),
        tensor=choose(stream, tuple(CNN_PARAMETERS)),
        step=choose(stream, range(STEPS)),
        noise=choose(stream, (None, seed)),
    )
    partner, sgd, batch_size = _beside(bench, number, stream)
    problem = sampled_problem(bench.dataset, seed, STEPS * batch_size)
    settings = Settings(sgd=sgd, batch_size=batch_size, seed=seed, dtype="float64", device=bench.device)
    sides = (
        Side(name="perturbed", implementation=Perturbed(fault)),
        Side(name=partner, implementation=resolve(partner)),
    )
    first = choose(stream, (True, False))
    climbed = _climbed(sides if first else (sides[1], sides[0]), problem, settings)
    how = {"seed": seed, "partner": partner, "perturbed_first": first, "batch_size": batch_size, "sgd": asdict(sgd)}
    return {**how, **asdict(fault), **_found(climbed, fault), "seconds": round(time.perf_counter() - begin, 1)}


def _beside(bench: Bench, number: int, stream: Stream) -> tuple[str, SGD, int]:
    """An honest side, hyper-parameters with momentum, and a batch size."""
    if number % SLOW_EVERY == SLOW_EVERY - 1:
        sgd, batch_size = choose(stream, [group for group in GROUPS if group[0].momentum > 0][:4])
        return bench.sides[1], sgd, batch_size
    return choose(stream, (bench.partner, bench.partner, ORACLE)), draw_sgd(stream), choose(stream, BATCHES)


def _climbed(sides: tuple[Side, Side], problem: Problem, settings: Settings) -> Climb:
    """The ladder, with its null run, as `parity check` climbs it."""
    pair = start_pair(sides, problem, settings, resolve_device(sides, settings.device))
    null = pair.nudged(seed=settings.seed, dtype="float64", first=True)
    return climb(pair, check_batches(problem.size, settings, STEPS), null=null)


def _found(climbed: Climb, fault: Fault) -> Trial:
    broken = climbed.broken
    if broken is None:
        return {"found": False, "at": None}
    place = broken.rung.place
    right = (broken.rung.step, place.stage, place.tensor) == (fault.step, fault.stage, fault.tensor)
    difference, allowed = figures(broken.rung.difference), figures(broken.rung.allowed)
    return {"found": right, "at": f"step {broken.rung.step}, {place}", "difference": difference, "allowed": allowed}


def conclude(trials: Sequence[Trial]) -> Conclusion:
    """How many were found in their own place, and the least margin."""
    missed = [trial for trial in trials if not trial["found"]]
    margins = [float(trial["difference"]) / float(trial["allowed"]) for trial in trials if trial["found"]]
    summary = {
        "trials": len(trials),
        "found": len(trials) - len(missed),
        "numbers_of_missed": [trial["number"] for trial in missed],
        "by_stage": {stage: sum(trial["stage"] == stage for trial in trials) for stage in STAGES},
        "by_partner": {
            name: sum(t["partner"] == name for t in trials) for name in sorted({t["partner"] for t in trials})
        },
        "least_difference_over_allowed": figures(min(margins)) if margins else None,
    }
    return Conclusion(met=not missed, summary=summary)


PERTURBATIONS = Part(
    name="perturbations",
    bar=(
        "a relative change of 1e-10 in any one gradient, momentum or parameter tensor in float64 is found at its own "
        "step, stage and tensor: 100 % of at least 500 random trials"
    ),
    count=600,
    quick=range(9),  # the tenth compiles
    reads=("sides", "partner", "device"),
    measure=measure,
    conclude=conclude,
)
