"""Which tensor of B each of A's could be, how plausible each choice is, and the most plausible choice of all.

Shapes say what is possible. Names (kind, modules, rank), the order in which tensors are listed, whether both are
trained, and the layout that the other tensors suggest say what is plausible.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from parity.contract import InputError
from parity.matching.activations import Captured
from parity.matching.assignment import assign
from parity.matching.layouts import Layout, Shape, layouts
from parity.matching.mapping import WHOLE, Part, TensorMap
from parity.matching.names import Label, labels, similarity

__all__ = ["Choice", "Options", "Unit", "feasible_layouts", "parse_given"]

_IMPOSSIBLE = 1e6
feasible_layouts = lru_cache(maxsize=None)(layouts)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A tensor of one program, or a part of it, that belongs to exactly one unit of the other's."""

    name: str
    shape: Shape
    part: Part = WHOLE

    def __str__(self) -> str:
        return f"{self.name} {self.shape}" + (f" (part {self.part.index})" if self.part.count > 1 else "")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Unit `a` of A goes to unit `b` of B (their numbers) in this layout; the lower the cost, the more plausible."""

    a: int
    b: int
    layout: Layout = field(compare=False)
    steps: tuple[Shape, Shape]
    cost: float = field(compare=False)

    @property
    def sort(self) -> tuple[int, bool | None, bool]:
        """Where to, whether transposed, and whether a feature map is reordered."""
        return self.b, self.layout.reversed_axes, self.layout.block is not None


@dataclass(frozen=True, kw_only=True)
class Options:
    """The units of both programs and what links them.

    Args:
        a: A's units.
        b: B's units, as many if a mapping exists.
        traces: a step of each program, for the order of use, what is trained, and the shapes of feature maps.
        given: for tensors of A that the user has placed, B's tensors that they may go to.
    """

    a: tuple[Unit, ...]
    b: tuple[Unit, ...]
    traces: tuple[Captured, Captured]
    given: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @cached_property
    def labels(self) -> tuple[dict[str, Label], dict[str, Label]]:
        """Both programs' names, taken apart."""
        return labels({unit.name: unit.shape for unit in self.a}), labels({unit.name: unit.shape for unit in self.b})

    @cached_property
    def feasible(self) -> dict[tuple[int, int], tuple[Layout, ...]]:
        """The layouts of each pair of units that has any."""
        claimed = {target for targets in self.given.values() for target in targets}
        found = {}
        for i, a in enumerate(self.a):
            for j, b in enumerate(self.b):
                allowed = b.name in self.given[a.name] if a.name in self.given else b.name not in claimed
                if allowed and (ways := feasible_layouts(a.shape, b.shape, self._blocks)):
                    found[i, j] = ways
        return found

    @cached_property
    def _blocks(self) -> tuple[tuple[Shape, Shape], ...]:
        """Feature maps that A and B hold with their axes in different orders, but for the samples'."""
        ours, theirs = (_trailing_shapes(trace) for trace in self.traces)
        return tuple((x, y) for x in ours for y in theirs if x != y and sorted(x) == sorted(y))

    @cached_property
    def _order(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where each unit stands among those of its own kind and size, from 0 to 1."""
        ours, theirs = self.labels
        return _positions(self.a, ours, self.traces[0]), _positions(self.b, theirs, self.traces[1])

    @cached_property
    def choices(self) -> dict[int, tuple[Choice, ...]]:
        """Everything that each of A's units could be, the most plausible first."""
        plain = self._choices(modules=None)
        best = {choice.a: choice for choice in self.cheapest(plain)} if self.complete else {}
        return self._choices(modules=self.modules(c for i, c in best.items() if len(self.a[i].shape) > 1))

    def modules(self, chosen: Iterable[Choice]) -> dict[str, frozenset[str]]:
        """For each module of A those of B that these choices lead to."""
        ours, theirs = self.labels
        found: dict[str, frozenset[str]] = {}
        for choice in chosen:
            a, b = ours[self.a[choice.a].name].module, theirs[self.b[choice.b].name].module
            found[a] = found.get(a, frozenset()) | {b}
        return found

    @cached_property
    def plain_choices(self) -> dict[int, tuple[Choice, ...]]:
        """Those of `choices` that keep axes and pieces in order as far as they can."""
        found = {}
        for i, choices in self.choices.items():
            least: dict[tuple[int, bool | None, bool], int] = {}
            for choice in choices:
                least[choice.sort] = min(choice.layout.disorder, least.get(choice.sort, choice.layout.disorder))
            found[i] = tuple(choice for choice in choices if choice.layout.disorder == least[choice.sort])
        return found

    def _choices(self, modules: Mapping[str, frozenset[str]] | None) -> dict[int, tuple[Choice, ...]]:
        found: dict[int, list[Choice]] = {i: [] for i in range(len(self.a))}
        for (i, j), ways in self.feasible.items():
            cost = self._distance(i, j, modules)
            for way in ways:
                total = cost + self._strangeness(i, j, way)
                found[i].append(Choice(a=i, b=j, layout=way, steps=(way.split, way.axes), cost=total))
        return {i: tuple(sorted(choices, key=lambda choice: choice.cost)) for i, choices in found.items()}

    def _distance(self, i: int, j: int, modules: Mapping[str, frozenset[str]] | None) -> float:
        a, b = self.a[i], self.b[j]
        order = float(abs(self._order[0][i] - self._order[1][j]))
        parts = 0.25 * (self._place(0, a) != self._place(1, b)) if a.part.count > 1 or b.part.count > 1 else 0.0
        trained = [unit.name in trace.trace.gradients for unit, trace in zip((a, b), self.traces, strict=True)]
        names: float = similarity(self.labels[0][a.name], self.labels[1][b.name], modules)
        return 8.0 - names + 0.5 * order + 2.0 * (trained[0] != trained[1]) + parts

    def _place(self, side: int, unit: Unit) -> int | None:
        """Which part it is; packed attention has queries, keys and values in this order."""
        if unit.part.count > 1:
            return unit.part.index
        words = self.labels[side][unit.name].words
        return next((index for index, word in enumerate("qkv") if word in words), None)

    def _strangeness(self, i: int, j: int, layout: Layout) -> float:
        """What speaks against a layout, from 0 to about 1; too little to outweigh a name."""
        a, b = self.a[i], self.b[j]
        cost = 0.1 * layout.disorder
        if layout.reversed_axes is not None:
            cost += 0.5 * (layout.reversed_axes != self._mostly_reversed(a.name, b.name))
        if len(layout.axes) == len(a.shape) == len(b.shape) > 2:
            cost += 0.2 * (1 - self._habits[layout.axes])
        reordered = any(way.block for way in self.feasible[i, j])
        return cost + 0.3 * (reordered and layout.block is None)

    def _mostly_reversed(self, a: str, b: str) -> bool:
        """Whether matrices are transposed.

        As those of such names are whose shapes leave no choice (a table of embeddings says nothing of kernels), else as
        all are, else as names suggest.
        """
        own, total = self._votes[_last_word(a), _last_word(b)], self._votes.total()
        if own or total:
            return (own or total) > 0
        return _last_word(a) != _last_word(b)

    @cached_property
    def _votes(self) -> Counter[tuple[str, str]]:
        """For each pair of last words how many more pairs must be transposed than must not."""
        votes: Counter[tuple[str, str]] = Counter()
        for (i, j), ways in self.feasible.items():
            words = _last_word(self.a[i].name), _last_word(self.b[j].name)
            flags = {way.reversed_axes for way in ways}
            votes[words] += (flags == {True}) - (flags == {False})
        return votes

    @cached_property
    def _habits(self) -> Counter[Shape]:
        """How common each transpose is among all pairs, from 0 to 1; where several fit, each counts in part."""
        votes: Counter[Shape] = Counter()
        for ways in self.feasible.values():
            for way in ways:
                votes[way.axes] += 1 / len(ways)  # type: ignore[assignment] # counters may count fractions
        most = max(votes.values(), default=1)
        return Counter({axes: count / most for axes, count in votes.items()})

    def costs(self, choices: Mapping[int, Sequence[Choice]] | None = None) -> NDArray[np.float64]:
        """(A's units, B's units): the cost of each pair's best layout, a million where there is none."""
        matrix = np.full((len(self.a), len(self.b)), _IMPOSSIBLE)
        for found in (self.choices if choices is None else choices).values():
            for choice in found:
                matrix[choice.a, choice.b] = min(matrix[choice.a, choice.b], choice.cost)
        return matrix

    def assignable(self, choices: Mapping[int, Sequence[Choice]]) -> bool:
        """Whether these choices leave every unit of A a place of its own."""
        cost = self.costs(choices)
        return bool((cost[np.arange(len(cost)), assign(cost)] < _IMPOSSIBLE).all())

    def cheapest(self, choices: Mapping[int, Sequence[Choice]]) -> tuple[Choice, ...]:
        """The most plausible choice for all units together, one for each of A's; they must be assignable."""
        columns = assign(self.costs(choices))
        return tuple(next(c for c in choices[i] if c.b == column) for i, column in enumerate(columns))

    @cached_property
    def lonely(self) -> tuple[tuple[Unit, ...], tuple[Unit, ...]]:
        """Units on either side that are left over when as many as possible are paired."""
        cost = self.costs(self._choices(modules=None))
        flip = len(self.a) > len(self.b)
        columns = assign(cost.T if flip else cost)
        pairs = [(int(column), row) if flip else (row, int(column)) for row, column in enumerate(columns)]
        paired = [(i, j) for i, j in pairs if cost[i, j] < _IMPOSSIBLE]
        ours, theirs = {i for i, _ in paired}, {j for _, j in paired}
        left = tuple(unit for i, unit in enumerate(self.a) if i not in ours)
        return left, tuple(unit for j, unit in enumerate(self.b) if j not in theirs)

    @property
    def complete(self) -> bool:
        """Whether every unit of either side can have one of its own on the other."""
        return not any(self.lonely)

    @property
    def implausibility(self) -> float:
        """The cost of the cheapest mapping."""
        return sum(choice.cost for choice in self.cheapest(self.choices))

    def tensor_map(self, choice: Choice) -> TensorMap:
        """The table's entry for a choice."""
        a, b, layout = self.a[choice.a], self.b[choice.b], choice.layout
        return TensorMap(
            source=a.name,
            target=b.name,
            source_shape=a.shape,
            split=layout.split,
            axes=layout.axes,
            shape=b.shape,
            source_part=a.part,
            target_part=b.part,
        )


def _last_word(name: str) -> str:
    return re.split(r"[\W_]+", name)[-1].lower()


def _trailing_shapes(trace: Captured) -> tuple[Shape, ...]:
    """Two or more last axes of activations, the samples' left out: what a program may flatten."""
    shapes = {value.shape for value in trace.trace.activations.values()}
    found = {shape[first:] for shape in shapes for first in range(1, len(shape) - 1)}
    return tuple(sorted(tuple(n for n in shape if n != 1) for shape in found))


def _positions(units: Sequence[Unit], names: Mapping[str, Label], trace: Captured) -> NDArray[np.float64]:
    used = {name: i for i, name in enumerate(trace.trace.gradients)}
    order = sorted(range(len(units)), key=lambda i: (used.get(units[i].name, len(used)), i))
    groups: dict[tuple[str | None, Shape], list[int]] = {}
    for i in order:
        shape = tuple(sorted(n for n in units[i].shape if n != 1))
        groups.setdefault((names[units[i].name].kind, shape), []).append(i)
    places = np.zeros(len(units))
    for group in groups.values():
        places[group] = np.arange(len(group)) / len(group)
    return places


def parse_given(given: Mapping[str, str | Sequence[str]] | Iterable[str]) -> dict[str, frozenset[str]]:
    """The user's own mapping, as a dictionary or as "A=B" strings; "A=B1,B2,B3" for a tensor in several parts.

    Raises:
        InputError: a string without "=".
    """
    if isinstance(given, Mapping):
        return {a: frozenset([b] if isinstance(b, str) else b) for a, b in given.items()}
    found = {}
    for pair in given:
        source, equals, target = pair.partition("=")
        if not (source and equals and target):
            raise InputError("mapping", repr(pair), "it does not say which tensor goes where", "write A_NAME=B_NAME")
        found[source] = frozenset(target.split(","))
    return found
