"""`parity check` as a function: a verdict on two programs within seconds.

In float64 every stage of a few steps is compared, then one step full of ties, the outputs after the steps, and the fast
path (`run`) against the steps that were observed: see `parity.compare.formula`. If that matches, float32 is judged:
see `parity.compare.rounding`. A difference of the CNN's is held against the oracle, to say which side is off.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity import oracle
from parity.compare import (
    Blame,
    Errors,
    Finding,
    Rounding,
    Rung,
    Stage,
    Trials,
    describe_difference,
    first_break,
    formula_finding,
    in_order_of,
    judge_rounding,
    measure_rounding,
    nudge,
    precision_finding,
    relative_difference,
    stage_tensors,
)
from parity.compare.formula import EPS, ULPS, rounding_allowed
from parity.compare.measure import frobenius
from parity.contract import InputError, StepTrace, Weights
from parity.data import Loader
from parity.ladder import Broken, Climb, climb
from parity.lane import Lane
from parity.matching import first_unmatched
from parity.pair import Pair, start_pair
from parity.probes import tie_probe
from parity.problem import Problem
from parity.settings import Settings, Side, resolve_device

__all__ = ["STEPS", "Check", "check"]

STEPS = 6
"""Steps observed: the first has no momentum yet, the second and third show how it is kept, the rest repeat. The last
has half the examples: a mean that divides by the full batch shows only there."""

ROUNDING_STEPS = 5
"""An odd number, so that the median is one of them."""

_EVALUATED = 64  # test examples: the evaluation is compared output by output, not counted

Batch = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was compared, and what came of it.

    Args:
        descriptions: each side's line on how it computes.
        device: the one used.
        rungs: every tensor of every observed float64 step, then of the evaluation and the tie probe.
        rounding: every tensor's float32 errors; empty when float64 did not match, or a side refuses float32.
        refusal: why a side does not compute in float32, in its own words; None where both do.
        finding: the first difference; None for a match.
        blame: each side's distance to the oracle there; None for a match, or where there is no oracle.
        seconds: in all.
    """

    descriptions: tuple[str, str]
    device: str
    rungs: tuple[Rung, ...]
    rounding: tuple[Rounding, ...]
    refusal: str | None
    finding: Finding | None
    blame: Blame | None
    seconds: float

    @property
    def line(self) -> str:
        """The verdict in one line."""
        if self.finding:
            return self.finding.line
        worst = max((rung for rung in self.rungs if not rung.zero), key=lambda rung: rung.share)
        exact = f"float64 to {100 * worst.share:.1f} % of what rounding explains ({worst.place})"
        if self.refusal:
            return f"match in float64 alone: {exact}; {self.refusal}"
        excess = max(self.rounding, key=lambda rounding: rounding.excess)
        return f"match: {exact}, float32 errors within a factor of {excess.excess:.1f} ({excess.place})"


def check(sides: tuple[Side, Side], problem: Problem, settings: Settings, *, steps: int = STEPS) -> Check:
    """Compare two programs.

    Args:
        sides: in the names and the layout of `problem.weights`.
        problem: data and initial weights.
        settings: batch size, seed, hyper-parameters and device; the dtype is not used, both are.
        steps: how many to observe in float64.

    Raises:
        InputError: a side cannot start.
        SideError: a side raised an exception, or broke the protocol.
    """
    begin = time.perf_counter()
    device = resolve_device(sides, settings.device)
    batches = check_batches(problem.size, settings, steps)
    small, batches = _gather(problem, batches)
    exact = start_pair(sides, small, replace(settings, dtype="float64"), device)
    formula = _compare_formulas(exact, batches, settings)
    finding, rounding, refusal = formula.finding, tuple[Rounding, ...](), None
    if finding is None:
        single, refusal = _start_single(sides, small, settings, device)
        rounding = _compare_rounding(single, formula.climb, batches, settings.seed) if single else ()
        finding = _first_excess(rounding, exact.names)
    return Check(
        descriptions=(exact.lanes[0].description, exact.lanes[1].description),
        device=device,
        rungs=(*formula.climb.rungs, *formula.others),
        rounding=rounding,
        refusal=refusal,
        finding=finding,
        blame=formula.blame,
        seconds=time.perf_counter() - begin,
    )


def _start_single(
    sides: tuple[Side, Side], problem: Problem, settings: Settings, device: str
) -> tuple[Pair | None, str | None]:
    """The sides in float32, or the reason why one of them does not compute in it."""
    try:
        return start_pair(sides, problem, replace(settings, dtype="float32"), device), None
    except InputError as error:
        if error.argument != "dtype":
            raise
        return None, str(error)


def check_batches(size: int, settings: Settings, steps: int) -> list[Batch]:
    """The rows of each step: the loader's own batches, epoch after epoch, the last of them cut in half."""
    loader = Loader(size=size, batch_size=settings.batch_size, seed=settings.seed)
    rows = (rows for epoch in itertools.count() for plan in loader.plans(epoch) for rows in plan)
    batches = list(itertools.islice(rows, steps))
    last = batches[-1]
    if steps > 1 and len(last) > 3:  # of two examples half is one, which batch norms refuse
        batches[-1] = last[: len(last) // 2]
    return batches


def _gather(problem: Problem, batches: Sequence[Batch]) -> tuple[Problem, list[Batch]]:
    """The problem with the rows that the batches name, and nothing else: only those need to go to the device."""
    used = np.concatenate(batches)
    ends = np.cumsum([len(batch) for batch in batches])[:-1]
    numbers = np.arange(len(used), dtype=np.int32)
    train = tuple(array[used] for array in problem.train)
    test = tuple(array[:_EVALUATED] for array in problem.test)
    return replace(problem, train=train, test=test), np.split(numbers, ends)


@dataclass(frozen=True, kw_only=True)
class _Formulas:
    """What float64 showed: the ordinary steps, what was compared besides, and the first difference."""

    climb: Climb
    others: tuple[Rung, ...] = ()
    finding: Finding | None = None
    blame: Blame | None = None


def _compare_formulas(start: Pair, batches: Sequence[Batch], settings: Settings) -> _Formulas:
    """The ordinary steps first, then what they do not show."""
    weights = start.problem.weights
    null = start.lanes[0].restore(start.states[0], nudge(weights, seed=settings.seed, dtype="float64"), {})
    climbed = climb(start, batches, null=null)
    if climbed.broken:
        before, rows = batches[: climbed.broken.rung.step], batches[climbed.broken.rung.step]
        blame = _ask_oracle(climbed.broken, settings, start.problem, before, rows)
        finding = _described(
            formula_finding(climbed.broken.rung, local=climbed.broken.local, blame=blame), climbed.broken, start.names
        )
        if not start.problem.is_cnn:
            finding = _by_value(finding, climbed.broken, start.names[1])
        return _Formulas(climb=climbed, finding=finding, blame=blame)
    evaluation = _evaluation(climbed, len(batches))
    if evaluation.broken:
        return _Formulas(climb=climbed, others=(evaluation,), finding=formula_finding(evaluation))
    probed = _probe_ties(start, batches[0], settings)
    others = (evaluation, *(probed.climb.rungs if probed else ()))
    if probed and probed.finding:
        return replace(probed, climb=climbed, others=others)
    return _Formulas(climb=climbed, others=others, finding=_fast_paths(start, batches, climbed))


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


def _evaluation(climbed: Climb, steps: int) -> Rung:
    """The outputs for test examples after the steps."""
    pair = climbed.end
    a, b = (lane.logits(state) for lane, state in zip(pair.lanes, pair.states, strict=True))
    null = pair.lanes[0].logits(climbed.null_end)
    return _rung(steps, Stage(stage="evaluation", tensor="logits"), a, b, null=(a, null))


def _probe_ties(start: Pair, rows: Batch, settings: Settings) -> _Formulas | None:
    """One step from the start on data and weights full of ties; only the CNN's are known."""
    if not start.problem.is_cnn:
        return None
    _, labels = start.problem.train
    arrays, weights = tie_probe(labels[rows], start.problem.weights)
    rows = np.arange(len(rows), dtype=np.int32)
    probed = climb(start.restore(weights, {}).on(arrays), [rows])
    if probed.broken is None:
        return _Formulas(climb=probed)
    blame = _ask_oracle(probed.broken, settings, replace(start.problem, train=arrays, weights=weights), (), rows)
    finding = formula_finding(probed.broken.rung, local=probed.broken.local, blame=blame, phase="tie probe")
    return _Formulas(climb=probed, finding=finding, blame=blame)


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


def _fast_paths(start: Pair, batches: Sequence[Batch], climbed: Climb) -> Finding | None:
    """What each side's `run` makes of the steps, against what its `observe` recorded of them."""
    for number, lane in enumerate(start.lanes):
        if rung := first_break(list(_rerun(lane, start.states[number], batches, climbed, number))):
            finding = formula_finding(rung, phase="fast path")
            detail = f"{lane.side.name}: run() is not what observe() shows; {finding.detail}"
            return replace(finding, off=(lane.side.name,), detail=detail)
    return None


def _rerun(lane: Lane, state: Any, batches: Sequence[Batch], climbed: Climb, number: int) -> Iterator[Rung]:
    """The steps again by `run`, in pieces of equal batches: losses at each step, tensors after each piece."""
    done = 0
    traces = [pair[number] for pair in climbed.traces]
    for _, group in itertools.groupby(batches, key=len):
        plan = np.stack(list(group))
        state, losses = lane.run(state, plan)
        for step, loss in enumerate(losses, done):
            null = _moved(climbed, step, "loss", "loss")
            yield _rung(step, Stage(stage="loss", tensor="loss"), loss, traces[step].loss["loss"], null=null)
        done += len(plan)
        tensors = {"momentum": lane.momentum(state), "parameters": lane.weights(state)}
        for kind, found in tensors.items():
            for name, value in getattr(traces[done - 1], kind).items():
                if name.partition(":")[0] not in climbed.unjudged:
                    place = Stage(stage=_STAGE_OF[kind], tensor=name)
                    yield _rung(done - 1, place, found[name], value, null=_moved(climbed, done - 1, kind, name))


_STAGE_OF = {"momentum": "momentum", "parameters": "update"}


def _moved(climbed: Climb, step: int, kind: str, name: str) -> tuple[Any, Any]:
    """A tensor of the first side's step, and the same in the null run."""
    return getattr(climbed.traces[step][0], kind).get(name), getattr(climbed.nulls[step], kind).get(name)


def _rung(step: int, place: Stage, a: Any, b: Any, *, null: tuple[Any, Any]) -> Rung:
    """Two arrays compared; `null` are the first side's, without and with its initial weights moved."""
    same = np.shape(a) == np.shape(b)
    difference = relative_difference(np.asarray(a), np.asarray(b)) if same else float("inf")
    scale = max(frobenius(np.asarray(a)), frobenius(np.asarray(b)))
    allowed = rounding_allowed(*null, scale=scale) if null[0] is not None else ULPS * EPS
    return Rung(step=step, place=place, difference=difference, allowed=allowed)


def _compare_rounding(single: Pair, exact: Climb, batches: Sequence[Batch], seed: int) -> tuple[Rounding, ...]:
    """Each step six times from the same float32 values: both sides in both precisions, and both sides' null runs."""
    measured: list[dict[Stage, Errors]] = []
    for step, rows in enumerate(batches[:ROUNDING_STEPS]):
        before = exact.standings[step]
        weights, momentum = _in_float32(before)
        moved = nudge(weights, seed=seed + step, dtype="float32")
        _, (a64, b64) = before.restore(weights, momentum).observe(rows)
        _, (a_null, b_null) = single.restore(moved, momentum).observe(rows)
        # Kept, so that step counts go on.
        single, (a32, b32) = single.restore(weights, momentum).observe(rows)
        trials = Trials(a32=a32, b32=b32, a64=a64, b64=b64, a_null=a_null, b_null=b_null)
        measured.append(measure_rounding(trials, unjudged=exact.unjudged, by_name=single.problem.is_cnn))
    return judge_rounding(measured)


def _in_float32(pair: Pair) -> tuple[Weights, Weights]:
    """The first side's tensors rounded to float32."""

    def rounded(tensors: Weights) -> Weights:
        return {name: value.astype(np.float32) for name, value in tensors.items()}

    weights, momentum = pair.lanes[0].tensors(pair.states[0])
    return rounded(weights), rounded(momentum)


def _first_excess(rounding: Sequence[Rounding], names: tuple[str, str]) -> Finding | None:
    broken = next((tensor for tensor in rounding if tensor.broken), None)
    return precision_finding(broken, names) if broken else None
