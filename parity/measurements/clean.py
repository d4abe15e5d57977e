"""False alarms of `parity check` on honest pairs, and the factor K, fitted on runs of other seeds.

Every trial is a whole check: the float64 rule, then the float32 rule. The CNN's pair is checked under a dozen settings,
further programs at the widths that they come in; weights and data change with every trial. In every second round the
CNN has learnt the trial's images before: small losses keep few digits.

K bounds each tensor's distance between the two sides by their own errors (`parity.compare.rounding`). Every check of an
honest pair has a largest such ratio; the fitted k is the ratio that one check in 10,000 would reach if those maxima
follow Gumbel's distribution, as maxima of many draws do (its two constants by the moments of the sample), but at most
sqrt(2), which none can exceed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np

from parity.checking import STEPS, Check, check
from parity.compare import Rounding
from parity.compare.rounding import CAP, K
from parity.measurements.draws import GROUPS, learnt, reshuffled, sampled_problem
from parity.measurements.part import Bench, Conclusion, Part, Trial, figures, pair_of
from parity.prepare import Prepared, prepare
from parity.run import resolve_sides
from parity.settings import Settings

__all__ = ["CLEAN", "FIT"]

HELD_OUT, FITTED = 20_000, 10_000  # the seeds begin here, of the false alarms and of the fit

PROGRAM_BATCHES = (4, 33, 16)

QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)


def checked(bench: Bench, number: int, seed: int) -> tuple[Trial, Check]:
    """A check of the honest pair whose turn it is, and how it was done."""
    rounds, group = divmod(number, len(GROUPS) + len(bench.programs))
    has_learnt = rounds % 2 == 1
    if group < len(GROUPS):
        sgd, batch_size = GROUPS[group]
        names, sides = bench.sides, pair_of(bench.sides)
        problem = sampled_problem(bench.dataset, seed, STEPS * batch_size)
        settings = Settings(sgd=sgd, batch_size=min(batch_size, problem.size), seed=seed, device=bench.device)
        if has_learnt:
            (partner,) = resolve_sides((bench.partner,))
            problem = learnt(problem, partner, seed, bench.device)
    else:
        names = bench.programs[group - len(GROUPS)]
        prepared = _prepared(names)
        sides, problem = prepared.sides, reshuffled(prepared.problem, seed)
        settings = Settings(batch_size=PROGRAM_BATCHES[group % len(PROGRAM_BATCHES)], seed=seed, device=bench.device)
    how: Trial = {"seed": seed, "sides": names, "batch_size": settings.batch_size}
    if problem.is_cnn:
        how |= {"sgd": asdict(settings.sgd), "learnt": has_learnt}
    return how, check(sides, problem, settings)


@cache
def _prepared(names: tuple[str, str]) -> Prepared:
    """Two programs with their tensors mapped, which needs to be done once."""
    return prepare(*pair_of(names), settings=Settings())


def measure(bench: Bench, number: int, first_seed: int) -> tuple[Trial, Check]:
    """One check and its largest figures."""
    begin = time.perf_counter()
    how, found = checked(bench, number, first_seed + number)
    kind = found.finding.kind if found.finding else None
    seconds = round(time.perf_counter() - begin, 1)
    return {**how, "alarm": kind, "line": found.line, **_largest(found), "seconds": seconds}, found


def _largest(found: Check) -> Trial:
    """The tensors closest to their bounds."""
    rung = max((rung for rung in found.rungs if rung.judged), key=lambda rung: rung.share)
    trial: dict[str, Any] = {"float64_share": figures(rung.share), "float64_at": f"step {rung.step}, {rung.place}"}
    for name, figure in _FIGURES.items():
        if worst := max(found.rounding, key=figure, default=None):
            trial |= {name: figures(figure(worst)), f"{name}_at": str(worst.place)}
    return trial


_FIGURES: dict[str, Callable[[Rounding], float]] = {
    "spread": lambda tensor: tensor.spread,
    "excess": lambda tensor: tensor.excess,
}


def measure_clean(bench: Bench, number: int) -> Trial:
    """One held-out check."""
    return measure(bench, number, HELD_OUT)[0]


def conclude_clean(trials: Sequence[Trial]) -> Conclusion:
    """How many false alarms, and how close the others came to one."""
    alarms = [trial for trial in trials if trial["alarm"] is not None]
    summary = {
        "runs": len(trials),
        "false_alarms": len(alarms),
        "numbers_of_false_alarms": [trial["number"] for trial in alarms],
        "largest_float64_share": _most(trials, "float64_share"),
        "largest_spread": _most(trials, "spread"),
        "K": K,
        "largest_excess": _most(trials, "excess"),
        "CAP": CAP,
    }
    return Conclusion(met=not alarms, summary=summary)


def _most(trials: Sequence[Trial], name: str) -> float | None:
    """The largest of a figure; None where no trial has it."""
    return max((float(trial[name]) for trial in trials if name in trial), default=None)


def measure_fit(bench: Bench, number: int) -> Trial:
    """One check, with the figures of all its tensors."""
    trial, found = measure(bench, number, FITTED)
    values = {
        f"each_{name}": [figures(figure(tensor)) for tensor in found.rounding] for name, figure in _FIGURES.items()
    }
    return {**trial, **values}


def conclude_fit(trials: Sequence[Trial]) -> Conclusion:
    """The distribution of both figures over all tensors, and the k that follows from the largest of each check."""
    spreads, excesses = ([float(x) for trial in trials for x in trial[name]] for name in ("each_spread", "each_excess"))
    if not spreads:
        return Conclusion(met=False, summary={"runs": len(trials), "tensors": 0})
    fitted = fitted_k([max(map(float, trial["each_spread"])) for trial in trials if trial["each_spread"]])
    summary = {
        "runs": len(trials),
        "tensors": len(spreads),
        "spread": _quantiles(spreads),
        "excess": _quantiles(excesses),
        "fitted_k": figures(fitted),
        "K": K,
        "CAP": CAP,
    }
    return Conclusion(met=fitted <= K and max(excesses) <= CAP, summary=summary)


def fitted_k(largest: Sequence[float]) -> float:
    """The k that one honest check in 10,000 would reach.

    Args:
        largest: of each check, the largest ratio of any tensor.
    """
    if len(largest) < 2:
        return BOUND
    scale = float(np.std(largest, ddof=1)) * 6**0.5 / math.pi
    location = float(np.mean(largest)) - np.euler_gamma * scale
    return min(location - scale * math.log(-math.log1p(-FALSE_ALARMS)), BOUND)


BOUND = 2**0.5
"""By the triangle inequality."""

FALSE_ALARMS = 1e-4


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    return {f"{100 * q:g} %": figures(float(np.quantile(values, q))) for q in QUANTILES}


CLEAN = Part(
    name="clean",
    bar="no false alarm of `parity check` in at least 300 clean runs of seeds that nothing was fitted on",
    count=320,
    quick=(0, len(GROUPS)),
    reads=("sides", "programs", "partner", "device"),
    measure=measure_clean,
    conclude=conclude_clean,
)

FIT = Part(
    name="fit",
    bar="the shipped K and CAP are no smaller than what honest pairs show on seeds of their own",
    count=120,
    quick=(0,),
    reads=("sides", "programs", "partner", "device"),
    measure=measure_fit,
    conclude=conclude_fit,
)
