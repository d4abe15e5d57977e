"""Runs of one side whose initial weights are one unit in the last place away, trained beside it on the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.compare import Spread, largest_gap, nudge
from parity.contract import Ensemble, NonFiniteLossError
from parity.lane import Lane
from parity.problem import Problem
from parity.settings import Settings

__all__ = ["Members", "start_members"]


@dataclass(frozen=True, kw_only=True)
class Members:
    """The members' lane: which of the sides it is, and how many there are."""

    lane: Lane
    number: int

    def advance(self, members: Sequence[Any], plan: NDArray[np.int32]) -> tuple[Any, ...]:
        """The members after a chunk.

        Raises:
            NonFiniteLossError: a member's loss is not finite; the ensemble would allow anything.
        """
        moved, losses = self.lane.run_many(members, plan)
        if not np.isfinite(losses).all():
            problem = "a loss of its ensemble is not finite"
            raise NonFiniteLossError(f"{self.lane.side.name}: {problem}; try a smaller learning rate")
        return moved

    def spread(self, steps: int, own: Any, members: Sequence[Any]) -> Spread:
        """How far the members are from the side's own run."""
        weights = self.lane.weights(own)
        gaps = [largest_gap(weights, self.lane.weights(member)) for member in members]
        return Spread(steps=steps, members=tuple(gap.difference if gap else 0.0 for gap in gaps))


def start_members(
    lanes: Sequence[Lane], states: Sequence[Any], problem: Problem, settings: Settings, count: int
) -> tuple[Members, tuple[Any, ...]]:
    """An ensemble of the side that can train many at once, or else of the first.

    Args:
        lanes: the sides', started.
        states: their first states.
        problem: whose initial weights are nudged.
        settings: seed and dtype of the nudges.
        count: members, at least one.
    """
    able = [number for number, lane in enumerate(lanes) if isinstance(lane.side.implementation, Ensemble)]
    number = able[0] if able else 0
    lane, state = lanes[number], states[number]
    nudged = [nudge(problem.weights, seed=settings.seed + member, dtype=settings.dtype) for member in range(count)]
    return Members(lane=lane, number=number), tuple(lane.restore(state, weights, {}) for weights in nudged)
