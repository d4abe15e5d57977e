"""The first rule: in float64, do two sides compute the same formula?

Honest implementations of one formula differ by rounding alone. A sum of n terms, added in any order, errs by about
eps sqrt(n) / 2 of its size; the longest sum of the tutorial's CNN at batch 128 has 100,352 terms (the gradient of
conv1.bias), which makes 160 eps. So a tensor that differs by more than 512 eps (1.1e-13 of its own norm) is computed by
another formula. Three things widen the allowance, each measured or derived and never chosen:

- where the problem itself amplifies rounding, the null level does: how far a side moves when each of its initial
  weights is moved by one unit in the last place, on the side that moves less: one that amplifies rounding where the
  other does not would widen its own allowance. Adam is the common case: it divides an element's gradient by its own
  size, so that one which cancels to rounding still moves its weight, and that weight differs from then on. What it
  makes of such an element is a draw of its own on each side, so for weights, momentum and update the larger counts;
- a small loss, and the gradients of it, are small differences of numbers as large as the outputs: 8 eps of those.
  The outputs and the loss of either side are known; the smaller allowance counts, so that no side widens its own;
- an update is the difference of two parameters, each rounded to its own last place: 4 eps of the parameter's norm.

A tensor that is zero in exact arithmetic (the gradient of a bias before a batch norm, for example) is nothing but
rounding on both sides: its norm is within 512 eps of the largest tensor of its stage, or it is 0 to the last bit here
and within that in a null run. It is listed as "zero" and not compared, and neither is what the optimizer makes of it,
until it has a gradient and its weights agree to 512 eps; if all tensors were so, there would be no verdict.

Where the allowance reaches a tensor's own size, the step says nothing of that tensor: the loss of an image that is
learnt by heart, for example, may be 0 but for rounding. The comparison is vacuous, neither a match nor another formula;
a tensor of which no step says anything leaves the verdict undecided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.compare.measure import frobenius, ratio
from parity.compare.stages import BACKWARD, OPTIMIZER, Stage, pair_stages, stage_tensors
from parity.contract import StepTrace, Tensors

__all__ = [
    "EPS",
    "NULL_FACTOR",
    "ULPS",
    "Rung",
    "cancelled",
    "compare_formula",
    "first_break",
    "first_unproved",
    "loss_size",
    "rounding_allowed",
    "small_loss_share",
    "vacuous_problem",
]

EPS = float(np.finfo(np.float64).eps)
ULPS = 512
NULL_FACTOR = 8
"""How many times the null level is still rounding.

The null level is one draw of a random quantity, the pair's distance another: each is a norm of at least one
Gaussian-like component, so their ratio passes 8 in 8 % of cases for a single component and in fewer than 1e-6 for ten.
A single component, the loss, is left to the 512 eps and to what a small loss has lost (CANCELLED).
"""

Arrays = Mapping[Stage, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One tensor of one step on both sides.

    Args:
        step: 0-based.
        place: stage and tensor.
        difference: |a - b| / max(|a|, |b|) in the Frobenius norm; infinite where a side has no such tensor, another
            shape, or a value that is not finite.
        allowed: the largest difference that is rounding.
        problem: why a comparison by value proves nothing, or None.
        zero: whether the tensor is zero in exact arithmetic, or has no elements: there is nothing to compare.
    """

    step: int
    place: Stage
    difference: float
    allowed: float
    problem: str | None = None
    zero: bool = False

    @property
    def broken(self) -> bool:
        """Whether this is another formula, or something that cannot be compared (the problem says why)."""
        return not (self.zero or self.vacuous) and not (self.problem is None and self.difference <= self.allowed)

    @property
    def vacuous(self) -> bool:
        """Whether the tensors were compared, and rounding may move them by their own size: that says nothing."""
        return self.problem is not None and self.difference < float("inf")

    @property
    def judged(self) -> bool:
        """Whether the comparison says something of the tensor."""
        return not (self.zero or self.vacuous)

    @property
    def share(self) -> float:
        """The difference as a share of what is allowed."""
        return ratio(self.difference, self.allowed)

    @property
    def ulps(self) -> float:
        """The difference in units of float64's eps."""
        return self.difference / EPS


def compare_formula(
    step: int,
    a: StepTrace,
    b: StepTrace,
    *,
    null: tuple[StepTrace, StepTrace] | None = None,
    unjudged: frozenset[str] = frozenset(),
    eps: float = EPS,
) -> tuple[Rung, ...]:
    """Compare one step, tensor by tensor, in the order of the stages.

    Args:
        step: its number.
        a: one side.
        b: the other, under the same names and in the same layout.
        null: the same step of both with initial weights one ulp away.
        unjudged: parameters whose gradients were zero to rounding before this step: their momentum and update are
            compared again once their weights agree and they have a gradient.
        eps: of the dtype that the steps were computed in.
    """
    first, second = null or (None, None)
    nulls = tuple(stage_tensors(trace) if trace is not None else {} for trace in (first, second))
    lost = min(cancelled(side.logits, eps=eps) for side in (a, b))
    size = max(loss_size(side.loss) for side in (a, b))
    rule = _Rule(eps=eps, nulls=nulls, cancelled=small_loss_share(lost, size))
    return tuple(_rungs(step, stage_tensors(a), stage_tensors(b), rule, unjudged))


Moved = tuple[NDArray[np.float64], NDArray[np.float64] | None]
"""A side's tensor, and the same in its null run; None where there is none."""


def rounding_allowed(moved: Sequence[Moved], *, stage: str, scale: float, eps: float = EPS) -> float:
    """The largest relative difference of a tensor that is rounding.

    Args:
        moved: one side's, or each side's. A null run's own start is 8 eps at most, far below 512, so that initial
            weights are judged as everything else is.
        stage: the tensor's.
        scale: the norm that differences are relative to.
        eps: of the dtype that it was computed in.
    """
    levels = [
        ratio(frobenius(x - null), scale) if null is not None and null.shape == x.shape else 0.0 for x, null in moved
    ]
    level = max(levels) if stage in OPTIMIZER else min(levels)
    return max(ULPS * eps, NULL_FACTOR * level)


def cancelled(logits: Tensors, *, eps: float) -> float:
    """What a small loss has lost, absolute: it is the difference of outputs (or targets) as large as they are."""
    largest = max((float(np.abs(value).max(initial=0.0)) for value in logits.values()), default=0.0)
    return CANCELLED * eps * max(largest, 1.0)


def loss_size(loss: Tensors) -> float:
    """The loss without its sign; NaN where it is not a number."""
    return abs(sum(float(np.sum(value)) for value in loss.values()))


def small_loss_share(lost: float, size: float) -> float:
    """What was lost as a share of the loss; 0 where that is not small, or is 0 to the last bit.

    A cross entropy of exactly 0 has probabilities that are exactly 0 and 1, whose gradients have lost nothing.
    """
    return ratio(lost, size) if 0 < size < 1 else 0.0


def vacuous_problem(allowed: float) -> str | None:
    """Why a comparison that allows so much proves nothing; None where it proves something."""
    return f"rounding alone may move it by {allowed:.1f} times its own size" if allowed >= 1 else None


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """What is rounding: in units of a dtype's eps, and by each side's null run."""

    eps: float
    nulls: tuple[Arrays, ...]
    cancelled: float

    def allows(self, place: Stage, scale: float, values: Sequence[NDArray[np.float64]], a: Arrays) -> float:
        moved = [(x, null.get(place)) for x, null in zip(values, self.nulls, strict=True)]
        allowed = rounding_allowed(moved, stage=place.stage, scale=scale, eps=self.eps)
        parameter = a.get(Stage(stage="weights", tensor=place.tensor))
        if place.stage == "update" and parameter is not None and scale > 0:  # two that are 0 are equal, not vague
            allowed += ratio(4 * self.eps * frobenius(parameter), scale)
        if place.stage in ("loss", *BACKWARD):
            allowed += self.cancelled
        return allowed

    def is_zero(self, place: Stage, scale: float, largest: float) -> bool:
        """Gradients alone: a weight or an activation that small is a value, not a cancellation."""
        if place.stage != "gradients" or scale > ULPS * self.eps * largest:
            return False
        moved = [frobenius(null[place]) for null in self.nulls if place in null]
        return scale > 0 or any(0 < norm <= ULPS * self.eps * largest for norm in moved)


def _rungs(step: int, a: Arrays, b: Arrays, rule: _Rule, unjudged: frozenset[str]) -> Iterator[Rung]:
    zeros, drifted = set(unjudged), set[str]()
    largest = _largest_gradient(a, b)
    for place, (x, y) in pair_stages(a, b).items():
        if problem := _problem(x, y):
            yield Rung(step=step, place=place, difference=float("inf"), allowed=0.0, problem=problem)
            continue
        assert x is not None and y is not None  # noqa: S101, PT018  _problem has seen to it; for the type checker
        scale = max(frobenius(x), frobenius(y))
        difference = ratio(frobenius(x - y), scale)
        if place.stage == "weights" and not difference <= ULPS * rule.eps:
            drifted.add(place.tensor)
        parameter = place.tensor.partition(":")[0]
        noise = rule.is_zero(place, scale, largest)
        if noise:
            zeros.add(parameter)
        elif place.stage == "gradients" and scale and parameter not in drifted:
            zeros.discard(parameter)
        zero = noise or (place.stage in OPTIMIZER and parameter in zeros) or not x.size
        allowed = rule.allows(place, scale, (x, y), a)
        vacuous = vacuous_problem(allowed) if not zero else None
        yield Rung(step=step, place=place, difference=difference, allowed=allowed, problem=vacuous, zero=zero)


CANCELLED = 8
"""Roundings on the way to a loss: exponentials, their sum, its logarithm, the difference; and the mean.

A small loss is a small difference of numbers as large as the outputs, or 1 (a probability), each rounded to its own
last place, and so is the gradient by the outputs: of examples that are learnt well, few digits are left.
"""


def _problem(x: NDArray[np.float64] | None, y: NDArray[np.float64] | None) -> str | None:
    if x is None or y is None:
        return "only one side has it"
    if x.shape != y.shape:
        return f"its shape is {x.shape} on one side and {y.shape} on the other"
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return "it is not finite"
    return None


def _largest_gradient(a: Arrays, b: Arrays) -> float:
    """The norm of the largest gradient of either side, of those that are finite; 0 without any."""
    norms = [frobenius(value) for side in (a, b) for place, value in side.items() if place.stage == "gradients"]
    return max((norm for norm in norms if np.isfinite(norm)), default=0.0)


def first_break(rungs: Sequence[Rung]) -> Rung | None:
    """The first rung, in the order of steps and stages, that is another formula."""
    return next((rung for rung in rungs if rung.broken), None)


def first_unproved(rungs: Sequence[Rung]) -> Rung | None:
    """The first vacuous rung of a tensor of which no rung says anything; None where each is judged somewhere."""
    judged = {rung.place for rung in rungs if rung.judged}
    return next((rung for rung in rungs if rung.vacuous and rung.place not in judged), None)
