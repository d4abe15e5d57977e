"""What B's outputs cannot decide: places of equal shape that a training step's forward pass does not tell apart.

Running statistics are the common case, and a bias that a normalisation takes out again. All such tensors are set to the
same number, on both sides; then what one step makes of each, what evaluation makes of each, and where each is used says
which is which, whatever mapping is in force. Where B agrees with A in none of these (it may update its statistics
otherwise), names decide, and where they do not, the user has to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.compare import BOUND, relative_difference
from parity.contract import InputError, Tensors
from parity.matching.activations import Captured, match_activations, output_distance
from parity.matching.names import contradict, similarity
from parity.matching.options import Choice, Unit
from parity.matching.probe import Probe, fill, nudged
from parity.matching.search import Attempt, Search
from parity.matching.signatures import Signature, same, signature

__all__ = ["resolve_ties"]

Array = NDArray[Any]
_DECISIVE = 0.9  # points of similarity: more than a rank's, less than a shared module's


def resolve_ties(search: Search, attempt: Attempt) -> Attempt:
    """The mapping with every choice made that its outputs leave open.

    Args:
        search: has found the attempt.
        attempt: its outputs agree.

    Raises:
        InputError: several choices fit, and differ in their effect.
    """
    return _Unseen(search, _by_gradients(search, attempt)).resolved()


def _by_gradients(search: Search, attempt: Attempt) -> Attempt:
    """Exchange units whose gradients agree only that way; without effect where the gradients agree already."""
    differing = [choice for choice in attempt.chosen if not _same_gradient(search, attempt, choice)]
    cost = np.array([[_gradient_cost(search, attempt, x.a, y.b) for y in differing] for x in differing])
    if not differing or not (cost == 0).any():
        return attempt
    chosen = _reassigned(
        search,
        attempt.chosen,
        {
            x.a: [y.b for y, c in zip(differing, row, strict=True) if c == 0]
            for x, row in zip(differing, cost, strict=True)
        },
    )
    trial = search.attempt(chosen)
    fewer = sum(not _same_gradient(search, trial, choice) for choice in chosen) < len(differing)
    return trial if trial.agrees and fewer else attempt


def _gradients(search: Search, attempt: Attempt, a: int, b: int) -> tuple[Array | None, Array | None]:
    ours, theirs = attempt.comparison.a.trace.gradients, attempt.comparison.b.trace.gradients
    return _piece(ours, search.options.a[a]), _piece(theirs, search.options.b[b])


def _piece(tensors: Tensors, unit: Unit) -> Array | None:
    return unit.part.of(tensors[unit.name]) if unit.name in tensors else None


def _same_gradient(search: Search, attempt: Attempt, choice: Choice) -> bool:
    ours, theirs = _gradients(search, attempt, choice.a, choice.b)
    if ours is None or theirs is None:
        return ours is theirs
    entry = search.options.tensor_map(choice)
    laid_out = ours.reshape(entry.split).transpose(entry.axes).reshape(entry.shape)
    # A gradient that cancels to rounding, a bias's before a normalisation, is not compared with itself.
    negligible = max(_largest(laid_out), _largest(theirs)) <= BOUND * attempt.comparison.a.largest_gradient
    return negligible or relative_difference(laid_out, theirs) <= BOUND


def _largest(value: Array) -> float:
    return float(np.abs(value).max(initial=0.0))


def _gradient_cost(search: Search, attempt: Attempt, a: int, b: int) -> float:
    ours, theirs = _gradients(search, attempt, a, b)
    if ours is None or theirs is None:
        return float(ours is not theirs)
    return float(not same(signature(ours), signature(theirs)))


def _reassigned(search: Search, chosen: Sequence[Choice], fits: Mapping[int, Sequence[int]]) -> tuple[Choice, ...]:
    """The cheapest mapping in which these units of A stay within the places that fit them, as far as they have any."""
    fixed = {choice.a: choice for choice in chosen}
    places = {fixed[a].b for a in fits}
    choices = {a: [choice] for a, choice in fixed.items()}
    for a, b in fits.items():
        possible = [choice for choice in search.options.choices[a] if choice.b in places]
        choices[a] = [choice for choice in possible if choice.b in b] or possible
    # What fits some may leave nothing for others: then nothing is exchanged.
    return search.options.cheapest(choices) if search.options.assignable(choices) else tuple(chosen)


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One program with all contested units set to one number."""

    probe: Probe
    weights: Tensors
    captured: Captured


class _Unseen:
    """The units that the outputs do not depend on, and what else there is to tell them by."""

    def __init__(self, search: Search, attempt: Attempt) -> None:
        self.search, self.attempt, self.options = search, attempt, search.options
        self.place = {choice.a: choice.b for choice in attempt.chosen}

    def resolved(self) -> Attempt:
        """See `resolve_ties`."""
        fits, lost = _narrowed({a: self._places(a) for a in self.contested}, self._by_step)
        found, without = _narrowed(self._undecided(_exclusive(fits)), self._by_evaluation)
        fits, lost = _exclusive({**fits, **found}), lost | without
        # Where a unit is used can only confirm: what is used inside a fused operation has no activation to show it.
        found, _ = _narrowed(self._undecided(fits), self._by_use)
        fits = _exclusive({**fits, **found})
        for a in sorted(lost):
            self._require_names(a, fits[a])
        trial = self.search.attempt(_reassigned(self.search, self.attempt.chosen, fits)) if fits else self.attempt
        return self._laid_out(trial if trial.agrees else self.attempt)

    def _undecided(self, fits: Mapping[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
        """Those for which names do not decide either: to test them costs a step for each."""
        return {a: places for a, places in fits.items() if len(self._best_named(a, places)) > 1}

    def _laid_out(self, attempt: Attempt) -> Attempt:
        """Each unseen unit in the layout under which most activations agree, the plainest of several."""
        for i in self.unseen:
            old = next(choice for choice in attempt.chosen if choice.a == i)
            ways = [choice for choice in self.options.choices[i] if choice.b == old.b]
            tried = [self.search.attempt(_with(attempt.chosen, way)) for way in ways] if len(ways) > 1 else []
            attempt = max((trial for trial in tried if trial.agrees), key=_agreement, default=attempt)
        return attempt

    @cached_property
    def unseen(self) -> tuple[int, ...]:
        """Units of A that the outputs do not depend on."""
        quiet = tuple(i for i in range(len(self.options.a)) if self._has_no_gradient(i))
        return quiet if quiet and self._is_unseen(quiet) else tuple(i for i in quiet if self._is_unseen([i]))

    @cached_property
    def contested(self) -> tuple[int, ...]:
        """Those of them that have another such unit's place to go to."""
        places = {self.place[i] for i in self.unseen}
        return tuple(i for i in self.unseen if len(places & {choice.b for choice in self.options.choices[i]}) > 1)

    def _places(self, a: int) -> tuple[int, ...]:
        places = {self.place[i] for i in self.contested}
        return tuple(dict.fromkeys(choice.b for choice in self.options.choices[a] if choice.b in places))

    def _has_no_gradient(self, i: int) -> bool:
        mine = _piece(self.attempt.comparison.a.trace.gradients, self.options.a[i])
        return mine is None or _largest(mine) <= BOUND * self.attempt.comparison.a.largest_gradient

    def _is_unseen(self, units: Sequence[int]) -> bool:
        weights = nudged(self.search.weights, [self.options.a[i] for i in units])
        changed = self.search.probes[0].observe(weights).trace.logits
        before = self.attempt.comparison.a.trace.logits
        return all(output_distance(before[name], changed[name]) <= BOUND for name in before)

    @cached_property
    def sides(self) -> tuple[_Side, _Side]:
        """Both programs with every contested unit filled with ones: the mapping of these no longer matters."""
        ours = fill(self.search.weights, [self.options.a[i] for i in self.contested], 1.0)
        theirs = self.search.target_weights(self.attempt.chosen, ours)
        probes = self.search.probes
        return (
            _Side(probe=probes[0], weights=ours, captured=probes[0].observe(ours)),
            _Side(probe=probes[1], weights=theirs, captured=probes[1].observe(theirs)),
        )

    def _by_step(self, a: int, b: int) -> bool:
        """One step makes the same of both."""
        return same(self._stepped[0][a], self._stepped[1][b])

    @cached_property
    def _stepped(self) -> tuple[dict[int, Signature], dict[int, Signature]]:
        return self._made(0, self.options.a, self.contested), self._made(1, self.options.b, self._theirs)

    def _made(self, which: int, units: Sequence[Unit], wanted: Sequence[int]) -> dict[int, Signature]:
        after = self.sides[which].captured.trace.parameters
        return {i: signature(units[i].part.of(after[units[i].name])) for i in wanted}

    def _by_evaluation(self, a: int, b: int) -> bool:
        """The outputs in evaluation depend on both alike."""
        return output_distance(self._evaluated[0][a], self._evaluated[1][b]) <= BOUND

    @cached_property
    def _evaluated(self) -> tuple[dict[int, Array], dict[int, Array]]:
        return self._doubled(0, self.options.a, self.contested), self._doubled(1, self.options.b, self._theirs)

    @cached_property
    def _theirs(self) -> tuple[int, ...]:
        return tuple(self.place[i] for i in self.contested)

    def _doubled(self, which: int, units: Sequence[Unit], wanted: Sequence[int]) -> dict[int, Array]:
        side = self.sides[which]
        return {i: side.probe.outputs(fill(side.weights, [units[i]], 2.0)) for i in wanted}

    def _by_use(self, a: int, b: int) -> bool:
        """Both are used at the same activations."""
        ours, theirs = self._used[0][a], self._used[1][b]
        if not ours or not theirs:
            return ours == theirs
        matches = match_activations(self.sides[0].captured, self.sides[1].captured)
        return any(theirs.intersection(matches.partners.get(name, ())) for name in ours)

    @cached_property
    def _used(self) -> tuple[dict[int, frozenset[str]], dict[int, frozenset[str]]]:
        return self._entered(0, self.options.a, self.contested), self._entered(1, self.options.b, self._theirs)

    def _entered(self, which: int, units: Sequence[Unit], wanted: Sequence[int]) -> dict[int, frozenset[str]]:
        side = self.sides[which]
        return {i: side.probe.reach(side.weights, side.captured, [units[i]]) for i in wanted}

    def _best_named(self, a: int, places: Sequence[int]) -> tuple[int, ...]:
        """The places whose names fit as well as any, or nearly: one, if names decide."""
        units, (ours, theirs) = self.options.b, self.options.labels
        name = self.options.a[a].name
        if equal := tuple(b for b in places if units[b].name == name):
            return equal
        points = {b: similarity(ours[name], theirs[units[b].name], self._modules) for b in places}
        return tuple(b for b in places if points[b] > max(points.values()) - _DECISIVE)

    @cached_property
    def _modules(self) -> dict[str, frozenset[str]]:
        """A's modules and B's that the units which the outputs do depend on have brought together."""
        return self.options.modules(choice for choice in self.attempt.chosen if choice.a not in self.unseen)

    def _require_names(self, a: int, places: Sequence[int]) -> None:
        """Refuse to guess between several places of equally good names."""
        fitting = sorted(self.options.b[b].name for b in self._best_named(a, places))
        if len(fitting) > 1:
            name = self.options.a[a].name
            problem = f"it could be {' or '.join(fitting)}: a training step does not tell them apart"
            raise InputError("mapping", name, problem, f"choose, for example {name}={fitting[0]}")


def _with(chosen: Sequence[Choice], change: Choice) -> tuple[Choice, ...]:
    return tuple(change if choice.a == change.a else choice for choice in chosen)


def _agreement(attempt: Attempt) -> tuple[int, float]:
    return len(attempt.comparison.matches.telling), -sum(choice.cost for choice in attempt.chosen)


def _narrowed(
    fits: Mapping[int, tuple[int, ...]], told_apart: Callable[[int, int], bool]
) -> tuple[dict[int, tuple[int, ...]], set[int]]:
    """The places that also pass this test; and the units for which none does, which keep theirs."""
    passing = {a: tuple(b for b in places if told_apart(a, b)) for a, places in fits.items()}
    return {a: passing[a] or places for a, places in fits.items()}, {a for a in fits if not passing[a]}


def _exclusive(fits: Mapping[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """Without the places that another unit cannot do without."""
    needed = {places[0] for places in fits.values() if len(places) == 1}
    return {a: tuple(b for b in places if b not in needed) or places for a, places in fits.items()}


def name_notes(search: Search, attempt: Attempt) -> tuple[str, ...]:
    """Sentences on tensors that sit where, by the names, another belongs."""
    ours, theirs = search.options.labels
    holder = {search.options.b[choice.b].name: search.options.a[choice.a].name for choice in attempt.chosen}
    notes = []
    for choice in attempt.chosen:
        a, b = search.options.a[choice.a].name, search.options.b[choice.b].name
        points = {name: similarity(ours[a], theirs[name]) for name in _reachable(search, choice.a)}
        best = max(points, key=points.__getitem__)
        is_better_off = similarity(ours[holder[best]], theirs[best]) >= points[best]
        if points[best] - points[b] >= _DECISIVE and not is_better_off:
            notes.append(f"{a} does what {b} does, though its name is rather that of {best}")
        elif contradict(ours[a], theirs[b]):
            notes.append(f"{a} does what {b} does, against their names")
    return tuple(dict.fromkeys(notes))


def _reachable(search: Search, a: int) -> list[str]:
    return [search.options.b[choice.b].name for choice in search.options.choices[a]]
