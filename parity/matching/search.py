"""Finds, by elimination, the mapping under which B's forward pass agrees with A's.

It starts from the most plausible mapping. While the forward passes part somewhere, only tensors that are used there can
be to blame, so it tries what else those could be, keeps what moves the break further, and goes back where nothing does:

    1. the tensors that enter between the last activations that match and the first that does not;
    2. with them the next to enter, because B may fuse what A does in two steps;
    3. those before: queries and keys of equal shape fit in either place until their product is taken.

Which activations a tensor takes part in is found by changing it and seeing which of them change.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from parity.contract import Tensors
from parity.matching.activations import Captured, Comparison
from parity.matching.layouts import Shape
from parity.matching.mapping import WeightMapping
from parity.matching.options import Choice, Options, Unit
from parity.matching.probe import ExhaustedError, Probe

__all__ = ["Attempt", "Search", "Usage"]

_COMBINATIONS = 24  # tried at one break, the most plausible first
_SLACK = 2  # by how many the numbers of tensors used before may differ: fused layers use theirs at once

Chosen = tuple[Choice, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Attempt:
    """A mapping, tried: B's step under it against A's."""

    chosen: Chosen
    comparison: Comparison

    @property
    def agrees(self) -> bool:
        """B's outputs are A's."""
        return self.comparison.outputs_agree

    @cached_property
    def progress(self) -> tuple[int, float]:
        """Larger is better: A's activations that the mapping accounts for, then plausibility."""
        settled = len(self.comparison.a.behind_outputs) - len(self.comparison.unsettled)
        return settled, -sum(choice.cost for choice in self.chosen)


class Usage:
    """Where in one program's forward pass each unit is used.

    Args:
        captured: the step of reference.
        reach: for each unit, the activations that change with it.
    """

    def __init__(self, captured: Captured, reach: Sequence[frozenset[str]]) -> None:
        self.captured = captured
        self.entries = [self._entries(changed - captured.given) for changed in reach]
        self.first = [min(map(captured.names.index, names), default=len(captured.names)) for names in self.entries]
        sources = [{parent for name in names for parent in captured.parents[name]} for names in self.entries]
        # A unit is used before another if it changes what that one is applied to.
        self.before = [
            frozenset(j for j, changed in enumerate(reach) if j != i and changed & (sources[i] - captured.given))
            for i in range(len(reach))
        ]

    def _entries(self, changed: frozenset[str]) -> frozenset[str]:
        """The activations that it enters itself: nothing that they are computed from changes."""
        return frozenset(name for name in changed if not changed.intersection(self.captured.parents[name]))


class Search:
    """The search between two programs.

    Args:
        options: what each tensor could be.
        probes: A and B.
        weights: A's.
        target: B's own weights, for seeing where it uses which.
    """

    def __init__(self, options: Options, probes: tuple[Probe, Probe], weights: Tensors, target: Tensors) -> None:
        self.options, self.probes = options, probes
        self.weights, self.target = weights, target
        self.reference = options.traces[0]
        self.choices: Mapping[int, tuple[Choice, ...]] = options.plain_choices
        self.tried: dict[Chosen, Attempt] = {}
        self.seen: set[Chosen] = set()

    def run(self) -> tuple[Attempt, bool]:
        """The mapping whose outputs agree, or the best there is; and whether the search ended early."""
        try:
            first = self.attempt(self.options.cheapest(self.options.choices))
            if first.agrees:
                return first, False
            found = self._extended(first, self.options.plain_choices) or self._extended(first, self.options.choices)
        except ExhaustedError:
            return self._best(), True
        return found or self._best(), False

    def _extended(self, first: Attempt, choices: Mapping[int, tuple[Choice, ...]]) -> Attempt | None:
        """A search among these choices only."""
        self.choices, self.seen = choices, set[Chosen]()
        return self._extend(first)

    def _best(self) -> Attempt:
        return max(self.tried.values(), key=lambda attempt: attempt.progress)

    def attempt(self, chosen: Chosen) -> Attempt:
        """Try a mapping; at no cost if it has been tried before."""
        if chosen not in self.tried:
            captured = self.probes[1].observe(self.target_weights(chosen, self.weights))
            self.tried[chosen] = Attempt(chosen=chosen, comparison=Comparison(self.reference, captured))
        return self.tried[chosen]

    def target_weights(self, chosen: Chosen, weights: Tensors) -> Tensors:
        """A's weights where this mapping puts them."""
        return WeightMapping(tensors=tuple(map(self.options.tensor_map, chosen))).to_target(weights)

    @cached_property
    def usage(self) -> tuple[Usage, Usage]:
        """Where A and B use their units."""
        return self._usage(0, self.weights, self.options.a), self._usage(1, self.target, self.options.b)

    def _usage(self, side: int, weights: Tensors, units: Sequence[Unit]) -> Usage:
        base, probe = self.options.traces[side], self.probes[side]
        untrained = [unit for unit in units if unit.name not in base.trace.gradients]
        # Running statistics are many, and as a rule no output depends on any: one step shows that for all of them.
        unused = bool(untrained) and not probe.reach(weights, base, untrained) & base.behind_outputs
        wanted = [unit for unit in units if not (unused and unit in untrained)]
        reach = {unit: probe.reach(weights, base, [unit]) for unit in wanted}
        return Usage(base, [reach.get(unit, frozenset()) for unit in units])

    def _extend(self, attempt: Attempt) -> Attempt | None:
        """Go on from an attempt that breaks: the first mapping within reach whose outputs agree."""
        for chosen in self._alternatives(attempt):
            if chosen in self.seen:
                continue
            self.seen.add(chosen)
            trial = self.attempt(chosen)
            if trial.agrees:
                return trial
            if self._is_further(attempt, trial) and (found := self._extend(trial)):
                return found
        return None

    @staticmethod
    def _is_further(attempt: Attempt, trial: Attempt) -> bool:
        """What broke first agrees now."""
        mended = trial.comparison.settled | trial.comparison.matches.partners.keys()
        return any(name in mended for name in attempt.comparison.unsettled[:1])

    def _alternatives(self, attempt: Attempt) -> Iterator[Chosen]:
        """Other mappings, those that change least first."""
        suspects, following = self._suspects(attempt)
        for extra in range(len(following) + 1):
            yield from self._combinations(attempt.chosen, suspects + following[:extra])
        yield from self._upstream(attempt)

    def _suspects(self, attempt: Attempt) -> tuple[list[int], list[int]]:
        """Units of A that enter where it breaks, and the next two to enter behind."""
        comparison, usage = attempt.comparison, self.usage[0]
        if not comparison.unsettled:
            return [], []
        name = comparison.unsettled[0]
        _, region = comparison.a.last_of(name, comparison.matches.telling)
        here = [i for i in range(len(usage.entries)) if usage.entries[i] & region]
        behind = set(comparison.unsettled) - region
        later = [i for i in range(len(usage.entries)) if usage.entries[i] & behind and i not in here]
        return sorted(here, key=usage.first.__getitem__), sorted(later, key=usage.first.__getitem__)[:2]

    def _combinations(self, chosen: Chosen, units: Sequence[int]) -> Iterator[Chosen]:
        """Everything else that these units could be, together."""
        choices = [self._plausible(unit) for unit in units]
        together = itertools.islice(itertools.product(*choices), 64 * _COMBINATIONS)
        distinct = [each for each in together if len({choice.b for choice in each}) == len(each)]
        distinct.sort(key=self._implausibility)
        for each in distinct[:_COMBINATIONS]:
            if changed := self._changed(chosen, each):
                yield changed

    def _implausibility(self, choices: Sequence[Choice]) -> float:
        """The costs, and one more for each vector that would part from its matrix."""
        ours, theirs = self._layer_of
        pairs = itertools.combinations(choices, 2)
        parted = sum((ours[x.a] == ours[y.a]) != (theirs[x.b] == theirs[y.b]) for x, y in pairs)
        return parted + sum(choice.cost for choice in choices)

    @cached_property
    def _layer_of(self) -> tuple[dict[int, int], dict[int, int]]:
        both = self._layers, _layers(self.usage[1], self.options.b)
        ours, theirs = ({i: number for number, layer in enumerate(layers) for i in layer} for layers in both)
        return ours, theirs

    def _plausible(self, unit: int) -> tuple[Choice, ...]:
        """A unit's choices among B's units that come after about as many others; all, if none does."""
        ours, theirs = self.usage
        depth = len(ours.before[unit])
        choices = self.choices[unit]
        near = tuple(choice for choice in choices if abs(len(theirs.before[choice.b]) - depth) <= _SLACK)
        return near or choices

    def _changed(self, chosen: Chosen, changes: Sequence[Choice]) -> Chosen | None:
        """A mapping with some choices changed: whoever is displaced takes the place that has become free."""
        new = {choice.a: choice for choice in chosen}
        for change in changes:
            old = new[change.a]
            displaced = next(choice for choice in new.values() if choice.b == change.b)
            new[change.a] = change
            if displaced.a == change.a:
                continue
            moved = self._moved(displaced, old.b)
            if moved is None:
                return None
            new[displaced.a] = moved
        return tuple(new[choice.a] for choice in chosen)

    def _moved(self, choice: Choice, b: int) -> Choice | None:
        """The same unit of A in another place, in the same layout if it can be."""
        there = [other for other in self.choices[choice.a] if other.b == b]
        kept = (other for other in there if other.steps == choice.steps)
        return next(kept, there[0] if there else None)

    def _upstream(self, attempt: Attempt) -> Iterator[Chosen]:
        """Layers before the break exchanged with others, then laid out otherwise; the nearest first."""
        comparison, usage = attempt.comparison, self.usage[0]
        broken = comparison.unsettled[:1]
        region = comparison.a.upstream(broken) if broken else frozenset(comparison.a.names)
        above = [layer for layer in self._layers if usage.entries[layer[0]] & region]
        above.sort(key=lambda layer: -usage.first[layer[0]])
        # The other need not lie before the break: values are used later than the queries that they may be taken for.
        pairs = ((x, y) for i, x in enumerate(above) for y in self._layers if y not in above[: i + 1])
        exchanged = (self._exchanged(attempt.chosen, x, y) for x, y in pairs)
        yield from itertools.islice(filter(None, exchanged), _COMBINATIONS)
        yield from self._relaid(attempt.chosen, above)

    @cached_property
    def _layers(self) -> list[list[int]]:
        return _layers(self.usage[0], self.options.a)

    def _exchanged(self, chosen: Chosen, x: Sequence[int], y: Sequence[int]) -> Chosen | None:
        """Two layers of A, used after the same others, in each other's places."""
        usage, units = self.usage[0], self.options.a
        if usage.before[x[0]] != usage.before[y[0]] or len(x) != len(y):
            return None
        by_a = {choice.a: choice for choice in chosen}
        changes = []
        for i, j in zip(x, y, strict=True):
            if units[i].shape != units[j].shape or not (moved := self._moved(by_a[i], by_a[j].b)):
                return None
            changes.append(moved)
        return self._changed(chosen, changes)

    def _relaid(self, chosen: Chosen, layers: Sequence[Sequence[int]]) -> Iterator[Chosen]:
        """Units in the same places but other layouts: one at a time, then all that are divided alike together."""
        by_a: Mapping[int, Choice] = {choice.a: choice for choice in chosen}
        units = [i for layer in layers for i in layer]
        others = {i: [c for c in self.choices[i] if c.b == by_a[i].b and c != by_a[i]] for i in units}
        singles = [[other] for i in units for other in others[i]]
        alike: dict[tuple[Shape, ...], dict[int, Choice]] = {}
        for other in (other for i in units for other in others[i]):
            if other.layout.pieces and other.layout.reversed_axes == by_a[other.a].layout.reversed_axes:
                alike.setdefault(other.layout.pieces, {}).setdefault(other.a, other)
        together = [list(changes.values()) for changes in alike.values()]
        for changes in [*together, *singles[:_COMBINATIONS]]:
            if changed := self._changed(chosen, changes):
                yield changed


def _layers(usage: Usage, units: Sequence[Unit]) -> list[list[int]]:
    """Units by layer: a vector belongs to the matrix that it is used with, or directly after."""
    layers = {i: [i] for i, unit in enumerate(units) if len(unit.shape) > 1}
    matrices = tuple(layers)
    for i in range(len(units)):
        if i not in matrices:
            owners = (j for j in matrices if _used_with(usage, i, j))
            layers.setdefault(next(owners, i), []).append(i)
    return list(layers.values())


def _used_with(usage: Usage, vector: int, matrix: int) -> bool:
    directly_after = usage.before[vector] == usage.before[matrix] | {matrix}
    return directly_after or bool(usage.entries[vector] & usage.entries[matrix])
