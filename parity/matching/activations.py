"""Which values two programs have in common on the way to their outputs, and where they stop having any.

Activations are matched by value alone, so that names, layouts, and layers that one program fuses and the other does not
need no annotation. A value without a partner is no fault by itself: a clean pair has many, inside whatever only one of
them fuses. It is one if nothing that is computed from it has a partner either, and the outputs depend on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.compare import BOUND, relative_difference
from parity.contract import StepTrace
from parity.matching.signatures import Signature, aligned_distance, distance, same, signature

__all__ = [
    "Candidate",
    "Captured",
    "Comparison",
    "ForwardBreak",
    "Matches",
    "first_unmatched",
    "match_activations",
    "matched_pairs",
]


class Captured:
    """A step's activations with their signatures and the dataflow between them, each worked out once.

    Args:
        trace: from `observe`, in float64. Without `parents`, each activation is taken to be computed from the one
            before.
    """

    def __init__(self, trace: StepTrace) -> None:
        self.trace = trace
        self.names = tuple(trace.activations)
        self.parents = {name: self._parents(i, name) for i, name in enumerate(self.names)}

    def _parents(self, position: int, name: str) -> tuple[str, ...]:
        if not self.trace.parents:
            return self.names[position - 1 : position] if position else ()
        return tuple(parent for parent in self.trace.parents.get(name, ()) if parent in self.trace.activations)

    @cached_property
    def signatures(self) -> Mapping[str, Signature]:
        """Every activation's."""
        return {name: signature(value) for name, value in self.trace.activations.items()}

    @cached_property
    def given(self) -> frozenset[str]:
        """Activations that are a weight or an input in another shape: they say nothing of what is computed.

        Transposes, reshapes and broadcasts keep the set of values as it is.
        """
        found: set[str] = set()
        for name in self.names:
            if found.issuperset(self.parents[name]) and self._repeats_a_given_array(self.trace.activations[name]):
                found.add(name)
        return frozenset(found)

    def _repeats_a_given_array(self, value: NDArray[Any]) -> bool:
        known = (array for part in (self.trace.weights, self.trace.batch) for array in part.values())
        fitting = [array for array in known if array.size and value.size % array.size == 0]
        return bool(fitting) and _value_set(value) in map(_value_set, fitting)

    @cached_property
    def behind_outputs(self) -> frozenset[str]:
        """The activations that the outputs or the loss are computed from; all, where neither was captured."""
        finals = (*self.trace.logits.values(), *self.trace.loss.values())
        targets = [signature(value) for value in finals]
        ends = [name for name in self.names if any(same(self.signatures[name], target) for target in targets)]
        return self.upstream(ends) if ends else frozenset(self.names)

    @cached_property
    def largest_gradient(self) -> float:
        """The largest element of all gradients; 0 without any."""
        return max((float(np.abs(value).max(initial=0.0)) for value in self.trace.gradients.values()), default=0.0)

    def upstream(self, names: Iterable[str]) -> frozenset[str]:
        """These and everything that they are computed from."""
        found, waiting = set(), list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(self.parents[name])
        return frozenset(found)

    def last_of(self, name: str, among: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
        """Go up from an activation until one of `among` is met on each path.

        Returns:
            Those that were met, in forward order, and the activations passed on the way, the first included.
        """
        met, passed, waiting = set(), {name}, list(self.parents[name])
        while waiting:
            parent = waiting.pop()
            if parent in among:
                met.add(parent)
            elif parent not in passed:
                passed.add(parent)
                waiting.extend(self.parents[parent])
        return tuple(sorted(met, key=self.names.index)), frozenset(passed)


def _value_set(value: NDArray[Any]) -> bytes:
    # Adding 0.0 turns -0.0 into 0.0.
    return (np.unique(value.astype(np.float64)) + 0.0).tobytes()


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Which activations hold the same values.

    Args:
        partners: for each of A's that has any, B's, the one that fits the order best first.
        telling: those of A whose match means something. Constants, masks, scalars, and a weight or an input in another
            shape are equal for free.
        telling_partners: the partners of those.
    """

    partners: Mapping[str, tuple[str, ...]]
    telling: frozenset[str]
    telling_partners: frozenset[str]


def match_activations(a: Captured | StepTrace, b: Captured | StepTrace) -> Matches:
    """Match two float64 steps' activations by value.

    Several of B's may equal one of A's: a reshape or a copy repeats its input. Preferred is the first that is not yet
    another's and does not come before the last match, so that pairs run in forward order on both sides where they can.
    """
    a, b = _captured(a), _captured(b)
    partners: dict[str, tuple[str, ...]] = {}
    position, taken = 0, set[int]()
    for name in a.names:
        fitting = [i for i, other in enumerate(b.names) if same(a.signatures[name], b.signatures[other])]
        if not fitting:
            continue
        fitting.sort(key=partial(_misplacement, position, taken))
        position = fitting[0] if a.signatures[name].telling else position
        taken.add(fitting[0])
        partners[name] = tuple(b.names[i] for i in fitting)
    telling = frozenset(name for name in partners if a.signatures[name].telling) - a.given
    theirs = frozenset(other for name in telling for other in partners[name])
    return Matches(partners=partners, telling=telling, telling_partners=theirs)


def matched_pairs(a: Captured | StepTrace, b: Captured | StepTrace) -> tuple[tuple[str, str, float], ...]:
    """The activations of two float64 steps that mean something and match: A's, B's, and how far they are apart.

    The distance is the one they are matched by, at most 1e-9. Where one side repeats an activation in another shape,
    the first is named.
    """
    first, second = _captured(a), _captured(b)
    matches = match_activations(first, second)
    partners: dict[str, str] = {}
    for name in first.names:
        if name in matches.telling:
            partners.setdefault(matches.partners[name][0], name)
    return tuple(
        (name, other, distance(first.signatures[name], second.signatures[other])) for other, name in partners.items()
    )


def _misplacement(position: int, taken: set[int], i: int) -> tuple[bool, bool, int]:
    return i < position, i in taken, abs(i - position)


def _captured(trace: Captured | StepTrace) -> Captured:
    return trace if isinstance(trace, Captured) else Captured(trace)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An activation of B that may be what A's unmatched one should have been.

    `axes` is the order of its axes that comes closest; None if the shapes allow none, and `distance` is then that of
    the sorted values.
    """

    name: str
    distance: float
    axes: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class ForwardBreak:
    """Where two forward passes part.

    Args:
        activation: the first of A's, in forward order, that has no partner and leads to none; "logits" or "loss" if
            every activation has one.
        after: the last of A's before it that do have one; empty at the inputs.
        after_other: their partners in B.
        candidates: what B may have computed in its place, the nearest first.
    """

    activation: str
    after: tuple[str, ...]
    after_other: tuple[str, ...]
    candidates: tuple[Candidate, ...]

    def sentence(self, other: str = "B") -> str:
        """For a report: what has no partner, and what comes nearest."""
        if self.activation in _OUTPUTS:
            return (
                f"the {self.activation} differ by {self.candidates[0].distance:.1e}, after activations that all agree"
            )
        line = f"{self.activation} has no partner in {other}"
        if not self.candidates:
            return line
        nearest = self.candidates[0]
        return f"{line}; nearest is {nearest.name}, {nearest.distance:.1e} away"

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ForwardBreak:
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**record, "candidates": tuple(Candidate(**candidate) for candidate in record["candidates"])})


_OUTPUTS = ("logits", "loss")


def first_unmatched(a: Captured | StepTrace, b: Captured | StepTrace) -> ForwardBreak | None:
    """Where the forward passes of two float64 steps part; None if outputs and loss agree.

    Args:
        a: a step of A.
        b: the same step of B: same weights, same batch.
    """
    return Comparison(_captured(a), _captured(b)).broken


class Comparison:
    """Two captured steps side by side."""

    def __init__(self, a: Captured, b: Captured) -> None:
        self.a, self.b = a, b
        self.outputs_agree = self._distance("logits") <= BOUND

    def _distance(self, stage: str) -> float:
        a, b = (next(iter(getattr(side.trace, stage).values())) for side in (self.a, self.b))
        return output_distance(a, b)

    @cached_property
    def matches(self) -> Matches:
        """By value."""
        return match_activations(self.a, self.b)

    @cached_property
    def settled(self) -> frozenset[str]:
        """A's activations that have a telling partner, or lead to one that has."""
        return self.a.upstream(self.matches.telling)

    @cached_property
    def unsettled(self) -> tuple[str, ...]:
        """A's activations, in forward order, that the outputs need and that nothing settles."""
        excused = self.settled | self.a.given | self.matches.partners.keys()
        return tuple(name for name in self.a.names if name in self.a.behind_outputs and name not in excused)

    @cached_property
    def broken(self) -> ForwardBreak | None:
        """See `first_unmatched`."""
        stage = next((stage for stage in _OUTPUTS if not self._distance(stage) <= BOUND), None)
        if stage is None:
            return None
        if not self.unsettled:
            nearest = Candidate(name=stage, distance=self._distance(stage), axes=None)
            return ForwardBreak(activation=stage, after=(), after_other=(), candidates=(nearest,))
        name = self.unsettled[0]
        after, _ = self.a.last_of(name, self.matches.telling)
        partners = tuple(self.matches.partners[ancestor][0] for ancestor in after)
        return ForwardBreak(
            activation=name,
            after=after,
            after_other=partners,
            candidates=self._candidates(name, {other for each in after for other in self.matches.partners[each]}),
        )

    def _candidates(self, name: str, after: set[str]) -> tuple[Candidate, ...]:
        """B's unmatched activations of the same size; one that follows other matches must be twice as near."""
        b, value = self.b, self.a.trace.activations[name]
        excused = b.upstream(self.matches.telling_partners) | b.given
        sized = [other for other in b.names if b.trace.activations[other].size == value.size and other not in excused]
        aligned = {other: aligned_distance(value, b.trace.activations[other]) for other in sized}
        far = {other: aligned[other][0] * (1 if self._follows(other, after) else 2) for other in sized}
        # A value and its reshape are equally far but for rounding: the one computed first is named.
        sized.sort(key=lambda other: float(f"{far[other]:.6e}"))
        return tuple(Candidate(name=other, distance=aligned[other][0], axes=aligned[other][1]) for other in sized)

    def _follows(self, other: str, after: set[str]) -> bool:
        met, _ = self.b.last_of(other, self.matches.telling_partners)
        return bool(after.intersection(met)) or not (after or met)


def output_distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The relative difference of two programs' outputs; infinite if they cannot be laid over each other.

    Equal shapes are compared as they are. Otherwise axes of length 1 are dropped, and B's put in the best order after
    the first, which counts the samples on both sides.
    """
    if a.shape == b.shape:
        return relative_difference(a, b)
    if a.size != b.size or sorted(a.squeeze().shape) != sorted(b.squeeze().shape):
        return float("inf")
    a, b = a.squeeze(), b.squeeze()
    orders = [(0, *axes) for axes in itertools.permutations(range(1, b.ndim))]
    fitting = [b.transpose(axes) for axes in orders if b.transpose(axes).shape == a.shape]
    return min((relative_difference(a, other) for other in fitting), default=float("inf"))
