"""The oracle with one tensor of one step moved by a relative 1e-10: a program whose fault is known to the element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import CNN_PARAMETERS, SGD, StepTrace, Stream, Weights
from parity.oracle import Operations, Oracle, layers
from parity.oracle.layers import Array
from parity.oracle.sgd import sgd_update

__all__ = ["RELATIVE", "STAGES", "Fault", "Perturbed"]

RELATIVE = 1e-10

STAGES = ("gradients", "momentum", "update")
"""What can be perturbed; a parameter after the step shows in the update."""

_NOISE = 7  # keeps this random stream apart from other streams of the same seed


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A change of one tensor.

    Args:
        stage: one of `STAGES`.
        tensor: a parameter's name.
        step: in which it happens, from 0.
        noise: seed of a random direction that the tensor is moved in; None to scale it.
    """

    stage: str
    tensor: str
    step: int
    noise: int | None

    def move(self, value: Array) -> Array:
        """The tensor, moved by `RELATIVE` of its Frobenius norm."""
        if self.noise is None:
            return value * (1 + RELATIVE)
        direction = Stream(self.noise, _NOISE).uniform(value.size).reshape(value.shape) - 0.5
        return value + RELATIVE * np.linalg.norm(value) / np.linalg.norm(direction) * direction

    def operations(self) -> Operations:
        """The oracle's, with this fault; a tensor is known by its shape, which no two share."""
        if self.stage == "gradients":
            layer = self.tensor.partition(".")[0]
            name = "conv2d_backward" if layer.startswith("conv") else "linear_backward"
            return replace(Operations(), **{name: self._backward(getattr(layers, name), layer)})
        return Operations(sgd_update=self._update)

    def _backward(self, honest: Callable[..., tuple[Array, Array, Array]], layer: str) -> Callable[..., Any]:
        shape, position = CNN_PARAMETERS[f"{layer}.weight"], 1 if self.tensor.endswith("weight") else 2

        def backward(upstream: Array, x: Array, weight: Array) -> tuple[Array, ...]:
            gradients = list(honest(upstream, x, weight))
            if weight.shape == shape:
                gradients[position] = self.move(gradients[position])
            return tuple(gradients)

        return backward

    def _update(
        self, parameter: Array, gradient: Array, buffer: Array | None, sgd: SGD, step: int
    ) -> tuple[Array, Array | None]:
        moved, after = sgd_update(parameter, gradient, buffer, sgd, step)
        if parameter.shape != CNN_PARAMETERS[self.tensor]:
            return moved, after
        if self.stage == "update":
            return self.move(moved), after
        return moved, None if after is None else self.move(after)


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """The oracle's, and the number of steps that led to it."""

    steps: int
    inner: Any


@dataclass(frozen=True)
class Perturbed:
    """An Implementation: the oracle but for one step, in `run` as in `observe`."""

    fault: Fault

    def _at(self, step: int) -> Oracle:
        return Oracle(operations=self.fault.operations()) if step == self.fault.step else Oracle()

    def devices(self) -> tuple[str, ...]:
        """See `parity.contract.Implementation`; so for all methods."""
        return Oracle().devices()

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """Before step 0."""
        return State(steps=0, inner=Oracle().start(weights, sgd, dtype=dtype, device=device))

    def describe(self, state: State) -> str:
        """The oracle's line, and the fault."""
        return f"{Oracle().describe(state.inner)}, {self.fault}"

    def restore(self, state: State, weights: Weights, momentum: Weights) -> State:
        """Other tensors; the number of steps stays."""
        return replace(state, inner=Oracle().restore(state.inner, weights, momentum))

    def place(self, state: State, *arrays: NDArray[np.generic]) -> Any:
        """As the oracle does."""
        return Oracle().place(state.inner, *arrays)

    def run(self, state: State, data: Any, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Step by step."""
        losses = []
        for rows in plan:
            after, loss = self._at(state.steps).run(state.inner, data, rows[np.newaxis])
            state = State(steps=state.steps + 1, inner=after)
            losses.append(loss)
        return state, np.concatenate([np.empty(0), *losses])

    def observe(self, state: State, data: Any, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """One step of `run`, recorded."""
        after, trace = self._at(state.steps).observe(state.inner, data, rows)
        return State(steps=state.steps + 1, inner=after), trace

    def logits(self, state: State, data: Any) -> NDArray[np.floating]:
        """As the oracle does."""
        return Oracle().logits(state.inner, data)

    def weights(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies."""
        return Oracle().weights(state.inner)

    def momentum(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies."""
        return Oracle().momentum(state.inner)
