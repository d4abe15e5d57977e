"""Which tensors have to be divided because one program keeps in one what the other keeps in several.

torch's attention has one matrix for queries, keys and values, flax has three; LSTMs have four of everything. What is
left over when whole tensors are paired says how large the parts must be. Where other tensors happen to be of the same
size, modules of one name are divided together, the most plausible ones first.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import prod

from parity.contract import InputError
from parity.matching.mapping import Part
from parity.matching.options import Options, Unit, feasible_layouts

__all__ = ["divisions"]

_COUNTS = (3, 2, 4)
_FAMILIES = 5  # kinds of tensors that may be divided; of more, the first are tried
_TRIED = 4


def divisions(options: Options) -> list[Options]:
    """The ways to divide tensors so that each part has a place, the most plausible first; none is divided if possible.

    Raises:
        InputError: a tensor has no partner, whole or in 2, 3 or 4 equal parts.
    """
    if options.complete:
        return [options]
    found = {(each.a, each.b): each for count in _COUNTS for each in _divided(options, count)}
    if not found:
        raise _partnerless(options)
    return sorted(found.values(), key=lambda each: each.implausibility / len(each.a))[:_TRIED]


def _divided(options: Options, count: int) -> Iterator[Options]:
    groups = [_groups(options, side, count) for side in (0, 1)]
    for ours, theirs in itertools.product(*groups):
        a = _split(options.a, ours, count, options.b)
        b = _split(options.b, theirs, count, options.a)
        if len(a) == len(b) and (divided := replace(options, a=a, b=b)).complete:
            yield divided


def _groups(options: Options, side: int, count: int) -> list[list[Unit]]:
    """Sets of units that may have to be divided: those of the sizes in question, by the modules that they are in."""
    units, names = (options.a, options.b)[side], options.labels[side]
    lonely, others = options.lonely[side], options.lonely[1 - side]
    sizes = {prod(unit.shape) for unit in lonely} | {count * prod(unit.shape) for unit in others}
    suspects = [unit for unit in units if unit.shape and prod(unit.shape) in sizes]
    families: dict[tuple[str, int], list[Unit]] = {}
    for unit in suspects:
        # A module's merged matrix and vector have their rows in common, and are divided together.
        families.setdefault((names[unit.name].pattern, unit.shape[0]), []).append(unit)
    kinds = list(families.values())[:_FAMILIES]
    subsets = itertools.chain.from_iterable(itertools.combinations(kinds, n) for n in range(len(kinds) + 1))
    return [[unit for family in subset for unit in family] for subset in subsets]


def _split(units: Iterable[Unit], group: Sequence[Unit], count: int, others: Sequence[Unit]) -> tuple[Unit, ...]:
    """Divide those of `group` whose parts could be one of `others`, along the first axis where they could."""
    found: list[Unit] = []
    for unit in units:
        axis = _axis(unit, count, others) if unit in group else None
        if axis is None:
            found.append(unit)
            continue
        parts = [Part(axis=axis, index=index, count=count) for index in range(count)]
        found += [Unit(name=unit.name, shape=part.shape_of(unit.shape), part=part) for part in parts]
    return tuple(found)


def _axis(unit: Unit, count: int, others: Sequence[Unit]) -> int | None:
    """Where a unit can be divided: along an axis that counts the parts, if there is one, or along another."""
    axes = [axis for axis, length in enumerate(unit.shape) if length % count == 0]
    for axis in sorted(axes, key=lambda axis: unit.shape[axis] != count):
        shape = Part(axis=axis, count=count).shape_of(unit.shape)
        if any(feasible_layouts(shape, other.shape) for other in others):
            return axis
    return None


def _partnerless(options: Options) -> InputError:
    ours, theirs = (", ".join(str(unit) for unit in units) for units in options.lonely)
    sentences = [f"{found} of {side} has no partner" for found, side in ((ours, "A"), (theirs, "B")) if found]
    return InputError(
        "mapping", "A -> B", "; ".join(sentences), "compare two programs of the same model, or of the same sizes"
    )
