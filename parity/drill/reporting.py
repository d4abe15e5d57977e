"""Faults that change no parameter: in what a program says of its steps, of its weights, or of its accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.compare import nudge
from parity.contract import SGD, AnyImplementation, StepTrace, Weights
from parity.drill.fault import Host, Mutation
from parity.drill.wrapped import Inapplicable, State, Stepwise, Wrapped, begun

__all__ = [
    "alias_biases",
    "average_evaluated",
    "in_pieces",
    "lose_repeatability",
    "loss_after_update",
    "mean_of_losses",
    "score_with",
    "single_precision",
]

Array = NDArray[np.floating]


class Late(Stepwise):
    """The loss is computed with the weights that the step leaves."""

    def observe(self, state: State, data: Any, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """The next step's loss on the same rows; that step itself is forgotten."""
        after, trace = super().observe(state, data, rows)
        _, late = self.inner.observe(after.inner, data, rows)
        return after, replace(trace, loss=late.loss)


class Cumulative(Stepwise):
    """The loss that is recorded is the mean of all so far."""

    def observe(self, state: State, data: Any, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """One step; the sum of the losses is remembered."""
        after, trace = super().observe(state, data, rows)
        total = state.memory.get("losses", 0.0) + np.asarray(trace.loss["loss"], np.float64)
        mean = np.asarray(total / after.steps, np.asarray(trace.loss["loss"]).dtype)
        return replace(after, memory={"losses": total}), replace(trace, loss={"loss": mean})


class Aliased(Stepwise):
    """Biases share their memory with another program's, which takes the same steps: each update reaches them twice."""

    def observe(self, state: State, data: Any, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """The step from biases that the other program has moved since the last one."""
        weights = self.weights(state)
        moved = {name: weights[name] + update for name, update in state.memory.get("updates", {}).items()}
        state = self.restore(state, {**weights, **moved}, begun(self.momentum(state)))
        after, trace = super().observe(state, data, rows)
        moved = self.weights(after)
        updates = {name: moved[name] - value for name, value in self.weights(state).items() if value.ndim == 1}
        return replace(after, memory={"updates": updates}), trace


class Restless(Stepwise):
    """Sums are added in an order of the moment: each step leaves weights that are off by a unit in the last place."""

    def __init__(self, inner: AnyImplementation) -> None:
        super().__init__(inner)
        self.calls = 0  # that a step depends on how often it was called is what this fault is

    def observe(self, state: State, data: Any, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """The step, and rounding that is another each time."""
        after, trace = super().observe(state, data, rows)
        self.calls += 1
        weights = self.weights(after)
        trained = {name: weights[name] for name in trace.gradients}
        off = nudge(trained, seed=self.calls, dtype=str(np.result_type(*trained.values())))
        after = self.restore(after, {**weights, **off}, begun(self.momentum(after)))
        return after, replace(trace, parameters=self.weights(after))


class Averaging(Stepwise):
    """The evaluation reads a moving average of the weights, with a decay of 0.9."""

    def observe(self, state: State, data: Any, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """One step, and one of the average."""
        average = state.memory.get("average") or self.weights(state)
        after, trace = super().observe(state, data, rows)
        moved = self.weights(after)
        average = {name: 0.9 * value + 0.1 * moved[name] for name, value in average.items()}
        return replace(after, memory={"average": average}), trace

    def logits(self, state: State, data: Any) -> Array:
        """The outputs of the average."""
        average: Weights = state.memory.get("average") or self.weights(state)
        return super().logits(self.restore(state, average, {}), data)


class Narrow(Wrapped):
    """The program computes in float32 where float64 is asked for."""

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:  # noqa: ARG002  the fault
        """In float32."""
        return super().start(weights, sgd, dtype="float32", device=device)


Score = Callable[[Array, NDArray[np.generic]], float]
"""(N, classes) outputs and (N,) labels to the share of predictions that are right, from 0 to 1."""


class Scoring(Wrapped):
    """The program says itself how accurate it is (`parity.contract.Scored`)."""

    def __init__(self, inner: AnyImplementation, score: Score) -> None:
        super().__init__(inner)
        self.score = score

    def place(self, state: State, *arrays: NDArray[np.generic]) -> tuple[Any, NDArray[np.generic]]:
        """The labels are kept beside the set."""
        return super().place(state, *arrays), arrays[-1]

    def run(self, state: State, data: Any, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """The program's own."""
        return super().run(state, data[0], plan)

    def observe(self, state: State, data: Any, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """The program's own."""
        return super().observe(state, data[0], rows)

    def logits(self, state: State, data: Any) -> Array:
        """The program's own."""
        return super().logits(state, data[0])

    def accuracy(self, state: State, data: Any) -> float:
        """What it makes of its outputs."""
        return self.score(self.logits(state, data), data[1])


def loss_after_update(host: Host) -> AnyImplementation:
    """See `Late`."""
    return Late(host.implementation)


def mean_of_losses(host: Host) -> AnyImplementation:
    """See `Cumulative`."""
    return Cumulative(host.implementation)


def alias_biases(host: Host) -> AnyImplementation:
    """See `Aliased`."""
    if not any(value.ndim == 1 for value in host.problem.weights.values()):
        raise Inapplicable("it has no biases")
    return Aliased(host.implementation)


def lose_repeatability(host: Host) -> AnyImplementation:
    """See `Restless`."""
    return Restless(host.implementation)


def average_evaluated(host: Host) -> AnyImplementation:
    """See `Averaging`."""
    return Averaging(host.implementation)


def single_precision(host: Host) -> AnyImplementation:
    """See `Narrow`."""
    return Narrow(host.implementation)


def in_pieces(host: Host) -> AnyImplementation:
    """Every run is taken step by step, by `observe`."""
    return Stepwise(host.implementation)


def score_with(score: Score) -> Mutation:
    """See `Scoring`."""
    return lambda host: Scoring(host.implementation, score)
