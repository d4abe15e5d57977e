"""Whether a contestant computes what it should, before its speed means anything.

It runs the steps of `parity.bench.truth` in the precision that it will be timed in. Compared are the losses, each by
itself, and what the run has done to each parameter: p_T - p_0, whose rounding is not hidden behind a large p. In a
precision with unit eps these may differ from the truth by

    loss      CAP eps sqrt(n) / 2
    update    CAP (eps sqrt(n) / 2 + sqrt(T) eps / 2 |p| / |p_T - p_0|)

n is the number of elements of the largest activation of the batch, that is, of the sums behind a gradient: what such a
sum honestly loses, added one term after the other (`parity.compare.rounding`). The second term is what storing the
parameters costs: each of T steps rounds every element by at most eps / 2, up or down. CAP is the factor between two
honest programs of that rule. No choice hangs on rounding in these steps, so nothing larger is to be forgiven.

In TF32 tensors are float32, but an operand of a product is rounded by up to u = 2^-11, and nearly every image has
choices that hang on it. A loss comes through five layers of products, with two operands each: e = u sqrt(10). Of values
that are normally distributed around a choice's switch, an error of e moves a share e / pi across it, where the gradient
becomes another one altogether; the CNN has six layers of choices (four ReLUs, two poolings). So there is added

    loss      CAP e                   0.3 %
    update    CAP sqrt(6 e / pi)      11 %

That is coarse: what is wrong by less than a tenth passes, and products in bfloat16 may pass for TF32's. A program's
formula is for its float32 row to show, which is the same program but for a switch. On real GPUs none of it has been
measured; TF32 as emulated on the CPU passes (tests/bench/test_judge.py).

A timed call begins with the same steps, and its losses there are held against the same bound. For what comes after them
see `parity.bench.ending`, which has two steps from a later state judged here: their losses are the formula's at its
weights. Their updates hold a momentum that nobody knows, but both hold the same one: it is not in their difference,
which must be what the two gradients make, within

    CAP (eps sqrt(n) / 2 (|u| + |v|) + sqrt(2) eps / 2 |p|) / |u - v|

of updates u and v without that momentum: what is summed, and storing two parameters. A small loss and its gradients
have lost what small differences of the outputs lose (`parity.compare.formula`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.bench.truth import Probe, Truth, update
from parity.compare import loss_differences, relative_difference
from parity.compare.formula import cancelled, small_loss_share, vacuous_problem
from parity.compare.measure import frobenius, ratio
from parity.compare.rounding import CAP
from parity.contract import CNN_ACTIVATIONS, CNN_PARAMETERS, SGD, Weights, storage
from parity.oracle.model import Arrays

__all__ = ["Judged", "Step", "judge", "judge_call", "judge_steps", "malformed", "summed", "unusable", "worst"]

TF32_ERROR = 2.0**-11 * math.sqrt(10)
"""Of what has come through all layers: e above."""

LARGEST = max(math.prod(shape) for shape in CNN_ACTIVATIONS.values())


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The comparison that comes nearest to what is allowed, or exceeds it most.

    Args:
        place: what was compared: "loss", or a parameter's name.
        difference: relative.
        allowed: likewise.
        problem: why nothing could be compared; None where something was.
        reference: what it was held against.
    """

    place: str
    difference: float
    allowed: float
    problem: str | None = None
    reference: str = "the formula's"

    @property
    def passed(self) -> bool:
        """Whether the contestant computes what it should."""
        return self.problem is None and self.difference <= self.allowed

    @property
    def line(self) -> str:
        """What to say of it."""
        if self.problem:
            return self.problem
        words = "is" if self.passed else "differs:"
        return f"{self.place} {words} {self.difference:.1e} from {self.reference}, {self.allowed:.1e} is allowed"


def judge(truth: Truth, dtype: str, losses: NDArray[np.floating], weights: Weights) -> Judged:
    """Compare a run with the truth.

    Args:
        truth: what should have been computed.
        dtype: the precision of the run.
        losses: (steps,), the contestant's.
        weights: the contestant's after the run, canonical.
    """
    if problem := _malformed_losses(losses, len(truth.losses)) or malformed(weights):
        return unusable(problem)
    return worst(_compared(truth, dtype, losses, weights))


def worst(found: Iterable[Judged]) -> Judged:
    """The one that comes nearest to what is allowed, or exceeds it most; before all others one that proves nothing."""
    # NaN orders as nothing does: an infinite difference is the largest there is.
    return max(found, key=lambda judged: (judged.problem is not None, ratio(judged.difference, judged.allowed)))


def judge_call(truth: Truth, dtype: str, losses: NDArray[np.floating], steps: int) -> Judged:
    """Compare a call whose plan begins with the truth's, or is the beginning of it.

    Args:
        truth: what should have been computed in the steps that both have.
        dtype: the precision of the call.
        losses: what it returned.
        steps: of its plan.
    """
    if problem := _malformed_losses(losses, steps):
        return unusable(problem)
    if not (finite := np.isfinite(losses)).all():
        return unusable(f"run() returned {losses[~finite][0]} as the loss of step {int(np.argmin(finite))}")
    return _judged_losses(truth, dtype, losses[: len(truth.losses)])


Step = tuple[NDArray[np.floating], Weights]
"""The one loss of a step, and the weights after it."""


def judge_steps(pair: Sequence[Probe], ran: Sequence[Step], sgd: SGD, dtype: str, *, steps: int) -> Iterator[Judged]:
    """Compare two steps from the state that a contestant has come to.

    Args:
        pair: the two batches, at that state's weights.
        ran: what the contestant made of each.
        sgd: hyper-parameters.
        dtype: the precision of the steps.
        steps: taken before them.
    """
    if problem := next((_malformed_losses(x, 1) or malformed(w) for x, w in ran), None):
        yield unusable(problem)
        return
    eps, sums = float(np.finfo(storage(dtype)).eps), summed(len(pair[0].rows), dtype)
    lost = [small_loss_share(cancelled({"logits": each.logits}, eps=eps), each.loss) for each in pair]
    for each, share, (loss, _) in zip(pair, lost, ran, strict=True):
        difference = float(loss_differences(loss, np.array([each.loss])).max())
        yield Judged(
            place=f"loss after {steps:,} steps", difference=difference, allowed=CAP * (sums + _lost(dtype)) + share
        )
    p = pair[0].weights
    u, v = (_without_momentum(each, sgd, steps) for each in pair)
    for name in p:
        right = u[name] - v[name]
        honest = [CAP * (sums + _switched(dtype)) + share for share in lost]
        summing = honest[0] * frobenius(u[name]) + honest[1] * frobenius(v[name])
        allowed = ratio(summing + CAP * math.sqrt(2) * eps / 2 * frobenius(p[name]), frobenius(right))
        if allowed < 1:  # what is learnt by heart has updates of rounding alone, which say nothing
            apart = ran[0][1][name].astype(np.float64) - ran[1][1][name].astype(np.float64)
            place = f"{name} after {steps:,} steps"
            yield Judged(place=place, difference=relative_difference(apart, right), allowed=allowed)


def _without_momentum(each: Probe, sgd: SGD, steps: int) -> Arrays:
    """What the step adds to each parameter."""
    moved = update(each.weights, each.gradients, sgd, steps)
    return {name: moved[name] - value for name, value in each.weights.items()}


def unusable(problem: str) -> Judged:
    """What cannot be compared."""
    return Judged(place="", difference=math.inf, allowed=0.0, problem=problem)


def _malformed_losses(losses: NDArray[np.floating], steps: int) -> str | None:
    return f"run() returned losses of shape {losses.shape}, not {(steps,)}" if losses.shape != (steps,) else None


def malformed(weights: Weights) -> str | None:
    """Why these are no weights of the CNN; None where they are."""
    if weights.keys() != CNN_PARAMETERS.keys():
        return f"weights() has other tensors: {', '.join(sorted(weights.keys() ^ CNN_PARAMETERS.keys()))}"
    for name, shape in CNN_PARAMETERS.items():
        if np.shape(weights[name]) != shape:
            return f"weights() returned {name} of shape {np.shape(weights[name])}, not {shape}"
    return None


def _compared(truth: Truth, dtype: str, losses: NDArray[np.floating], weights: Weights) -> Iterator[Judged]:
    yield _judged_losses(truth, dtype, losses)
    eps, steps, sums = float(np.finfo(storage(dtype)).eps), len(truth.plan), summed(truth.plan.shape[1], dtype)
    for name, right in truth.weights.items():
        start = truth.start[name].astype(np.float64)
        stored = math.sqrt(steps) * eps / 2 * ratio(frobenius(right), frobenius(right - start))
        allowed = CAP * (sums + stored + _switched(dtype))
        difference = relative_difference(weights[name].astype(np.float64) - start, right - start)
        yield Judged(place=name, difference=difference, allowed=allowed, problem=vacuous_problem(allowed))


def _judged_losses(truth: Truth, dtype: str, losses: NDArray[np.floating]) -> Judged:
    """The first steps' losses, as many as are given."""
    worst = float(loss_differences(losses, truth.losses[: len(losses)]).max())
    allowed = CAP * (summed(truth.plan.shape[1], dtype) + _lost(dtype))
    return Judged(place="loss", difference=worst, allowed=allowed)


def _lost(dtype: str) -> float:
    """What a loss loses by products whose operands are rounded: e, in TF32."""
    return TF32_ERROR if dtype == "tf32" else 0.0


def _switched(dtype: str) -> float:
    """What gradients lose by choices that such products switch."""
    return math.sqrt(6 * _lost(dtype) / math.pi)


def summed(batch_size: int, dtype: str) -> float:
    """What the sums behind a gradient honestly lose."""
    return float(np.finfo(storage(dtype)).eps) * math.sqrt(batch_size * LARGEST) / 2
