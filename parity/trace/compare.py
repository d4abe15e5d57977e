"""Whether two traces match, and if not, at which step, stage and tensor they part.

Three rules for what is noise:

- float64: the bound of `parity.compare.verdict`, 1e-9, on losses, parameters and momentum alike, plus the rounding of
  stored projections. Estimates are off by 9 % or so; six orders of magnitude lie between rounding and the bound.
- With null runs (recordings of A's implementation from weights one ulp apart), in either precision: 10 times the
  largest distance between A and a null run so far, tensor by tensor, "so far" being at least 20 recorded states: the
  difference of two norms may vanish by chance at any one of them. Before anything flips, torch_impl and jax_impl stay
  within 4 times.
- float32 alone: 1,000 times the level of the first 10 recorded states. That says where the two part, not why.

In float32 even a run parts from itself, suddenly, at a random step, when rounding flips a ReLU or the winner of a pool:
for the tutorial's CNN at batch 4 on real images after 70 to 800 steps, a null run as often as an honest pair. So beyond
the noise is no verdict there: the break is located and reported, and formulas are judged in float64, where such flips
are 2**29 times rarer. Null runs show when they set in; a float32 match speaks of the steps up to that horizon, beyond
which the noise that it is held against is that of flips.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from parity.compare import BOUND, Rung, Stage
from parity.contract import InputError
from parity.data import Dataset
from parity.explain import Explanation
from parity.result import plain, shown
from parity.trace.cause import find_cause
from parity.trace.distances import Common, Distances, distances
from parity.trace.reader import Trace
from parity.trace.same_run import require_null_of, require_same_run

__all__ = ["Break", "Largest", "TraceComparison", "TraceOutcome", "TraceSide", "compare_traces"]

FORMAT = "parity.trace-comparison/1"

_NULL_MULTIPLE = 10.0
_NULL_STATES = 20
_LEVEL_MULTIPLE = 1000.0
_LEVEL_STATES = 10


class TraceOutcome(StrEnum):
    """What the comparison of two traces can come to."""

    MATCH = "match"
    DIFFERS = "differs"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, kw_only=True)
class Break:
    """The first thing beyond the noise.

    Args:
        step: counted from 0.
        since: the step of the last recorded state before, which was within the noise; -1 for the initial weights.
        stage: "loss", "momentum" or "update".
        tensor: its name; None for the loss.
        difference: relative.
        allowed: what noise may reach there.
        measured: "exactly", "estimated" (from projections) or "at least" (from norms).
    """

    step: int
    since: int
    stage: str
    tensor: str | None
    difference: float
    allowed: float
    measured: str


@dataclass(frozen=True, kw_only=True)
class Largest:
    """The largest relative difference in a stage, and where: step from 0, tensor (None for the loss)."""

    difference: float
    step: int
    tensor: str | None


@dataclass(frozen=True, kw_only=True)
class TraceSide:
    """A trace: its folder, who computed it and how, steps it holds, steps planned, and how it ended."""

    path: str
    implementation: str
    description: str
    steps: int
    planned: int
    ending: str


@dataclass(frozen=True, kw_only=True)
class TraceComparison:
    """Two traces compared.

    Args:
        outcome: the verdict.
        rule: what was taken for noise, in words.
        first_break: None for a match.
        horizon: the first step at which a null run parts from A; None without null runs or if none does.
        sides: the two traces, then the null runs.
        dtype: of all of them.
        steps: losses compared.
        recorded: states compared.
        full: of these in full.
        largest: by stage: "loss", "momentum" (where a side keeps any), "update".
        resolution: the most that the storing of projections adds to a difference of the update.
        explanation: why they differ; None for a match, and where the traces do not hold enough for a cause.
        lacking: what they do not hold for one, and which option keeps it; None where there is an explanation.
        noise: (steps,) what counts as noise in the losses, by the null runs; None without. Not part of the JSON.
    """

    outcome: TraceOutcome
    rule: str
    first_break: Break | None
    horizon: int | None
    sides: tuple[TraceSide, ...]
    dtype: str
    steps: int
    recorded: int
    full: int
    largest: dict[str, Largest]
    resolution: float
    explanation: Explanation | None = None
    lacking: str | None = None
    noise: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)

    @property
    def exit_code(self) -> int:
        """0 match, 1 differs, 2 no verdict."""
        return {TraceOutcome.MATCH: 0, TraceOutcome.DIFFERS: 1, TraceOutcome.NOT_JUDGED: 2}[self.outcome]

    def to_json(self) -> str:
        """The comparison as a JSON object with a `format` key."""
        content = plain(asdict(replace(self, noise=None)))
        del content["noise"]
        return json.dumps({"format": FORMAT, **content}, indent=2, allow_nan=False) + "\n"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return shown(self)


def compare_traces(
    a: Trace, b: Trace, nulls: Sequence[Trace] = (), *, dataset: Dataset | None = None
) -> TraceComparison:
    """Compare two traces of the same run, over the steps that all traces hold; where they differ, look for the cause.

    Args:
        a: one.
        b: the other.
        nulls: recordings of A's implementation from weights one ulp apart.
        dataset: that they were trained on, for the cause; None to look for it where it usually is.

    Raises:
        InputError: the traces are not of the same run; a null run is not one of A; or they have no state in common.
    """
    comparison = _compared(a, b, nulls)
    found = comparison.first_break
    if comparison.outcome is not TraceOutcome.DIFFERS or found is None:
        return comparison
    place = Stage(stage=found.stage, tensor=found.tensor or "loss")
    rung = Rung(step=found.step, place=place, difference=found.difference, allowed=found.allowed)
    answer = find_cause(a, b, rung, dataset)
    return replace(comparison, explanation=answer.explanation, lacking=answer.lacking)


def _compared(a: Trace, b: Trace, nulls: Sequence[Trace]) -> TraceComparison:
    """All but the cause."""
    require_same_run(a, b)
    for null in nulls:
        require_null_of(a, null)
    traces = (a, b, *nulls)
    common = Common.of(traces)
    if not len(common.counts):
        raise InputError("trace", b.path, f"it has no recorded state in common with {a.path}", "record longer")
    pair = distances(a, b, common)
    spread = [distances(a, null, common) for null in nulls]
    dtype = a.manifest.settings.dtype
    rule, allowed = _allowance(pair, spread, dtype)
    found = _first_break(pair, allowed)
    breaks = [_first_break(null, _own_level(null, dtype)) for null in spread]
    horizon = min((early.step for early in breaks if early), default=None)
    return TraceComparison(
        outcome=_outcome(pair, found, allowed, dtype=dtype, nulls=len(nulls)),
        rule=rule,
        first_break=found,
        horizon=horizon,
        sides=tuple(_side(trace) for trace in traces),
        dtype=dtype,
        steps=common.steps,
        recorded=len(common.counts),
        full=int(pair.exact.sum()),
        largest=_largest(pair),
        resolution=float(pair.rounding.max()),
        noise=allowed.losses if nulls else None,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Allowance:
    """What noise may reach: (steps,) for losses, (recorded, tensors) for the others."""

    losses: NDArray[np.float64]
    momentum: NDArray[np.float64]
    parameters: NDArray[np.float64]


def _allowance(pair: Distances, nulls: Sequence[Distances], dtype: str) -> tuple[str, _Allowance]:
    """The rule that applies, in words and in numbers."""
    if nulls:
        rule = f"{_NULL_MULTIPLE:.0f} times the distance of {len(nulls)} null run{'s' if len(nulls) > 1 else ''}"
        return rule, _null_level(nulls, dtype)
    if dtype == "float64":
        return f"bound {BOUND:.0e}", _constant(pair, BOUND, BOUND, BOUND)
    rule = f"{_LEVEL_MULTIPLE:,.0f} times the level of the first {_LEVEL_STATES} recorded states"
    return rule, _own_level(pair, dtype)


def _constant(
    pair: Distances,
    losses: float,
    momentum: float | NDArray[np.float64],
    parameters: float | NDArray[np.float64],
) -> _Allowance:
    return _Allowance(
        losses=np.full_like(pair.losses, losses),
        momentum=np.zeros_like(pair.momentum) + momentum,
        parameters=np.zeros_like(pair.parameters) + parameters,
    )


def _unit(dtype: str) -> float:
    """The rounding of one operation: no noise is taken to be less."""
    return float(np.finfo(dtype).eps) / 2


def _own_level(pair: Distances, dtype: str) -> _Allowance:
    """A multiple of the level at which the two begin."""
    unit, early = _unit(dtype), slice(_LEVEL_STATES)
    levels = (values[early].max(axis=0, initial=unit) for values in (pair.losses, pair.momentum, pair.parameters))
    return _constant(pair, *(_LEVEL_MULTIPLE * level for level in levels))


def _null_level(nulls: Sequence[Distances], dtype: str) -> _Allowance:
    """A multiple of the largest distance of a null run so far."""

    def level(values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        envelope = np.maximum.accumulate(np.maximum(np.max(values, axis=0), _unit(dtype)))
        envelope[:_NULL_STATES] = envelope[:_NULL_STATES].max(axis=0)
        return _NULL_MULTIPLE * envelope

    return _Allowance(
        losses=level([null.losses for null in nulls]),
        momentum=level([null.momentum for null in nulls]),
        parameters=level([null.parameters for null in nulls]),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stage:
    """A part of the states: (recorded, tensors) distances, what is allowed, and how states not kept in full compare."""

    name: str
    tensors: tuple[str, ...]
    distances: NDArray[np.float64]
    allowed: NDArray[np.float64]
    measured: str


def _first_break(pair: Distances, allowed: _Allowance) -> Break | None:
    """The first step, and in it the first stage, that lies beyond; of several tensors the one that is furthest out."""
    momentum = _Stage(
        name="momentum",
        tensors=pair.buffers,
        distances=pair.momentum,
        allowed=allowed.momentum,
        measured="at least",
    )
    update = _Stage(
        name="update",
        tensors=pair.tensors,
        distances=pair.parameters,
        allowed=allowed.parameters + pair.rounding,
        measured="estimated",
    )
    breaks = (_loss_break(pair, allowed.losses), _state_break(pair, momentum), _state_break(pair, update))
    return min((found for found in breaks if found), key=lambda found: found.step, default=None)


def _loss_break(pair: Distances, allowed: NDArray[np.float64]) -> Break | None:
    beyond = np.flatnonzero(pair.losses > allowed)
    if not len(beyond):
        return None
    step = int(beyond[0])
    before = int(np.searchsorted(pair.counts, step, side="right"))
    return Break(
        step=step,
        since=int(pair.counts[before - 1]) - 1 if before else -1,
        stage="loss",
        tensor=None,
        difference=float(pair.losses[step]),
        allowed=float(allowed[step]),
        measured="exactly",
    )


def _state_break(pair: Distances, stage: _Stage) -> Break | None:
    rows = np.flatnonzero((stage.distances > stage.allowed).any(axis=1))
    if not len(rows):
        return None
    row = int(rows[0])
    column = int(np.argmax(stage.distances[row] / stage.allowed[row]))
    return Break(
        step=int(pair.counts[row]) - 1,
        since=int(pair.counts[row - 1]) - 1 if row else -1,
        stage=stage.name,
        tensor=stage.tensors[column],
        difference=float(stage.distances[row, column]),
        allowed=float(stage.allowed[row, column]),
        measured="exactly" if pair.exact[row] else stage.measured,
    )


def _outcome(pair: Distances, found: Break | None, allowed: _Allowance, *, dtype: str, nulls: int) -> TraceOutcome:
    if pair.is_zero():
        return TraceOutcome.MATCH
    if dtype == "float64" and found:
        return TraceOutcome.DIFFERS
    # Whatever the tensors held, noise of their own size would let it pass.
    drowned = bool((allowed.parameters[0] >= 1).any())
    return (
        TraceOutcome.MATCH
        if found is None and not drowned and (nulls or dtype == "float64")
        else TraceOutcome.NOT_JUDGED
    )


def _largest(pair: Distances) -> dict[str, Largest]:
    step = int(pair.losses.argmax())
    largest = {"loss": Largest(difference=float(pair.losses[step]), step=step, tensor=None)}
    stages = (("momentum", pair.buffers, pair.momentum), ("update", pair.tensors, pair.parameters))
    for stage, names, values in (part for part in stages if part[1]):
        row, column = np.unravel_index(int(values.argmax()), values.shape)
        step, difference = int(pair.counts[row]) - 1, float(values[row, column])
        largest[stage] = Largest(difference=difference, step=step, tensor=names[int(column)])
    return largest


def _side(trace: Trace) -> TraceSide:
    manifest = trace.manifest
    return TraceSide(
        path=str(trace.path),
        implementation=manifest.implementation,
        description=manifest.description,
        steps=manifest.steps,
        planned=manifest.limit,
        ending=manifest.ending,
    )
