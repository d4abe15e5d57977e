"""What a trace tells of consecutive steps: every stage, where they were recorded so, or losses and states.

The states after the first four steps are kept in full, and every loss is. With the weights that the run was given,
which are drawn from its seed, that makes four steps with a state before and after each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.compare import BOUND, Finding, Stage, nudge, relative_difference, stage_tensors
from parity.compare.measure import frobenius
from parity.contract import StepTrace, Weights, initial_weights
from parity.data import fingerprint
from parity.explain import Evidence
from parity.trace.batches import Examples
from parity.trace.chunk import State
from parity.trace.distances import SUM_ROUNDING, loss_distances
from parity.trace.projection import Projector, columns_of
from parity.trace.reader import Trace

__all__ = ["Known", "given_weights", "kept_steps", "recorded_steps", "runs_otherwise"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """Consecutive steps of one side.

    Args:
        first: the number of the first.
        steps: at least one; of those that were not recorded, batch, weights, loss, momentum and parameters alone.
        momentum: before the first; {} where there is none yet.
        whole: whether every stage was recorded.
    """

    first: int
    steps: tuple[StepTrace, ...]
    momentum: Weights
    whole: bool

    @property
    def last(self) -> int:
        """The number of the last."""
        return self.first + len(self.steps) - 1

    def window(self, first: int, count: int) -> Known | None:
        """At most `count` of the steps, from this one on, or from the first; None where there are none."""
        skipped = max(first - self.first, 0)
        steps = self.steps[skipped : skipped + count]
        momentum = _floats(self.steps[skipped - 1].momentum) if 0 < skipped <= len(self.steps) else self.momentum
        return Known(first=self.first + skipped, steps=steps, momentum=momentum, whole=self.whole) if steps else None

    def evidence(self, trace: Trace, side: str, examples: Sequence[Examples], given: Weights | None) -> Evidence:
        """The steps as they are explained.

        Args:
            trace: that they are of.
            side: its name.
            examples: of every step from 0 on, at least up to the last.
            given: the weights that the run was to begin with; None where that is not known.
        """
        due = examples[self.first : self.last + 1]
        ends = np.cumsum([len(each.labels) for each in due])
        own = _floats(self.steps[0].weights)
        return Evidence(
            side=side,
            traces=self.steps,
            rows=tuple(np.split(np.arange(ends[-1], dtype=np.int32), ends[:-1])),
            images=np.concatenate([each.images for each in due]),
            labels=np.concatenate([each.labels for each in due]),
            weights=given if given is not None and self.first == 0 else own,
            momentum=self.momentum,
            sgd=trace.manifest.settings.sgd,
            batch_size=trace.manifest.settings.batch_size,
            first_step=self.first,
        )


def recorded_steps(stages: Sequence[StepTrace], examples: Sequence[Examples]) -> Known | None:
    """The steps whose stages were recorded, up to the first that is not finite; None where there are none."""
    steps = []
    for step, _ in zip(stages, examples, strict=False):  # as far as their inputs are known
        if not all(np.isfinite(value).all() for value in stage_tensors(step).values()):
            break
        steps.append(step)
    return Known(first=0, steps=tuple(steps), momentum={}, whole=True) if steps else None


def kept_steps(trace: Trace, examples: Sequence[Examples], start: Weights | None) -> Known | None:
    """The first steps with a full state before and after each; None where there are none.

    Args:
        trace: whose.
        examples: of every step from 0 on, as far as they are known.
        start: the weights that the side began with; None where they are not known.
    """
    states = dict(trace.full)
    if start is not None:
        states[0] = State(weights=start, momentum={})
    first = min(states, default=0)
    counts = range(first + 1, len(examples) + 1)
    last = next((count - 1 for count in counts if count not in states), len(examples))
    names = list(trace.manifest.tensors)
    steps = [_kept(trace, states, number, examples[number], names) for number in range(first, last)]
    return Known(first=first, steps=tuple(steps), momentum=states[first].momentum, whole=False) if steps else None


def _kept(trace: Trace, states: dict[int, State], number: int, due: Examples, names: Iterable[str]) -> StepTrace:
    before, after = states[number], states[number + 1]
    return StepTrace(
        batch={"images": due.images, "labels": due.labels},
        weights={name: before.weights[name] for name in names},
        activations={},
        logits={},
        loss={"loss": trace.losses[number]},
        gradients={},
        momentum={name: after.momentum[name] for name in trace.manifest.momentum},
        parameters={name: after.weights[name] for name in names},
    )


def given_weights(trace: Trace, sides: Iterable[Sequence[StepTrace]]) -> Weights | None:
    """The weights that the run was to begin with: drawn from its seed, or those with which a side did begin.

    They have the SHA-256 that the manifest holds; None where nothing known has. A nudge is made again.
    """
    manifest = trace.manifest
    known = [initial_weights(manifest.settings.seed), *(_floats(steps[0].weights) for steps in sides if steps)]
    given = next((weights for weights in known if fingerprint(weights) == manifest.weights.sha256), None)
    if given is None or manifest.nudge is None:
        return given
    return nudge(given, seed=manifest.nudge, dtype=manifest.settings.dtype)


def runs_otherwise(trace: Trace, stages: Sequence[StepTrace], side: str) -> Finding | None:
    """Where a side's `run`, which made the trace, is not its `observe`, which made the stages of the same steps."""
    projected = _Projected(trace)
    for number, step in enumerate(stages[: len(trace.losses)]):
        for place, apart, allowed in (*_loss_apart(trace, number, step), *_state_apart(trace, projected, number, step)):
            if not apart <= allowed:
                return Finding(
                    kind="formula",
                    step=number,
                    phase="fast path",
                    place=place,
                    difference=apart,
                    allowed=allowed,
                    local=None,
                    off=(side,),
                    detail=f"run() and observe() are {apart:.1e} apart",
                )
    return None


Apart = tuple[Stage, float, float]
"""A tensor, its relative difference between `run` and `observe`, and what is allowed there."""


def _loss_apart(trace: Trace, number: int, step: StepTrace) -> Iterator[Apart]:
    """The losses, where `observe` gives one number: one for each example is a fault of its own."""
    observed = np.ravel(step.loss.get("loss", ())).astype(np.float64)
    if len(observed) == 1:
        apart = loss_distances(trace.losses[number : number + 1], observed)
        yield Stage(stage="loss", tensor="loss"), float(apart[0]), BOUND


def _state_apart(trace: Trace, projected: _Projected, number: int, step: StepTrace) -> Iterator[Apart]:
    """The parameters: in full where the trace has them so, else by their projections."""
    state, observed = trace.full.get(number + 1), _floats(step.parameters)
    for name in trace.manifest.tensors:
        place = Stage(stage="update", tensor=name)
        if state is not None:
            yield place, relative_difference(state.weights[name], observed[name]), BOUND
        elif number + 1 in trace.counts:
            apart, rounding = projected.distance(name, number + 1, observed[name])
            yield place, apart, BOUND + rounding


class _Projected:
    """A trace's projections, each tensor's read once."""

    def __init__(self, trace: Trace) -> None:
        shapes, self.counts = trace.manifest.tensors, trace.counts
        self.rows = {name: trace.projections(columns) for name, columns in columns_of(shapes).items()}
        self.rounding = {name: trace.rounding(columns) for name, columns in columns_of(shapes).items()}
        self.projectors = {name: Projector({name: shape}) for name, shape in shapes.items()}

    def distance(self, name: str, count: int, value: NDArray[np.floating]) -> tuple[float, float]:
        """How far a tensor is from the one after `count` steps, relative and estimated; and the rounding in that."""
        row, size = int(np.searchsorted(self.counts, count)), frobenius(value) or 1.0
        gap = frobenius(self.rows[name][row] - self.projectors[name]({name: value}))
        return gap / size, float(self.rounding[name][row]) / size + SUM_ROUNDING


def _floats(tensors: object) -> Weights:
    return {name: np.asarray(value, np.float64) for name, value in dict(tensors).items()}  # type: ignore[call-overload]
