"""`parity check` as a function: a verdict on two programs within seconds.

In float64 every stage of a few steps is compared, then one step full of ties, the outputs after the steps, and the fast
path (`run`) against the steps that were observed: see `parity.compare.formula`. If that matches, float32 is judged:
see `parity.compare.rounding`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from parity.checking.details import Details
from parity.checking.double import compare_double, double_calls
from parity.checking.single import Single, compare_single, single_calls, start_single
from parity.compare import (
    Blame,
    Detail,
    Finding,
    Rounding,
    Rung,
)
from parity.contract import InputError
from parity.data import Loader
from parity.explain import Explanation
from parity.pair import Pair, start_pair
from parity.problem import Problem
from parity.settings import Settings, Side, resolve_device

__all__ = ["STEPS", "Check", "check"]

STEPS = 6
"""Steps observed: the first has no momentum yet, the second and third show how it is kept, the rest repeat. The last
has half the examples: a mean that divides by the full batch shows only there."""

ROUNDING_STEPS = 5
"""An odd number, so that the median is one of them."""

_EVALUATED = 64  # test examples: the evaluation is compared output by output, not counted

Batch = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was compared, and what came of it.

    Args:
        descriptions: each side's line on how it computes.
        device: the one used.
        rungs: every tensor of every observed float64 step, then of the evaluation and the tie probe.
        fast_rungs: for each side, what its `run` left beside what its `observe` had recorded, in float64.
        rounding: every tensor's float32 errors; empty when float64 did not match, or a side refuses float32.
        fast_rounding: for each side, the errors of what its `run` leaves beside those of its `observe`.
        refusal: why a side does not compute in float32, in its own words; None where both do.
        finding: the first difference; None for a match.
        blame: each side's distance to the oracle there; None for a match, or where there is no oracle.
        explanation: why the sides differ; None for a match, and for programs whose formulas are not known.
        seconds: in all.
        details: the tensors that differ most in float64, to be looked at, where asked for; not part of the JSON.
    """

    descriptions: tuple[str, str]
    device: str
    rungs: tuple[Rung, ...]
    fast_rungs: tuple[tuple[Rung, ...], tuple[Rung, ...]]
    rounding: tuple[Rounding, ...]
    fast_rounding: tuple[tuple[Rounding, ...], tuple[Rounding, ...]]
    refusal: str | None
    finding: Finding | None
    blame: Blame | None
    explanation: Explanation | None
    seconds: float
    details: tuple[Detail, ...] = field(default=(), repr=False)

    @property
    def line(self) -> str:
        """The verdict in one line."""
        if self.finding:
            return f"{self.finding.line}; cause: {self.explanation.line}" if self.explanation else self.finding.line
        worst = max((rung for rung in self.rungs if rung.judged), key=lambda rung: rung.share)
        exact = f"float64 to {100 * worst.share:.1f} % of what rounding explains ({worst.place})"
        if self.refusal:
            return f"match in float64 alone: {exact}; {self.refusal}"
        excess = max((*self.rounding, *itertools.chain(*self.fast_rounding)), key=lambda rounding: rounding.excess)
        return f"match: {exact}, float32 errors within a factor of {excess.excess:.1f} ({excess.place})"


def check(
    sides: tuple[Side, Side], problem: Problem, settings: Settings, *, steps: int = STEPS, details: bool = False
) -> Check:
    """Compare two programs.

    Args:
        sides: in the names and the layout of `problem.weights`.
        problem: data and initial weights.
        settings: batch size, seed, hyper-parameters and device; the dtype is not used, both are.
        steps: how many to observe in float64, at least one.
        details: whether to look at single elements of the tensors too, for a page: it takes longer.

    Raises:
        InputError: a side cannot start, or there is no step.
        SideError: a side raised an exception, or broke the protocol.
    """
    if steps < 1:
        raise InputError("steps", steps, "nothing would be compared", "give 1 or more")
    begin = time.perf_counter()
    device = resolve_device(sides, settings.device)
    batches = check_batches(problem.size, settings, steps)
    small, batches = _gather(problem, batches)
    exact = start_pair(sides, small, replace(settings, dtype="float64"), device, calls=double_calls(batches))
    looked = Details() if details else None
    with _compiling(exact):
        double = compare_double(exact, batches, settings, standings=ROUNDING_STEPS, details=looked)
    finding, explanation, single, refusal = double.finding, double.explanation, Single(), None
    if finding is None:
        pair, refusal = start_single(sides, small, settings, device, calls=single_calls(batches[:ROUNDING_STEPS]))
        if pair:
            with _compiling(pair):
                single = compare_single(pair, double.climb, batches, settings.seed)
            finding = single.finding(exact.names)
            explanation = single.explain(finding, exact.names, is_cnn=problem.is_cnn) if finding else None
    return Check(
        descriptions=(exact.lanes[0].description, exact.lanes[1].description),
        device=device,
        rungs=(*double.climb.rungs, *double.others),
        fast_rungs=double.fast,
        rounding=single.observed,
        fast_rounding=single.fast,
        refusal=refusal,
        finding=finding,
        blame=double.blame,
        explanation=explanation,
        seconds=time.perf_counter() - begin,
        details=looked.found() if looked else (),
    )


@contextmanager
def _compiling(pair: Pair) -> Iterator[None]:
    """What the sides were told to compile, and have not begun, is dropped at the end."""
    try:
        yield
    finally:
        pair.stop_compiling()


def check_batches(size: int, settings: Settings, steps: int) -> list[Batch]:
    """The rows of each step: the loader's own batches, epoch after epoch, the last of them cut in half."""
    loader = Loader(size=size, batch_size=settings.batch_size, seed=settings.seed)
    rows = (rows for epoch in itertools.count() for plan in loader.plans(epoch) for rows in plan)
    batches = list(itertools.islice(rows, steps))
    last = batches[-1]
    if steps > 1 and len(last) > 3:  # of two examples half is one, which batch norms refuse
        batches[-1] = last[: len(last) // 2]
    return batches


def _gather(problem: Problem, batches: Sequence[Batch]) -> tuple[Problem, list[Batch]]:
    """The problem with the rows that the batches name, and nothing else: only those need to go to the device."""
    used = np.concatenate(batches)
    ends = np.cumsum([len(batch) for batch in batches])[:-1]
    numbers = np.arange(len(used), dtype=np.int32)
    train = tuple(array[used] for array in problem.train)
    test = tuple(array[:_EVALUATED] for array in problem.test)
    return replace(problem, train=train, test=test), np.split(numbers, ends)
