"""Faults on the way from the data set to the model: which pixels, which labels, which rows.

`Replaced` changes the whole set when it is placed, `Fed` the examples of each step, `Ordered` which rows each step
sees. They work on any program, by the methods of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import AnyImplementation, StepTrace
from parity.drill.fault import Host, Mutation
from parity.drill.wrapped import State, Stepwise, Wrapped
from parity.problem import Arrays

__all__ = ["Order", "feed", "reorder", "replace_data"]

Batch = NDArray[np.int32]


class Replaced(Wrapped):
    """A program whose data sets are changed before they are placed, row by row."""

    def __init__(self, inner: AnyImplementation, change: Callable[[Arrays], Arrays]) -> None:
        super().__init__(inner)
        self.change = change

    def place(self, state: State, *arrays: NDArray[np.generic]) -> Any:
        """The changed set."""
        return self.inner.place(state.inner, *self.change(arrays))


def replace_data(change: Callable[[Arrays], Arrays]) -> Mutation:
    """The mutation; it is tried on the problem's data, so that a change that does not fit is known at once."""

    def plant(host: Host) -> AnyImplementation:
        change(host.problem.train)
        return Replaced(host.implementation, change)

    return plant


@dataclass(frozen=True, kw_only=True, eq=False)
class Resident:
    """A set on the device, and as it came."""

    placed: Any
    arrays: Arrays


Feeding = Callable[[Arrays, int], Arrays]
"""The examples of a step, and its number, to the examples that the model is fed."""


class Fed(Stepwise):
    """A program whose steps are fed other examples than the rows name."""

    def __init__(self, inner: AnyImplementation, change: Feeding) -> None:
        super().__init__(inner)
        self.change = change

    def place(self, state: State, *arrays: NDArray[np.generic]) -> Resident:
        """The set as it is; for the evaluation nothing changes."""
        return Resident(placed=self.inner.place(state.inner, *arrays), arrays=arrays)

    def observe(self, state: State, data: Resident, rows: Batch) -> tuple[State, StepTrace]:
        """One step on what `change` makes of its examples."""
        fed = self.change(tuple(array[rows] for array in data.arrays), state.steps)
        placed = self.inner.place(state.inner, *(np.ascontiguousarray(array) for array in fed))
        return super().observe(state, placed, np.arange(len(fed[0]), dtype=np.int32))

    def logits(self, state: State, data: Resident) -> NDArray[np.floating]:
        """The outputs for the set as it is."""
        return super().logits(state, data.placed)


def feed(change: Feeding) -> Mutation:
    """The mutation; tried on the first step's examples."""

    def plant(host: Host) -> AnyImplementation:
        change(tuple(array[host.batches[0]] for array in host.problem.train), 0)
        return Fed(host.implementation, change)

    return plant


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """What a loader knows: the rows of each step, epochs' lengths, and the set's, the seed."""

    batches: Sequence[Batch]
    steps_per_epoch: int
    size: int
    batch_size: int
    seed: int


Choice = tuple[Batch, Batch]
"""The rows of the inputs (the first array), and those of all other arrays."""


class Ordered(Stepwise):
    """A program with a loader of its own, which sees other rows of the set than it is told.

    It is told of the rows that the check needs, renumbered; so it keeps the set itself. Data that are not the set's, a
    probe's for example, are fed as they are.
    """

    def __init__(self, host: Host, choose: Callable[[Order, int], Choice]) -> None:
        super().__init__(host.implementation)
        self.train, self.choose = host.problem.train, choose
        self.order = Order(
            batches=host.batches,
            steps_per_epoch=host.steps_per_epoch,
            size=host.problem.size,
            batch_size=host.settings.batch_size,
            seed=host.settings.seed,
        )

    def place(self, state: State, *arrays: NDArray[np.generic]) -> Resident:
        """The set as it is told."""
        return Resident(placed=self.inner.place(state.inner, *arrays), arrays=arrays)

    def observe(self, state: State, data: Resident, rows: Batch) -> tuple[State, StepTrace]:
        """One step on the rows that its own loader chooses."""
        told = sum(len(batch) for batch in self.order.batches)
        if len(data.arrays[0]) != told or state.steps >= len(self.order.batches):
            return super().observe(state, data.placed, rows)
        inputs, others = self.choose(self.order, state.steps)
        chosen = (self.train[0][inputs], *(array[others] for array in self.train[1:]))
        placed = self.inner.place(state.inner, *chosen)
        return super().observe(state, placed, np.arange(len(inputs), dtype=np.int32))

    def logits(self, state: State, data: Resident) -> NDArray[np.floating]:
        """The outputs, in order."""
        return super().logits(state, data.placed)


def reorder(choose: Callable[[Order, int], Choice]) -> Mutation:
    """The mutation."""
    return lambda host: Ordered(host, choose)
