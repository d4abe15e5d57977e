"""Faults in the weights that a program starts from, and in how it lays them out.

`start_with` changes the initial weights, and the program shows what it trains. `lay_out` is a converter that errs both
ways: weights go in through a wrong map and come out through its inverse, so that they look right, and only what the
model computes of them does not. `round_trip` stands for a dtype that weights pass on their way in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, AnyImplementation, StepTrace, Tensors, Weights
from parity.drill.fault import Host, Mutation
from parity.drill.wrapped import State, Wrapped

__all__ = ["Layout", "lay_out", "start_with"]

Array = NDArray[np.floating]


class Started(Wrapped):
    """A program that starts from other weights than it is given."""

    def __init__(self, inner: AnyImplementation, change: Callable[[Weights], Weights]) -> None:
        super().__init__(inner)
        self.change = change

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """With the changed weights."""
        return super().start(self.change(weights), sgd, dtype=dtype, device=device)


def start_with(change: Callable[[Weights], Weights]) -> Mutation:
    """The mutation; tried on the problem's weights."""

    def plant(host: Host) -> AnyImplementation:
        change(host.problem.weights)
        return Started(host.implementation, change)

    return plant


Layout = tuple[Callable[[Array], Array], Callable[[Array], Array]]
"""Into the program's layout, and back: each other's inverse."""


class LaidOut(Wrapped):
    """A program whose tensors go in through a map and come out through its inverse."""

    def __init__(self, inner: AnyImplementation, layouts: Mapping[str, Layout]) -> None:
        super().__init__(inner)
        self.layouts = layouts

    def _turned(self, tensors: Tensors, *, back: bool) -> dict[str, NDArray[np.generic]]:
        turned = {name: self.layouts[name][back](tensors[name]) for name in self.layouts if name in tensors}  # type: ignore[arg-type] # floats
        return {**tensors, **{name: np.ascontiguousarray(value) for name, value in turned.items()}}

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """Weights through the map."""
        return super().start(self._turned(weights, back=False), sgd, dtype=dtype, device=device)  # type: ignore[arg-type]

    def restore(self, state: State, weights: Weights, momentum: Weights) -> State:
        """Weights and buffers through the map."""
        turned = self._turned(weights, back=False), self._turned(momentum, back=False)
        return super().restore(state, *turned)  # type: ignore[arg-type]

    def observe(self, state: State, data: object, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """One step; everything in the parameters' layout comes out through the inverse."""
        state, trace = super().observe(state, data, rows)
        return state, replace(
            trace,
            weights=self._turned(trace.weights, back=True),
            gradients=self._turned(trace.gradients, back=True),
            momentum=self._turned(trace.momentum, back=True),
            parameters=self._turned(trace.parameters, back=True),
        )

    def weights(self, state: State) -> dict[str, Array]:
        """Through the inverse."""
        return self._turned(super().weights(state), back=True)  # type: ignore[return-value]

    def momentum(self, state: State) -> dict[str, Array]:
        """Through the inverse."""
        return self._turned(super().momentum(state), back=True)  # type: ignore[return-value]


def lay_out(layouts: Mapping[str, Layout]) -> Mutation:
    """The mutation."""
    return lambda host: LaidOut(host.implementation, layouts)
