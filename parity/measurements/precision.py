"""A side whose products are those of a smaller format must be found, as precision and not as another formula."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

from parity.checking import STEPS, Check, check
from parity.contract import SGD, Stream
from parity.measurements.draws import GROUPS, choose, draw_sgd, sampled_problem
from parity.measurements.part import Bench, Conclusion, Part, Trial, figures, pair_of
from parity.settings import Settings

__all__ = ["PRECISION"]

SEEDS = 40_000  # they begin here

BATCHES = (1, 2, 4, 8, 16, 32, 64)

SLOW_EVERY = 8
"""One trial in eight is held against the second side of the honest pair, which compiles every setting anew."""


def measure(bench: Bench, number: int) -> Trial:
    """One check of an emulated side beside an honest one."""
    begin = time.perf_counter()
    seed = SEEDS + number
    stream = Stream(seed)
    low = bench.emulated[number % len(bench.emulated)]
    partner, sgd, batch_size = _beside(bench, number, stream)
    first = choose(stream, (True, False))
    names = (low, partner) if first else (partner, low)
    problem = sampled_problem(bench.dataset, seed, STEPS * batch_size)
    settings = Settings(sgd=sgd, batch_size=batch_size, seed=seed, device=bench.device)
    found = check(pair_of(names), problem, settings)
    how = {"seed": seed, "emulated": low, "partner": partner, "batch_size": batch_size, "sgd": asdict(sgd)}
    return {**how, **_found(found, low), "seconds": round(time.perf_counter() - begin, 1)}


def _beside(bench: Bench, number: int, stream: Stream) -> tuple[str, SGD, int]:
    """An honest side, hyper-parameters and a batch size."""
    if number % SLOW_EVERY == SLOW_EVERY - 1:
        return bench.sides[1], *choose(stream, GROUPS[:4])
    return bench.partner, draw_sgd(stream), choose(stream, BATCHES)


def _found(checked: Check, low: str) -> Trial:
    finding = checked.finding
    right = finding is not None and finding.kind == "precision" and finding.off == (low,)
    excess = figures(max((tensor.excess for tensor in checked.rounding), default=0.0))
    return {"found": right, "line": checked.line, "largest_excess": excess}


def conclude(trials: Sequence[Trial]) -> Conclusion:
    """How many were found, of each format."""
    names = sorted({trial["emulated"] for trial in trials})
    missed = [trial for trial in trials if not trial["found"]]
    summary = {
        "trials": len(trials),
        "found": len(trials) - len(missed),
        "numbers_of_missed": [trial["number"] for trial in missed],
        "found_by_format": {
            name: f"{sum(t['found'] for t in trials if t['emulated'] == name)} of "
            f"{sum(t['emulated'] == name for t in trials)}"
            for name in names
        },
        "least_excess": {
            name: min(float(trial["largest_excess"]) for trial in trials if trial["emulated"] == name) for name in names
        },
    }
    return Conclusion(met=not missed, summary=summary)


PRECISION = Part(
    name="precision",
    bar=(
        "one side's products as in bfloat16, float16 or TF32 are found as precision of that side, not as another "
        "formula: 100 % of at least 100 trials"
    ),
    count=120,
    quick=range(3),
    reads=("sides", "partner", "emulated", "device"),
    measure=measure,
    conclude=conclude,
)
