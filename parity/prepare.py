"""Brings two programs together: the data and the weights that both are given, whether they are the CNN or their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from parity.contract import InputError, SelfContained, Weights, initial_weights
from parity.contract.programs import program_data
from parity.data import Dataset, embedded_set
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
    a: Side, b: Side, *, dataset: Dataset | None = None, weights: Weights | None = None, settings: Settings
) -> Prepared:
    """What two programs are compared on.

    Args:
        a: one side.
        b: the other: of the same kind, the CNN or a program with its own data (`parity.contract.SelfContained`).
        dataset: for the CNN; None for the embedded set.
        weights: initial ones for the CNN; None to draw them from the seed.
        settings: for the seed.

    Raises:
        InputError: the sides are of two kinds, have different tensors, or bring what is given here as well.
        SideError: a side's `example` failed.
    """
    own = [isinstance(side.implementation, SelfContained) for side in (a, b)]
    if own[0] != own[1]:
        side, other = (a, b) if own[0] else (b, a)
        problem = f"it brings its own data, {other.name} does not"
        raise InputError("implementation", side.name, problem, "compare two programs of the same kind")
    if own[0]:
        _require_none(a, dataset=dataset, weights=weights)
        return _own_programs(a, b)
    dataset = dataset or embedded_set()
    start = initial_weights(settings.seed) if weights is None else weights
    return Prepared(sides=(a, b), problem=cnn_problem(dataset, start), data=dataset.origin)


def _require_none(side: Side, **given: object) -> None:
    for argument, value in given.items():
        if value is not None:
            raise InputError(argument, "given", f"{side.name} brings its own", "leave it out")


def _own_programs(a: Side, b: Side) -> Prepared:
    """Both on the first side's data, from the first side's weights; the tensors must have the same names."""
    (weights, data), (others, _) = _example(a), _example(b)
    for tensor in dict.fromkeys([*weights, *others]):
        mine, other = (tensors[tensor].shape if tensor in tensors else "missing" for tensors in (weights, others))
        if mine != other:
            problem = f"tensor {tensor} is {mine} in {a.name} and {other} in {b.name}"
            raise InputError("implementation", b.name, problem, "give the same tensors the same names and layout")
    return Prepared(
        sides=(a, b),
        problem=Problem(train=data, test=data, weights=weights),
        data=f"{a.name}'s own, {len(data[0]):,} rows",
        notes=(f"weights and data: {a.name}'s own",),
    )


def _example(side: Side) -> tuple[Weights, Arrays]:
    """What the program brings: at least one tensor, and equally long arrays."""
    answer = side.call("example")
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Mapping)):
        raise side.error("example() did not return tensors by name and a data set")
    weights, data = answer
    if not weights:
        raise side.error("example() returned no tensor: there is nothing to compare")
    return {name: np.asarray(value) for name, value in weights.items()}, program_data(data)
