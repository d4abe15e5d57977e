"""Brings two programs together: the data and the weights that both are given, whether they are the CNN or their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from parity.contract import InputError, SelfContained, Weights, initial_weights
from parity.contract.programs import program_data
from parity.data import Dataset, embedded_set
from parity.matching import Mapped, WeightMapping, match_weights
from parity.problem import Arrays, Problem, cnn_problem
from parity.settings import Settings, Side

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Two sides that take the same tensors, and what they are compared on.

    `data` is one line on the data, `notes` are lines on how the sides were brought together.
    """

    sides: tuple[Side, Side]
    problem: Problem
    data: str
    notes: tuple[str, ...] = ()


def prepare(
    a: Side,
    b: Side,
    *,
    settings: Settings,
    dataset: Dataset | None = None,
    weights: Weights | None = None,
    mapping: Mapping[str, str | Sequence[str]] | Iterable[str] = (),
) -> Prepared:
    """What two programs are compared on.

    Args:
        a: one side.
        b: the other: of the same kind, the CNN or a program with its own data (`parity.contract.SelfContained`).
        dataset: for the CNN; None for the embedded set.
        weights: initial ones for the CNN; None to draw them from the seed.
        mapping: for programs with their own data: which tensor of `b` a tensor of `a` is, where it is known; a dict,
            or "A=B" strings. Everything else is found out (`parity.matching`).
        settings: for the seed.

    Raises:
        InputError: the sides are of two kinds, their tensors cannot be matched, or they bring what is given here.
        SideError: a side's `example` failed.
    """
    own = [isinstance(side.implementation, SelfContained) for side in (a, b)]
    if own[0] != own[1]:
        side, other = (a, b) if own[0] else (b, a)
        problem = f"it brings its own data, {other.name} does not"
        raise InputError("implementation", side.name, problem, "compare two programs of the same kind")
    if own[0]:
        _require_none(a, data=dataset, weights=weights)
        return _own_programs(a, b, mapping)
    _require_none(a, mapping=tuple(mapping) or None, why="it is the CNN, whose tensors are known")
    dataset = dataset or embedded_set()
    start = initial_weights(settings.seed) if weights is None else weights
    return Prepared(sides=(a, b), problem=cnn_problem(dataset, start), data=dataset.origin)


def _require_none(side: Side, *, why: str = "it brings its own", **given: object) -> None:
    for argument, value in given.items():
        if value is not None:
            raise InputError(argument, "given", f"{side.name}: {why}", "leave it out")


def _own_programs(a: Side, b: Side, given: Mapping[str, str | Sequence[str]] | Iterable[str]) -> Prepared:
    """Both on the first side's data, from the first side's weights, under the first side's names."""
    weights, data = _example(a)
    _example(b)
    mapping = match_weights(_Guarded(a), _Guarded(b), mapping=given)
    return Prepared(
        sides=(a, replace(b, implementation=Mapped(b.implementation, mapping))),
        problem=Problem(train=data, test=data, weights=weights),
        data=f"{a.name}'s own, {len(data[0]):,} rows",
        notes=(f"initial weights: {a.name}'s own", *_mapping_notes(mapping)),
    )


def _mapping_notes(mapping: WeightMapping) -> tuple[str, ...]:
    count = len({entry.source for entry in mapping.tensors})
    verdict = "proved by the float64 outputs" if mapping.proved else "the best of those tried: none gives equal outputs"
    lines = [f"  {entry}" for entry in mapping.tensors if not _is_plain(str(entry))]
    return (f"weights: {count} tensors mapped, {verdict}", *lines, *(f"  {note}" for note in mapping.notes))


def _is_plain(line: str) -> bool:
    """Whether an entry only says that a tensor is itself."""
    source, _, target = line.partition(" -> ")
    return source == target


class _Guarded:
    """A side's implementation, whose faults are raised as the side's own."""

    def __init__(self, side: Side) -> None:
        self._side = side

    def __getattr__(self, method: str) -> Any:
        return partial(self._side.call, method)


def _example(side: Side) -> tuple[Weights, Arrays]:
    """What the program brings: at least one tensor, and equally long arrays."""
    answer = side.call("example")
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Mapping)):
        raise side.error("example() did not return tensors by name and a data set")
    weights, data = answer
    if not weights:
        raise side.error("example() returned no tensor: there is nothing to compare")
    return {name: np.asarray(value) for name, value in weights.items()}, program_data(data)
