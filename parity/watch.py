"""Watches a run chunk by chunk, and goes back when two sides part: the run ends with a cause, not with a number."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from parity.compare import FACTOR, Spread, StateGap
from parity.pair import Pair, start_pair
from parity.replay import Parting, as_precision, jumped, repeats, replay
from parity.settings import Settings

__all__ = ["Outside", "Watch"]

ATTEMPTS = 3
"""Chunks that are taken again at most: each costs some hundred steps, and a gap that jumps thrice without a cause to be
found will not show one."""


@dataclass(frozen=True, kw_only=True)
class Outside:
    """The pair is further apart than the envelope allows, after so many steps."""

    steps: int
    gap: float
    limit: float


class Watch:
    """What is known so far: the step at which the sides parted, and where the pair left its envelope.

    Args:
        settings: of the run.
        device: that it uses.
    """

    def __init__(self, settings: Settings, device: str) -> None:
        self.settings, self.device = settings, device
        self.parting: Parting | None = None
        self.outside: Outside | None = None
        self._attempts = 0
        self._parameters = self._momentum = self._envelope = 0.0

    def look(self, before: Pair, plan: NDArray[np.int32], gap: StateGap, spread: Spread | None) -> None:
        """Compare a chunk's end with what came before; take the chunk again if the sides parted in it.

        Args:
            before: where the sides stood at the chunk's beginning.
            plan: the chunk.
            gap: the sides' at its end.
            spread: the ensemble's at its end; None without one.
        """
        parameters = gap.parameters.difference
        momentum = gap.momentum.difference if gap.momentum else 0.0
        outside = self._leaves_envelope(parameters, spread)
        parts = self._jumped(parameters, self._parameters) or self._jumped(momentum, self._momentum)
        self._parameters, self._momentum = max(self._parameters, parameters), max(self._momentum, momentum)
        if self.parting is None and (parts or outside) and self._attempts < ATTEMPTS:
            self._attempts += 1
            self.parting = self._replay(before, plan, gap.steps - len(plan))
        if outside and self.outside is None and not (self.parting and self.parting.explained):
            self.outside = Outside(steps=gap.steps, gap=parameters, limit=FACTOR * self._envelope)

    def _jumped(self, gap: float, largest: float) -> bool:
        return jumped(gap, largest, self.settings.dtype)

    def _replay(self, before: Pair, plan: NDArray[np.int32], first_step: int) -> Parting | None:
        parting = replay(before, plan, first_step=first_step, dtype=self.settings.dtype)
        if parting is None or parting.finding is None or self.settings.dtype == "float64":
            return parting
        rows = plan[parting.step - first_step]
        exact = start_pair(before.sides, before.problem, replace(self.settings, dtype="float64"), self.device)
        shown = repeats(exact, parting, rows)
        return parting if shown else replace(parting, finding=as_precision(parting.finding))

    def _leaves_envelope(self, gap: float, spread: Spread | None) -> bool:
        if spread is None:
            return False
        self._envelope = max(self._envelope, *spread.members)
        return not gap <= FACTOR * self._envelope
