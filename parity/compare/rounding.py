"""The second rule: in float32, is each side as exact as float32 is?

Both sides have matched in float64, so their float64 runs are the same reference, and each side has a rounding error of
its own: e_A = |A32 - A64|, e_B = |B32 - B64|, relative to the norm of A64. Every step starts on all of them from the
same float32 values, so that errors do not pile up, and each figure is the median over the steps, so that a single
flipped ReLU (see `parity.compare.flips`) does not decide.

1. |A32 - B32| <= k sqrt(e_A^2 + e_B^2 + n^2) in the median step, where n is the null level: how far a side moves when
   its weights move by one unit in the last place. K is fitted on honest pairs (`python -m parity.measurements
   calibration --part fit`): the ratio that one check in 10,000 would reach. By the triangle inequality |A32 - B32| is
   at most e_A + e_B + |A64 - B64|, hence k at most sqrt(2); the fit gives that bound, because errors of few elements
   are each other's opposites now and then. So this rule says that the float64 runs of the two sides are the same
   reference here too, and (2) says how large the errors may be.
2. The larger error is at most CAP times the smaller. That catches a side that computes in a lower precision, and would
   widen its own allowance by (1). An error below the floor counts as the floor, which is the largest of

   - the null level, and one unit in the last place: nothing in float32 is expected to be better;
   - what a sum of n terms, added one after the other, honestly loses: eps sqrt(n) / 2. For activations and outputs n is
     the most elements of a weight that one output sees (at batch 1, XLA's sums of fc1's 400 products err 2.5 times as
     much as torch's); for what is summed over a batch (loss, gradients and what follows) it is the number of elements
     of the step's largest activation, and to that is added what a small loss has lost, of examples that are learnt
     well: 8 eps of the outputs that it is a small difference of;
   - for an update, which is seen as the difference of two parameters, what they were rounded by: eps / 2 of the
     parameter, twice, because the weight decay may be taken off before the step;
   - for the update of an optimizer with a second slot, Adam for example, what sqrt(1 - beta^t) loses where it is
     computed in float32, as optax does (torch computes it in float64): 3e-5.

   Products of bfloat16 err by 2^-9 each, of TF32 by 2^-11: hundreds of times the floor, and gradients show them first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.compare.formula import cancelled, loss_size, small_loss_share
from parity.compare.measure import frobenius, ratio
from parity.compare.stages import FORWARD, OPTIMIZER, Stage, in_order_of, stage_tensors
from parity.contract import STAGES, StepTrace

__all__ = ["CAP", "EPS32", "Errors", "K", "Rounding", "Trials", "judge_rounding", "measure_rounding"]

EPS32 = float(np.finfo(np.float32).eps)
CAP = 2.0
K = 2**0.5
BIAS_CORRECTION = EPS32 / 2 / (1 - 0.999) / 2
"""What sqrt(1 - beta^t) loses in float32, relative, at Adam's default beta.

beta and its power are each rounded by EPS32 / 4 at most, which adds up to (t + 1) EPS32 / 4 of t (1 - beta), most at
t = 1; the root halves it.
"""

Arrays = Mapping[Stage, NDArray[np.float64]]

_ORDER = {stage: number for number, stage in enumerate(STAGES)}


@dataclass(frozen=True, kw_only=True)
class Errors:
    """A tensor's rounding in one step, relative to its norm in A's float64 run.

    Args:
        a: e_A.
        b: e_B.
        apart: |A32 - B32|.
        null: the smaller of the two sides' null levels: a side of low precision has a large one. The larger, for what
            the optimizer makes: it may amplify rounding that was no fault in the gradient (Adam's update where a
            gradient cancels to nothing is noise on both sides, of a size of its own on each).
        floor: below which an error is not held against a side.
    """

    a: float
    b: float
    apart: float
    null: float
    floor: float

    @property
    def spread(self) -> float:
        """|A32 - B32| over the root of the squares."""
        return ratio(self.apart, float(np.sqrt(self.a**2 + self.b**2 + max(self.null, EPS32) ** 2)))


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """A tensor's rounding over all steps (medians), and what the rule makes of it; `spread` is compared with K."""

    place: Stage
    errors: Errors
    spread: float
    steps: int

    @property
    def excess(self) -> float:
        """The larger error over the smaller, both at least the floor: to be compared with CAP."""
        low, high = sorted((self.errors.a, self.errors.b))
        return ratio(max(high, self.errors.floor), max(low, self.errors.floor))

    @property
    def judged(self) -> bool:
        """Whether the comparison proves something: an allowance of the tensor's own size would let anything pass."""
        return self.errors.floor < 1

    @property
    def broken(self) -> bool:
        """Whether a side computes with less precision than the other."""
        return not (self.spread <= K and self.excess <= CAP)


@dataclass(frozen=True, kw_only=True)
class Trials:
    """One step, from the same float32 values, in six ways; without `b_null` the first side's null level counts."""

    a32: StepTrace
    b32: StepTrace
    a64: StepTrace
    b64: StepTrace
    a_null: StepTrace
    b_null: StepTrace | None


def measure_rounding(
    trials: Trials, *, unjudged: frozenset[str] = frozenset(), by_name: bool = True
) -> dict[Stage, Errors]:
    """Every tensor's rounding in one step.

    Args:
        trials: all in the same names and layout.
        unjudged: parameters whose gradient is zero in exact arithmetic: it is nothing but rounding.
        by_name: whether the sides' activations have the same names, so that they can be compared.
    """
    skipped = {"batch", "weights"} if by_name else {"batch", "weights", "activations"}
    return {place: errors for place, errors in _errors(trials, unjudged) if place.stage not in skipped}


def _errors(trials: Trials, unjudged: frozenset[str]) -> Iterator[tuple[Stage, Errors]]:
    a32, a64, a_null = (stage_tensors(trace) for trace in (trials.a32, trials.a64, trials.a_null))
    b32, b64 = (
        stage_tensors(in_order_of(reference, trace))
        for reference, trace in ((trials.a32, trials.b32), (trials.a64, trials.b64))
    )
    b_null = stage_tensors(in_order_of(trials.a_null, trials.b_null)) if trials.b_null else None
    lost = small_loss_share(cancelled(trials.a64.logits, eps=EPS32), loss_size(trials.a64.loss))
    sums = _summed(a64)
    for place, reference in a64.items():
        # A tensor that is exactly zero has no size of its own: its stage's largest stands for it.
        scale = frobenius(reference) or max(frobenius(v) for p, v in a64.items() if p.stage == place.stage) or 1.0
        if _is_of(place, unjudged):
            continue
        nulls = [_apart(a_null, a32, place, scale)] + ([_apart(b_null, b32, place, scale)] if b_null else [])
        null = max(nulls) if place.stage in OPTIMIZER else min(nulls)
        honest = sums[place.stage] + (lost if place.stage not in FORWARD else 0.0)
        yield (
            place,
            Errors(
                a=_apart(a32, a64, place, scale),
                b=_apart(b32, b64, place, scale),
                apart=_apart(a32, b32, place, scale),
                null=null,
                floor=max(null, honest, _update(place, a64, scale)),
            ),
        )


def _apart(x: Arrays, y: Arrays, place: Stage, scale: float) -> float:
    """|x - y| / scale at one place; infinite where one is missing or not finite."""
    if place not in x or place not in y or x[place].shape != y[place].shape:
        return float("inf")
    distance = frobenius(x[place] - y[place])
    return ratio(distance, scale) if np.isfinite(distance) else float("inf")


def _summed(step: Arrays) -> dict[str, float]:
    """What the longest sum on the way to each stage may lose; at least one unit in the last place."""
    # Of a weight's elements one output sees those along all axes but its own, which is the first or the last.
    forward = [value.size // min(value.shape[0], value.shape[-1]) for value in _of(step, "weights") if value.ndim > 1]
    backward = [value.size for value in _of(step, "activations")]
    terms = {"batch": 1, "weights": 1, **dict.fromkeys(("activations", "logits"), max(forward, default=1))}
    return {stage: EPS32 * max(1.0, math.sqrt(terms.get(stage, max(backward, default=1))) / 2) for stage in STAGES}


def _of(step: Arrays, stage: str) -> list[NDArray[np.float64]]:
    return [value for place, value in step.items() if place.stage == stage and value.size]


def _update(place: Stage, step: Arrays, scale: float) -> float:
    """What an update may lose beside what its gradient has lost; 0 for other places."""
    parameter = step.get(Stage(stage="weights", tensor=place.tensor))
    if place.stage != "update" or parameter is None:
        return 0.0
    corrected = Stage(stage="momentum", tensor=f"{place.tensor}:2") in step
    return max(ratio(EPS32 * frobenius(parameter), scale), BIAS_CORRECTION if corrected else 0.0)


def _is_of(place: Stage, parameters: frozenset[str]) -> bool:
    """Whether it is the gradient, the momentum or the update of one of these; a second slot is `name:2`."""
    return place.tensor.partition(":")[0] in parameters


_MISSING = Errors(a=float("inf"), b=float("inf"), apart=float("inf"), null=0.0, floor=EPS32)


def judge_rounding(
    steps: Sequence[Mapping[Stage, Errors]], unjudged: Sequence[frozenset[str]] = ()
) -> tuple[Rounding, ...]:
    """The medians over the steps, in the order of the stages.

    A step in which rounding may move a tensor by its own size says nothing of it, and is left out where others do: of
    examples that are learnt well, some losses keep no digit.

    Args:
        steps: what each measured.
        unjudged: the parameters that each left out; none for those that are not listed.

    Raises:
        ValueError: there is no step or no tensor, so that there can be no pass.
    """
    # Of all steps: a tensor that is zero in the first may not be so later.
    places = sorted(dict.fromkeys(place for step in steps for place in step), key=lambda place: _ORDER[place.stage])
    if not places:
        raise ValueError("no step was compared")
    left_out = [*unjudged, *[frozenset[str]()] * (len(steps) - len(unjudged))]
    judged = [(step, skipped) for step, skipped in zip(steps, left_out, strict=True)]

    def found(place: Stage) -> list[Errors]:
        errors = [step.get(place, _MISSING) for step, skipped in judged if not _is_of(place, skipped)]
        return [each for each in errors if each.floor < 1] or errors

    return tuple(_median(place, found(place)) for place in places)


def _median(place: Stage, steps: Sequence[Errors]) -> Rounding:
    def median(name: str) -> float:
        values = [getattr(errors, name) for errors in steps]
        # A tensor that is missing or not finite in one step is no outlier.
        return float(np.median(values)) if np.isfinite(values).all() else float("inf")

    names = ("a", "b", "apart", "null", "floor")
    errors = Errors(**{name: median(name) for name in names})
    return Rounding(place=place, errors=errors, spread=median("spread"), steps=len(steps))
