"""Whether a timed call does to its end what was judged in its first steps.

Those have a truth (`parity.bench.truth`); the thousands after them have none that float32 could be held against, since
sooner or later rounding decides a choice in them. So the contestant runs the same plan once more, from the same state,
in pieces of as many steps as the truth has, each from where the last one ended. Held against each other are

    losses      of all steps together     | whole - pieces | / | pieces |
    weights     of all parameters         | whole - pieces | / | pieces - start |

each the Euclidean norm. Most programs give the same in both to the last bit. Others may differ by

    CAP (eps sqrt(n) / 2 + sqrt(T) eps / 2 |w| / |w - start|)

as in `parity.bench.judge`, of T steps; and where rounding has made another choice, by what that makes of the rest. How
much is measured, where it is needed: the pieces are run again from weights that are moved at once by all the rounding
of T steps, each element by sqrt(T) eps of it, up or down. That has longer to grow than any rounding of the steps
themselves, and NULL_FACTOR times what it makes is allowed (`parity.compare.formula`); if that is as much as the steps
have made in all, the call is not compared, and the contestant is out: who computes something else in every call, say.

The pieces are judged too: the first by the truth's losses, and the state behind the last by two steps more, on batches
without a choice that hangs on rounding: see `parity.bench.judge`.

A call that has no more steps than the truth is held against the truth alone, weights included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.bench.judge import Judged, judge, judge_call, judge_steps, malformed, summed, unusable, worst
from parity.bench.process import ContestantError
from parity.bench.truth import Truth, probe
from parity.compare.formula import NULL_FACTOR, vacuous_problem
from parity.compare.measure import frobenius, ratio
from parity.compare.rounding import CAP
from parity.contract import SGD, InputError, Stream, Weights, storage

__all__ = ["Ending", "Ran"]

Ask = Callable[..., Any]

_PURPOSE = 15  # keeps the signs of the nudges apart from other streams


@dataclass(frozen=True, kw_only=True, eq=False)
class Ran:
    """What a call returned, (steps,) losses, and the weights that it led to."""

    losses: NDArray[np.floating]
    weights: Weights


class Ending:
    """What a contestant's timed calls must lead to.

    Args:
        ask: a request to its process; see `parity.bench.contender`.
        truth: of the plan's first steps.
        plan: (steps, batch), that is timed.
        sgd: hyper-parameters.
        dtype: the precision.
        timeout: seconds that the same plan may take in pieces.

    Raises:
        ContestantError: it takes longer, or one of the pieces fails.
    """

    def __init__(
        self, ask: Ask, truth: Truth, plan: NDArray[np.int32], sgd: SGD, dtype: str, *, timeout: float = math.inf
    ) -> None:
        self._timeout = timeout
        self._ask, self._truth, self._plan, self._sgd, self._dtype = ask, truth, plan, sgd, dtype
        self._pieces = self._in_pieces(None) if len(plan) > len(truth.plan) else None
        self._null: Ran | None = None

    def judge_pieces(self, images: NDArray[np.uint8], labels: NDArray[np.integer], *, seed: int) -> Judged | None:
        """Judge what calls are held against; None where that is the truth.

        Args:
            images: the data set's.
            labels: likewise.
            seed: of the batches of the two steps.
        """
        if self._pieces is None:
            return None
        first = self._judged_beginning(self._pieces)
        if not first.passed:
            return first
        size, weights = self._plan.shape[1], self._pieces.weights
        try:
            pair = [probe(weights, images, labels, batch_size=size, seed=seed, number=number) for number in (0, 1)]
        except InputError:  # no image whose choices are clear with these weights: nothing more can be said
            return first
        ran = [self._ask("step", rows=each.rows) for each in pair]
        return worst([first, *judge_steps(pair, ran, self._sgd, self._dtype, steps=len(self._plan))])

    def judge(self, ran: Ran) -> Judged:
        """Judge a timed call."""
        first = self._judged_beginning(ran)
        if not first.passed:
            return first
        if self._pieces is None:
            return judge(self._truth.first(len(self._plan)), self._dtype, ran.losses, ran.weights)
        found = worst(self._apart(ran, {}))
        return found if found.passed else worst(self._apart(ran, self._nulls()))

    def _judged_beginning(self, ran: Ran) -> Judged:
        """The losses of the truth's steps; and whether there is something to compare in the others."""
        first = judge_call(self._truth, self._dtype, ran.losses, len(self._plan))
        if not first.passed:
            return first
        if problem := malformed(ran.weights):
            return unusable(problem)
        if broken := [name for name, value in ran.weights.items() if not np.isfinite(value).all()]:
            return unusable(f"after {len(self._plan):,} steps {broken[0]} is not finite")
        return first

    def _apart(self, ran: Ran, nulls: Mapping[str, float]) -> Iterator[Judged]:
        assert self._pieces is not None  # noqa: S101  a short call is held against the truth
        allowed = self._allowed(self._pieces)
        place = {"losses": "losses of all steps", "weights": f"weights after {len(self._plan):,} steps"}
        reference = f"those of the same steps in calls of {len(self._truth.plan)}"
        for what, difference in self._distances(ran).items():
            most = allowed[what] + NULL_FACTOR * nulls.get(what, 0.0)
            finite = math.isfinite(difference) and math.isfinite(most)  # pieces that are not finite say nothing
            yield Judged(
                place=place[what],
                difference=difference if finite else math.inf,
                allowed=most if finite else 0.0,
                problem=vacuous_problem(most) if finite else None,
                reference=reference,
            )

    def _distances(self, ran: Ran) -> dict[str, float]:
        """From the pieces, relative."""
        pieces, start = self._pieces, self._truth.start
        assert pieces is not None  # noqa: S101  as above
        moved, right = _vector(ran.weights), _vector(pieces.weights)
        losses = pieces.losses.astype(np.float64)
        return {
            "losses": ratio(frobenius(ran.losses.astype(np.float64) - losses), frobenius(losses)),
            "weights": ratio(frobenius(moved - right), frobenius(right - _vector(start))),
        }

    def _allowed(self, pieces: Ran) -> dict[str, float]:
        """What rounding makes where it decides nothing."""
        weights, eps = _vector(pieces.weights), float(np.finfo(storage(self._dtype)).eps)
        moved = frobenius(weights - _vector(self._truth.start))
        stored = math.sqrt(len(self._plan)) * eps / 2 * ratio(frobenius(weights), moved)
        allowed = CAP * (summed(self._plan.shape[1], self._dtype) + stored)
        return {"losses": allowed, "weights": allowed}

    def _nulls(self) -> dict[str, float]:
        """How far the pieces come from other rounding; measured once, where it is needed."""
        self._null = self._null or self._in_pieces(_nudged(self._truth.start, len(self._plan), self._dtype))
        return self._distances(self._null)

    def _in_pieces(self, start: Weights | None) -> Ran:
        """Run the plan in pieces; from other weights, if they are given."""
        self._ask("begin", weights=start)
        length = len(self._truth.plan)
        starts = range(0, len(self._plan), length)
        losses, end = [], time.monotonic() + self._timeout
        for first in starts:
            if time.monotonic() > end:
                reason = f"{len(self._plan):,} steps, run in calls of {length}, took longer than {self._timeout:g} s"
                raise ContestantError(reason)
            losses.append(self._ask("go_on", plan=self._plan[first : first + length]))
        return Ran(losses=np.concatenate([np.atleast_1d(piece) for piece in losses]), weights=self._ask("weights"))


def _vector(weights: Weights) -> NDArray[np.float64]:
    """All parameters, in the order of their names, which is the same in all that are compared."""
    return np.concatenate([np.ravel(weights[name]).astype(np.float64) for name in sorted(weights)])


def _nudged(weights: Weights, steps: int, dtype: str) -> dict[str, NDArray[np.floating]]:
    """Each element moved up or down by what so many steps round it by."""
    size = math.sqrt(steps) * float(np.finfo(storage(dtype)).eps)
    nudged = {}
    for number, (name, value) in enumerate(weights.items()):
        signs = np.where(Stream(steps, _PURPOSE, number).uniform(value.size) < 0.5, -1.0, 1.0).reshape(value.shape)
        nudged[name] = (value.astype(np.float64) * (1 + size * signs)).astype(dtype)
    return nudged
