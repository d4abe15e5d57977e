"""How long a step takes: calls of a fixed length, one contestant after the other, in a new order each round.

A call of S steps takes a + b S seconds. S is chosen so that a call takes about as long as is asked for, longer where
the fixed part a (starting workers, copying the state) would be more than FIXED of it: a real run is longer still. Of
the times that this is told by the faster of two counts: one that was disturbed would make a call too short.

The first batches of a call are waited for where a loader's workers make them: such a contestant's calls have FED_STEPS
steps, or as many as take FED_SECONDS, for that wait to be a small part of them.

A machine that slows down slows all contestants of a round, so contestants are compared round by round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from parity.contract import Stream

__all__ = ["FED_SECONDS", "FED_STEPS", "FIXED", "LONGEST", "faster_of_two", "orders", "round_steps"]

FIXED = 0.05
LONGEST = 8
"""How many times as long as asked for a call may become."""

FED_STEPS, FED_SECONDS = 100, 1.0
"""The least of a contestant with workers: the one or the other."""

MOST_STEPS = 200_000
ENOUGH = 0.8
"""A call need not be longer than this share of what is asked for: the estimate was noisy."""

_PURPOSE = 13  # keeps the order of the rounds apart from other streams


def faster_of_two(call: Callable[[int], float], steps: int) -> float:
    """Seconds of the faster of two calls."""
    return min(call(steps), call(steps))


def round_steps(
    call: Callable[[int], float], *, short: int, short_seconds: float, target: float, fed: bool = False
) -> int:
    """How many steps a timed call has.

    Args:
        call: runs so many steps, and returns the seconds.
        short: a number of steps that has been run, and compiled, already; few large batches may be more than enough.
        short_seconds: how long they took, the faster of two calls.
        target: seconds that a call should take.
        fed: whether workers feed the contestant.
    """
    steps = max(math.ceil(target * short / short_seconds), 1)
    steps += steps == short  # two lengths tell the fixed part
    while True:
        call(steps)  # what compiles for a length compiles here
        seconds = faster_of_two(call, steps)
        slope = (seconds - short_seconds) / (steps - short)
        fixed = min(max(seconds - slope * steps, 0.0), seconds)
        wanted = min(max(target, fixed / FIXED), LONGEST * target)
        hungry = fed and steps < FED_STEPS and seconds < FED_SECONDS
        if (seconds >= ENOUGH * wanted and not hungry) or steps >= MOST_STEPS:
            return steps
        # By the mean, fixed part included: too few steps where that is large, which the next call shows. The slope
        # alone would give far too many where the short call happened to be disturbed.
        least = min(FED_STEPS, math.ceil(FED_SECONDS / ENOUGH * steps / seconds)) if hungry else 1
        steps = min(max(math.ceil(wanted * steps / seconds), least, steps + 1), MOST_STEPS)
        steps += steps == short


def orders(contestants: int, rounds: int, *, seed: int) -> list[Sequence[int]]:
    """For each round, the order in which the contestants take their turns.

    >>> [sorted(order) for order in orders(3, 2, seed=0)]
    [[0, 1, 2], [0, 1, 2]]
    """
    return [Stream(seed, _PURPOSE, number).permutation(contestants).tolist() for number in range(rounds)]
