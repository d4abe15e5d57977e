"""What float32 shows, once float64 has matched: is each side as exact as float32 is?

By the second rule: see `parity.compare.rounding`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from parity.checking.fast_path import fast_rounding
from parity.checking.ladder import Climb
from parity.compare import (
    Errors,
    Finding,
    Rounding,
    Stage,
    Trials,
    judge_rounding,
    measure_rounding,
    nudge,
    precision_finding,
    vacuous_finding,
)
from parity.contract import InputError, StepTrace, Weights
from parity.explain import Explanation, explain_precision
from parity.lane import Calls
from parity.pair import Pair, start_pair
from parity.problem import Problem
from parity.progress import Progress, tell
from parity.settings import Settings, Side

__all__ = ["Single", "compare_single", "single_calls", "start_single"]

Batch = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Single:
    """Every tensor's float32 errors: as `observe` shows them, and as each side's `run` does beside its `observe`.

    `opening` is the first step on both sides.
    """

    observed: tuple[Rounding, ...] = ()
    fast: tuple[tuple[Rounding, ...], tuple[Rounding, ...]] = ((), ())
    opening: tuple[StepTrace, StepTrace] | None = field(default=None, repr=False)

    def explain(self, finding: Finding, names: tuple[str, str], *, is_cnn: bool) -> Explanation | None:
        """Why a side is less precise; None where nothing of that kind was found."""
        if finding.kind != "precision" or self.opening is None:
            return None
        trace = dict(zip(names, self.opening, strict=True))[finding.off[0]]
        return explain_precision(finding, trace if is_cnn and finding.phase == "" else None)

    def finding(self, names: tuple[str, str]) -> Finding | None:
        """The first tensor that one side computes with less precision; or a stage of which nothing was judged."""
        if found := _first_excess(self.observed, names) or _unjudged_rounding(self.observed):
            return found
        for name, tensors in zip(names, self.fast, strict=True):
            if found := _first_excess(tensors, (f"{name}'s observe()", f"{name}'s run()")):
                return replace(found, phase="fast path", off=(name,))
        return None


def start_single(
    sides: tuple[Side, Side], problem: Problem, settings: Settings, device: str, *, calls: Calls
) -> tuple[Pair | None, str | None]:
    """The sides in float32, or the reason why one of them does not compute in it."""
    try:
        return start_pair(sides, problem, replace(settings, dtype="float32"), device, calls=calls), None
    except InputError as error:
        if error.argument != "dtype":
            raise
        return None, error.problem


def single_calls(batches: Sequence[Batch]) -> Calls:
    """What `compare_single` asks of the sides in float32."""
    return Calls(
        observed=list(dict.fromkeys(map(len, batches))),
        plans=list(dict.fromkeys(plan.shape for plan in fast_plans(batches).values())),
        evaluated=False,
    )


def compare_single(single: Pair, exact: Climb, batches: Sequence[Batch], seed: int) -> Single:
    """Each step six times from the same float32 values: both sides in both precisions, and both sides' null runs.

    Then each side's `run` over two steps, where the next has as many examples.
    """
    observed: list[dict[Stage, Errors]] = []
    opening = None
    fast: list[tuple[dict[Stage, Errors], dict[Stage, Errors]]] = []
    left_out: list[frozenset[str]] = []
    unjudged = [taken.unjudged for taken in exact.taken[: len(exact.standings)]]
    plans = fast_plans(batches[: len(exact.standings)])
    for step, (before, rows) in enumerate(zip(exact.standings, batches, strict=False)):  # as many as were kept
        tell(Progress(what="steps in float32", done=step, total=len(exact.standings)))
        weights, momentum = _in_float32(before)
        double, start = before.restore(weights, momentum), single.restore(weights, momentum)
        null = single.restore(nudge(weights, seed=seed + step, dtype="float32"), momentum)
        steps = [pair.observe(rows) for pair in (start, double, null)]
        single = steps[0][0]  # kept, so that step counts go on
        (a32, b32), (a64, b64), (a_null, b_null) = (traces for _, traces in steps)
        opening = opening or (a32, b32)
        trials = Trials(a32=a32, b32=b32, a64=a64, b64=b64, a_null=a_null, b_null=b_null)
        observed.append(measure_rounding(trials, unjudged=unjudged[step], by_name=single.problem.is_cnn))
        if step in plans:
            left_out.append(frozenset.union(*unjudged[step : step + len(plans[step])]))
            fast.append(fast_rounding(start, steps, plans[step], unjudged=left_out[-1]))
    tell(Progress(what="steps in float32", done=len(exact.standings), total=len(exact.standings)))
    first, second = (judge_rounding([pair[number] for pair in fast], left_out) for number in (0, 1))
    return Single(observed=judge_rounding(observed, unjudged), fast=(first, second), opening=opening)


def fast_plans(batches: Sequence[Batch]) -> dict[int, Batch]:
    """The plan of two steps that begins at each step; where no two follow with as many examples, of one."""
    pairs = {
        step: np.stack([rows, following])
        for step, (rows, following) in enumerate(itertools.pairwise(batches))
        if len(rows) == len(following)
    }
    return pairs or {step: rows[np.newaxis] for step, rows in enumerate(batches)}


def _in_float32(pair: Pair) -> tuple[Weights, Weights]:
    """The first side's tensors rounded to float32."""

    def rounded(tensors: Weights) -> Weights:
        return {name: value.astype(np.float32) for name, value in tensors.items()}

    weights, momentum = pair.lanes[0].tensors(pair.states[0])
    return rounded(weights), rounded(momentum)


def _first_excess(rounding: Sequence[Rounding], names: tuple[str, str]) -> Finding | None:
    broken = next((tensor for tensor in rounding if tensor.broken), None)
    return precision_finding(broken, names) if broken else None


def _unjudged_rounding(rounding: Sequence[Rounding]) -> Finding | None:
    """A stage in which rounding may move every tensor by its own size, or that has none but zeros."""
    judged = {tensor.place.stage for tensor in rounding if tensor.judged}
    for stage in ("logits", "loss", "gradients"):
        if stage not in judged:
            detail = "nothing was compared: rounding alone may move every tensor by its own size"
            return vacuous_finding(stage, detail, phase="float32")
    return None
