"""Faults in the optimizer.

`configure` gives the program's own optimizer other hyper-parameters; it works on the program's fast path too.
`optimize` takes the gradients out of an observed step, applies an optimizer of its own, in NumPy, and puts the result
back. `outcome` changes what a step leaves, and so works on programs whose optimizer is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, AnyImplementation, StepTrace, Tensors, Weights
from parity.drill.fault import Mutation
from parity.drill.wrapped import State, Stepwise, Wrapped, begun
from parity.oracle.sgd import clip_gradients, sgd_update

__all__ = ["Left", "Rule", "Tensor", "Turn", "clipped", "configure", "double", "optimize", "outcome", "sgd_rule"]

Array = NDArray[np.float64]
Arrays = dict[str, Array]


class Configured(Wrapped):
    """A program whose optimizer has other hyper-parameters than it was given."""

    def __init__(self, inner: AnyImplementation, change: Callable[[SGD], SGD]) -> None:
        super().__init__(inner)
        self.change = change

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """With the changed hyper-parameters."""
        return super().start(weights, self.change(sgd), dtype=dtype, device=device)


def configure(**changes: Any) -> Mutation:
    """The mutation: these fields of `SGD` are others."""
    return lambda host: Configured(host.implementation, lambda sgd: replace(sgd, **changes))


@dataclass(frozen=True, kw_only=True, eq=False)
class Turn:
    """One step of an optimizer: its number, the hyper-parameters, the weights before it, and what it may remember.

    `memory` is the step's own copy, and may be written to; the next step finds it.
    """

    number: int
    sgd: SGD
    weights: Arrays
    memory: dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """One parameter in one step: its value, gradient, buffer (None before the first step) and initial value."""

    name: str
    value: Array
    gradient: Array
    buffer: Array | None
    start: Array


Gradients = Callable[[Arrays, Turn], Arrays]
"""All gradients, to those that the optimizer is given; they are recorded as the step's own."""

Rule = Callable[[Tensor, Turn], tuple[Array, Array | None]]
"""A parameter's new value and buffer."""


def sgd_rule(tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """The oracle's rule, as `parity.contract.SGD` words it."""
    return sgd_update(tensor.value, tensor.gradient, tensor.buffer, turn.sgd, turn.number)


def clipped(gradients: Arrays, turn: Turn) -> Arrays:
    """The oracle's clipping."""
    return clip_gradients(gradients, turn.sgd)


class Optimized(Stepwise):
    """A program that trains with another optimizer, in float64."""

    def __init__(self, inner: AnyImplementation, gradients: Gradients, rule: Rule) -> None:
        super().__init__(inner)
        self.gradients, self.rule = gradients, rule

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """The initial weights are remembered; the program's own optimizer, which does not count, has a plain task."""
        plain = replace(sgd, schedule=None, clip_norm=None, clip_value=None, decay_biases=True)
        state = super().start(weights, plain, dtype=dtype, device=device)
        return replace(state, sgd=sgd, memory={"start": double(self.weights(state))})

    def observe(self, state: State, data: Any, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """The program's forward and backward pass, the other update."""
        buffers = double(begun(self.momentum(state)))
        after, trace = super().observe(state, data, rows)
        weights = double(trace.weights)
        turn = Turn(number=state.steps, sgd=state.sgd, weights=weights, memory=dict(state.memory))
        gradients = self.gradients(double(trace.gradients), turn)
        moved, kept = {}, {}
        for name, value in weights.items():
            tensor = Tensor(
                name=name,
                value=value,
                gradient=gradients[name],
                buffer=buffers.get(name),
                start=state.memory["start"][name],
            )
            moved[name], buffer = self.rule(tensor, turn)
            if buffer is not None:
                kept[name] = buffer
        after = replace(self.restore(after, moved, kept), memory=turn.memory)
        recorded = {name: gradients[name].astype(value.dtype) for name, value in trace.gradients.items()}
        return after, replace(trace, gradients=recorded, momentum=self.momentum(after), parameters=self.weights(after))


def optimize(rule: Rule = sgd_rule, *, gradients: Gradients = clipped) -> Mutation:
    """The mutation: other gradients reach the optimizer, or another rule does."""
    return lambda host: Optimized(host.implementation, gradients, rule)


@dataclass(frozen=True, kw_only=True, eq=False)
class Left:
    """What a step found and left: trained weights and the optimizer's tensors, by name; `number` counts from 0."""

    number: int
    weights: Arrays
    momentum: Arrays
    moved: Arrays
    kept: Arrays


Outcome = Callable[[Left], tuple[Arrays, Arrays]]
"""The weights and the optimizer's tensors that the step leaves instead."""


class Altered(Stepwise):
    """A program whose steps leave something else."""

    def __init__(self, inner: AnyImplementation, change: Outcome) -> None:
        super().__init__(inner)
        self.change = change

    def observe(self, state: State, data: Any, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """The program's own step, and then the change."""
        momentum = double(self.momentum(state))
        after, trace = super().observe(state, data, rows)
        moved = double(self.weights(after))
        left = Left(
            number=state.steps,
            weights=double({name: trace.weights[name] for name in trace.gradients}),
            momentum=momentum,
            moved={name: moved[name] for name in trace.gradients},
            kept=double(self.momentum(after)),
        )
        weights, momentum = self.change(left)
        after = self.restore(after, {**moved, **weights}, begun(momentum))
        return after, replace(trace, momentum=self.momentum(after), parameters=self.weights(after))


def outcome(change: Outcome) -> Mutation:
    """The mutation."""
    return lambda host: Altered(host.implementation, change)


def double(tensors: Tensors) -> Arrays:
    """Arrays by name, in float64."""
    return {name: np.asarray(value, np.float64) for name, value in tensors.items()}
