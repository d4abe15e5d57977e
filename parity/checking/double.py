"""What float64 shows: the ladder, the outputs after it, a step full of ties, the fast path, and a step repeated.

By the first rule: see `parity.compare.formula`. A difference of the CNN's is held against the oracle, to say which side
is off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from parity import oracle
from parity.checking.claims import explain_statement, repeat_finding, score_finding
from parity.checking.details import TIE_PROBE, Details
from parity.checking.fast_path import fast_finding, fast_formulas, group_ends, grouped, make_rung
from parity.checking.ladder import Broken, Climb, climb
from parity.checking.probes import tie_probe
from parity.compare import (
    BOUND,
    Blame,
    Finding,
    Rung,
    Stage,
    describe_difference,
    formula_finding,
    in_order_of,
    relative_difference,
    stage_tensors,
    vacuous_finding,
)
from parity.compare.formula import EPS, ULPS
from parity.contract import StepTrace
from parity.evidence import explain_difference, explain_outputs, explain_steps
from parity.explain import Explanation, explain_fast_path, explain_repeat
from parity.lane import Calls, Lane
from parity.matching import first_unmatched, matched_pairs
from parity.pair import Pair
from parity.problem import Problem
from parity.settings import Settings, Side

__all__ = ["Double", "compare_double", "double_calls"]

Batch = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Double:
    """What float64 showed: the steps, what else was compared, the fast paths, the first difference and its cause."""

    climb: Climb
    others: tuple[Rung, ...] = ()
    fast: tuple[tuple[Rung, ...], tuple[Rung, ...]] = ((), ())
    finding: Finding | None = None
    blame: Blame | None = None
    explanation: Explanation | None = None


def double_calls(batches: Sequence[Batch]) -> Calls:
    """What `compare_double` asks of the sides."""
    return Calls(
        observed=list(dict.fromkeys(map(len, batches))),
        plans=list(dict.fromkeys(plan.shape for plan in grouped(batches))),
        evaluated=True,
    )


def compare_double(
    start: Pair, batches: Sequence[Batch], settings: Settings, *, standings: int, details: Details | None = None
) -> Double:
    """The ordinary steps first, then what they do not show; `details` is to keep the tensors that differ most."""
    null = start.nudged(seed=settings.seed, dtype="float64", first=True)
    climbed = climb(start, batches, null=null, standings=standings, keep=group_ends(batches), details=details)
    if climbed.broken:
        start.stop_compiling()  # neither runs nor outputs are wanted any more
        before, rows = batches[: climbed.broken.rung.step], batches[climbed.broken.rung.step]
        blame = _ask_oracle(climbed.broken, settings, start.problem, before, rows)
        finding = _described(
            formula_finding(climbed.broken.rung, local=climbed.broken.local, blame=blame), climbed.broken, start.names
        )
        if not start.problem.is_cnn:
            finding = _by_value(finding, climbed.broken, start.names[1])
        known = start.problem.is_cnn
        broken = climbed.broken.rung
        if known:
            cause = explain_steps(start, batches, settings, given=start.problem.weights)
        else:
            cause = explain_difference(start, broken, batches)
        return Double(climb=climbed, finding=finding, blame=blame, explanation=cause)
    if unproved := _uncompared(climbed, is_cnn=start.problem.is_cnn):
        return Double(climb=climbed, finding=unproved)
    evaluation = _evaluation(climbed, len(batches), details)
    if evaluation.broken or evaluation.vacuous:
        finding = formula_finding(evaluation)
        explanation = explain_outputs(climbed.end, finding) if evaluation.broken and start.problem.is_cnn else None
        return Double(climb=climbed, others=(evaluation,), finding=finding, explanation=explanation)
    if misstated := score_finding(climbed.end, len(batches)):
        explanation = explain_statement(climbed.end, misstated, settings.batch_size)
        return Double(climb=climbed, others=(evaluation,), finding=misstated, explanation=explanation)
    probed = _probe_ties(start, batches[0], settings, details)
    others = (*_matched(climbed, start), evaluation, *(probed.climb.rungs if probed else ()))
    if probed and probed.finding:
        return replace(probed, climb=climbed, others=others)
    fast = fast_formulas(start, batches, climbed)
    unlike = fast_finding(start.names, fast)
    if unlike is None and climbed.opening:
        unlike = repeat_finding(start, batches[0], climbed.opening)
    return Double(climb=climbed, others=others, fast=fast, finding=unlike, explanation=_unlike_itself(unlike))


def _unlike_itself(finding: Finding | None) -> Explanation | None:
    """The cause, where a side differs from itself."""
    if finding is None or not finding.off:
        return None
    return explain_repeat(finding) if finding.phase == "repeat" else explain_fast_path(finding)


def _described(finding: Finding, broken: Broken, names: tuple[str, str]) -> Finding:
    """With what the difference looks like, where that is simple."""
    clause = describe_difference(finding.place, *broken.traces, allowed=finding.allowed, names=names)
    return replace(finding, detail=f"{finding.detail}; {clause}") if clause else finding


def _by_value(finding: Finding, broken: Broken, other: str) -> Finding:
    """Where the forward passes part, for programs whose activations are matched by value; else the finding itself."""
    if finding.place.stage not in ("logits", "loss"):
        return finding
    parting = first_unmatched(*broken.traces)
    if parting is None or parting.activation in ("logits", "loss"):
        return finding
    after = f" (the last that agree: {', '.join(parting.after)})" if parting.after else ""
    place = Stage(stage="activations", tensor=parting.activation)
    return replace(finding, place=place, detail=f"{parting.sentence(other)}{after}; {finding.place}: {finding.detail}")


def _uncompared(climbed: Climb, *, is_cnn: bool) -> Finding | None:
    """What no step says anything of: a stage that both sides leave out, or whose values are all 0; or a tensor."""
    compared = {rung.place.stage for rung in climbed.rungs if not rung.zero}
    activations = ("activations",) if is_cnn else ()  # other programs' have no common names
    for stage in ("batch", "weights", *activations, "logits", "loss", "gradients", "update"):
        if stage not in compared:
            return vacuous_finding(stage, "nothing was compared: no side has anything there but rounding")
    moving = frozenset[str]().union(*(taken.moving for taken in climbed.taken))
    for stage in ("gradients", "update"):
        if stage not in moving:
            return vacuous_finding(stage, "all are 0 in every step, so that no other formula would show")
    return formula_finding(climbed.unproved) if climbed.unproved else None


def _matched(climbed: Climb, start: Pair) -> list[Rung]:
    """The first step's activations that match by value, for programs that name them each in its own way."""
    if start.problem.is_cnn or climbed.opening is None:
        return []
    return [
        Rung(step=0, place=Stage(stage="activations", tensor=f"{a} = {b}"), difference=distance, allowed=BOUND)
        for a, b, distance in matched_pairs(*climbed.opening)
    ]


def _evaluation(climbed: Climb, steps: int, details: Details | None) -> Rung:
    """The outputs for test examples after the steps."""
    place = Stage(stage="evaluation", tensor="logits")
    a, b = _outputs(climbed.end)
    moved = zip((a, b), _outputs(climbed.null_end), strict=True) if climbed.null_end else ()
    rung = make_rung(steps, place, a, b, moved=list(moved))
    if details is not None:
        details.look_at([rung], {place: a}, {place: b})
    return rung


def _outputs(pair: Pair) -> list[NDArray[np.floating]]:
    return [lane.logits(state) for lane, state in zip(pair.lanes, pair.states, strict=True)]


def _probe_ties(start: Pair, rows: Batch, settings: Settings, details: Details | None) -> Double | None:
    """One step from the start on data and weights full of ties; only the CNN's are known."""
    if not start.problem.is_cnn:
        return None
    _, labels = start.problem.train
    arrays, weights = tie_probe(labels[rows])
    rows = np.arange(len(rows), dtype=np.int32)
    problem = replace(start.problem, train=arrays, weights=weights)
    probe = replace(start.restore(weights, {}).on(arrays), problem=problem)
    probed = climb(probe, [rows], details=details, phase=TIE_PROBE)
    if probed.broken is None:
        unproved = formula_finding(probed.unproved, phase=TIE_PROBE) if probed.unproved else None
        return Double(climb=probed, finding=unproved)
    blame = _ask_oracle(probed.broken, settings, problem, (), rows)
    finding = formula_finding(probed.broken.rung, local=probed.broken.local, blame=blame, phase=TIE_PROBE)
    return Double(
        climb=probed, finding=finding, blame=blame, explanation=explain_steps(probe, [rows], settings, given=weights)
    )


def _ask_oracle(
    broken: Broken, settings: Settings, problem: Problem, before: Sequence[Batch], rows: Batch
) -> Blame | None:
    """Each side's distance to what the oracle computes in that step, after the same steps; the CNN's alone."""
    if not problem.is_cnn:
        return None
    lane = Lane(side=Side(name="parity.oracle", implementation=oracle.impl))
    state = lane.start(problem, replace(settings, dtype="float64"), "cpu")
    for batch in before:
        state, _ = lane.observe(state, batch)
    seen = lane.observe(state, rows)[1]
    truth = stage_tensors(seen).get(broken.rung.place)
    first, second = (_distance(in_order_of(seen, trace), truth, broken.rung.place) for trace in broken.traces)
    return Blame(names=broken.before.names, distances=(first, second), allowed=max(broken.rung.allowed, ULPS * EPS))


def _distance(trace: StepTrace, truth: NDArray[np.float64] | None, place: Stage) -> float:
    """Infinite where only one has the tensor, or where the shapes differ; missing momentum stands at zero."""
    found = stage_tensors(trace).get(place)
    if place.stage == "momentum" and truth is not None:
        found = np.zeros_like(truth) if found is None else found
    if found is None or truth is None or found.shape != truth.shape:
        return 0.0 if found is truth else float("inf")
    return relative_difference(found, truth)
