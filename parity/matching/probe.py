"""One program on one batch in float64, started again and again with other weights to see what it makes of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from parity.compare import BOUND, relative_difference
from parity.contract import SGD, AnyImplementation, SelfContained, Stream, Tensors
from parity.matching.activations import Captured
from parity.matching.options import Unit
from parity.matching.signatures import same, signature

__all__ = ["Budget", "ExhaustedError", "Probe", "Program", "distinct", "nudged"]

Array = NDArray[Any]
_PURPOSE = 11  # keeps this stream of random numbers apart from the others


class Program(AnyImplementation, SelfContained, Protocol):
    """An implementation that brings its own weights and data."""


class ExhaustedError(Exception):
    """The search has used up its steps. Never leaves `match_weights`."""


class Budget:
    """Counts training steps, and ends the search when there have been `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit, self.spent = limit, 0

    def lift(self) -> None:
        """Count on, without a limit."""
        self.limit = sys.maxsize

    def spend(self) -> None:
        """One step more, or `ExhaustedError`."""
        if self.spent >= self.limit:
            raise ExhaustedError
        self.spent += 1


class Probe:
    """A program with the first rows of a data set.

    Args:
        program: the side.
        weights: any that it accepts.
        arrays: the rows of the batch, in this program's layout.
        budget: shared with the other side.
    """

    def __init__(self, program: Program, weights: Tensors, arrays: Sequence[Array], budget: Budget) -> None:
        self.program, self.budget = program, budget
        devices = program.devices()
        self.device = "cpu" if "cpu" in devices else devices[0]
        self.rows = np.arange(len(arrays[0]), dtype=np.int32)
        self.state = program.start(as_float64(weights), SGD(), dtype="float64", device=self.device)
        self.momentum = program.momentum(self.state)
        self.data = program.place(self.state, *arrays)

    def _start(self, weights: Tensors) -> Any:
        # Cheaper than `start`, which may compile.
        return self.program.restore(self.state, as_float64(weights), self.momentum)

    def observe(self, weights: Tensors) -> Captured:
        """One training step from these weights.

        Wrong weights may overflow on the way; that is no warning to the user.
        """
        self.budget.spend()
        with np.errstate(all="ignore"):
            return Captured(self.program.observe(self._start(weights), self.data, self.rows)[1])

    def outputs(self, weights: Tensors) -> Array:
        """The outputs in evaluation, from these weights."""
        self.budget.spend()
        with np.errstate(all="ignore"):
            return self.program.logits(self._start(weights), self.data)

    def reach(self, weights: Tensors, base: Captured, units: Iterable[Unit]) -> frozenset[str]:
        """The activations that any of these units takes part in: those that change with it."""
        changed = self.observe(nudged(weights, units))
        return frozenset(
            name for name in base.names if not _equal(base.trace.activations[name], changed.trace.activations[name])
        )


def _equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and relative_difference(a, b) <= BOUND


def nudged(weights: Tensors, units: Iterable[Unit]) -> dict[str, Array]:
    """The weights with every element of some units made larger, by random amounts of about a tenth of its size."""
    found = dict(weights)
    for unit in units:
        found[unit.name] = found[unit.name].copy()
        part = unit.part.of(found[unit.name])
        part += _noise(part, 0)
    return found


def _noise(value: Array, purpose: int) -> Array:
    """Positive, so that variances stay positive."""
    size = float(np.sqrt(np.mean(np.square(value)))) if value.size else 0.0
    uniform = Stream(0, _PURPOSE, purpose).uniform(value.size).reshape(value.shape)
    noise: Array = (0.1 * (size or 1.0) * uniform).astype(value.dtype)
    return noise


def distinct(weights: Tensors) -> dict[str, Array]:
    """The weights in float64, with random amounts added to tensors that could be mistaken for others.

    New biases are all zero and new scales all one: any mapping between those would do, and only after some training
    would the wrong one show.
    """
    known = as_float64(weights)
    names = list(known)
    found: dict[str, Array] = {}
    for number, (name, value) in enumerate(known.items()):
        double = _repeats(value) or any(_alike(value, known[other]) for other in names[:number])
        found[name] = value + _noise(value, number + 1) if double else value
    return found


def _repeats(value: Array) -> bool:
    """Half of the values at most are different, judged by some of them: to sort millions would take its time."""
    sample = value.ravel()[:: max(1, value.size // 1000)]
    return 2 * len(np.unique(sample)) <= sample.size


def _alike(a: Array, b: Array) -> bool:
    return a.size == b.size and bool(np.isclose(a.sum(), b.sum())) and same(signature(a), signature(b))


def fill(weights: Tensors, units: Sequence[Unit], value: float) -> dict[str, Array]:
    """The weights with some units set to one number throughout."""
    filled: dict[str, Array] = {}
    for unit in units:
        tensor = filled.setdefault(unit.name, weights[unit.name].copy())
        unit.part.of(tensor)[...] = value
    return {**weights, **filled}


def as_float64(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Copies in float64."""
    return {name: value.astype(np.float64) for name, value in weights.items()}
