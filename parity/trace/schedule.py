"""After which steps the state is recorded, and after which it is kept in full.

Counted in steps done: the state after `count` steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.contract import InputError

__all__ = ["FIRST", "Schedule"]

FIRST = 4
"""The states after the first steps are all kept in full: most faults show there."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Which states of a run of `limit` steps are recorded.

    Args:
        limit: steps planned, >= 1.
        every: distance of recorded states, >= 1; those after the first four steps and after the last are recorded too.
    """

    limit: int
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError("every", self.every, "it is less than 1", "give 1 or more")

    @property
    def moves_dtype(self) -> str:
        """The dtype that projections' moves are kept in: with fewer states there is room, and need, for float64."""
        return "float32" if self.every == 1 else "float64"

    def is_recorded(self, count: int) -> bool:
        """Whether the state after `count` steps is recorded."""
        return count <= FIRST or count % self.every == 0 or count == self.limit

    def is_full(self, count: int) -> bool:
        """Whether a recorded state is kept in full: the first recorded at or after each power of two is, for example.

        There is a power of two in (a, b] if and only if b has more binary digits than a.
        """
        doubles = count.bit_length() > max(count - self.every, 0).bit_length()
        return count <= FIRST or count == self.limit or doubles

    def pieces(self, plan: NDArray[np.int32], done: int) -> Iterator[NDArray[np.int32]]:
        """Cut a (steps, batch) plan, which begins after `done` steps, behind each recorded step and at the limit."""
        first = 0
        for last in range(1, min(len(plan), self.limit - done) + 1):
            if last == len(plan) or self.is_recorded(done + last):
                yield plan[first:last]
                first = last
