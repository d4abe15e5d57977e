"""B under A's names and in A's layout, so that everything that compares two sides can compare these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, AnyImplementation, StepTrace, Tensors, Weights
from parity.matching.mapping import WeightMapping

__all__ = ["Mapped"]

Array = NDArray[Any]


class Mapped:
    """An implementation seen through a mapping: tensors go in and come out as A's.

    Activations, outputs and losses are B's own; inputs are turned into B's layout where the mapping says so. A B that
    trains ensembles, or brings its own data, does so here too: `run_many` and `example` exist where B has them.

    Args:
        implementation: B.
        mapping: A's tensors to B's.
    """

    def __init__(self, implementation: AnyImplementation, mapping: WeightMapping) -> None:
        self.implementation, self.mapping = implementation, mapping
        self.devices = implementation.devices
        self.describe = implementation.describe
        self.run = implementation.run
        self.logits = implementation.logits
        if hasattr(implementation, "run_many"):
            self.run_many = implementation.run_many
        if hasattr(implementation, "example"):
            self.example = self._example

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> Any:
        """As `Implementation.start`, from A's tensors."""
        return self.implementation.start(self.mapping.to_target(weights), sgd, dtype=dtype, device=device)

    def restore(self, state: Any, weights: Weights, momentum: Weights) -> Any:
        """As `Implementation.restore`, from A's tensors."""
        return self.implementation.restore(
            state, self.mapping.to_target(weights), self._slots(momentum, to_target=True)
        )

    def place(self, state: Any, *arrays: NDArray[np.generic]) -> Any:
        """As `Implementation.place`, from A's arrays."""
        return self.implementation.place(state, *self._arrays(arrays))

    def observe(self, state: Any, data: Any, rows: NDArray[np.int32]) -> tuple[Any, StepTrace]:
        """As `Implementation.observe`; weights, gradients, momentum and inputs are A's, activations B's own."""
        state, trace = self.implementation.observe(state, data, rows)
        return state, replace(
            trace,
            batch=self._batch(trace.batch),
            weights=self.mapping.to_source(trace.weights),
            gradients=self.mapping.to_source(trace.gradients),
            momentum=self._slots(trace.momentum, to_target=False),
            parameters=self.mapping.to_source(trace.parameters),
        )

    def weights(self, state: Any) -> dict[str, NDArray[np.floating]]:
        """B's parameters as A's."""
        return self.mapping.to_source(self.implementation.weights(state))

    def momentum(self, state: Any) -> dict[str, NDArray[np.floating]]:
        """B's optimizer tensors under the names of A's parameters."""
        return self._slots(self.implementation.momentum(state), to_target=False)

    def _example(self) -> tuple[Weights, tuple[NDArray[np.generic], ...]]:
        weights, arrays = self.implementation.example()  # type: ignore[attr-defined] # set only where it exists
        return self.mapping.to_source(weights), self._arrays(arrays, back=True)

    def _arrays(self, arrays: Sequence[Array], *, back: bool = False) -> tuple[Array, ...]:
        axes = self.mapping.inputs or (None,) * len(arrays)
        pairs = zip(arrays, axes, strict=True)
        return tuple(array if order is None else _turned(array, order, back=back) for array, order in pairs)

    def _batch(self, batch: Tensors) -> Tensors:
        """The inputs by number; what the mapping does not turn stays as it is."""
        axes = {str(number): order for number, order in enumerate(self.mapping.inputs) if order is not None}
        turned = {name: _turned(value, axes[name], back=True) for name, value in batch.items() if name in axes}
        return {**batch, **turned}

    def _slots(self, momentum: Tensors, *, to_target: bool) -> dict[str, Array]:
        """Optimizer tensors follow their parameter, "<parameter>:2" like "<parameter>".

        Those of another shape than their parameter's, a count of steps for example, have no layout to change, and those
        that belong to no parameter keep their name.
        """
        move = self.mapping.to_target if to_target else self.mapping.to_source
        shapes = self._shapes(to_target=to_target)
        groups: dict[str, dict[str, Array]] = {}
        found: dict[str, Array] = {}
        for name, value in momentum.items():
            parameter, slot = _slot(name)
            if shapes.get(parameter) == value.shape:
                groups.setdefault(slot, {})[parameter] = value
            else:
                found |= {f"{new}{slot}": np.array(value) for new in self._renamed(parameter, to_target=to_target)}
        for slot, tensors in groups.items():
            found |= {f"{name}{slot}": value for name, value in move(tensors).items()}
        return found

    def _shapes(self, *, to_target: bool) -> dict[str, tuple[int, ...]]:
        entries = self.mapping.tensors
        if to_target:
            return {entry.source: entry.source_part.whole(entry.source_shape) for entry in entries}
        return {entry.target: entry.target_part.whole(entry.shape) for entry in entries}

    def _renamed(self, parameter: str, *, to_target: bool) -> list[str]:
        pairs = [(entry.source, entry.target) for entry in self.mapping.tensors]
        found = [(y if to_target else x) for x, y in pairs if parameter == (x if to_target else y)]
        return found or [parameter]


def _turned(array: Array, axes: tuple[int, ...], *, back: bool) -> Array:
    order = np.argsort(axes) if back else axes
    return np.ascontiguousarray(array.transpose(order))


def _slot(name: str) -> tuple[str, str]:
    """An optimizer tensor's name as its parameter's and what follows: "fc1.bias:2" -> ("fc1.bias", ":2")."""
    parameter, colon, number = name.rpartition(":")
    return (parameter, colon + number) if colon and number.isdigit() else (name, "")
