"""Watches a run chunk by chunk, and goes back when two sides part: the run ends with a cause, not with a number."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from parity.compare import FACTOR, JUDGED_STEPS, Finding, Spread, StateGap
from parity.evidence import explain_steps
from parity.pair import Pair, start_pair
from parity.running.replay import Parting, first_finding, jumped, local_finding, replay
from parity.settings import Settings

__all__ = ["Outside", "Watch"]

ATTEMPTS = 3
"""Chunks that are taken again at most: each costs some hundred steps, and a gap that jumps thrice without a cause to be
found will not show one."""

SPOT = 20
"""Once a flip has parted the sides, their gap says little. So of every so many chunks one step is taken by both sides
from the same state: a fault that begins later still shows there. Such a step costs as much as half a chunk."""


EXPLAINED = 6
"""Steps that a cause is fitted to, where as many are left in the chunk."""


@dataclass(frozen=True, kw_only=True)
class Outside:
    """The pair is further apart than the envelope allows, after so many steps."""

    steps: int
    gap: float
    limit: float


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """The chunks since the last look (first step, plan), and where the sides stood before the first and the last."""

    start: Pair
    last: Pair
    chunks: tuple[tuple[int, NDArray[np.int32]], ...]


_UNKNOWN = "float64 does not show it from the same state: a lower precision, or something that counts steps"


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
        self.late: Finding | None = None
        self._unchecked: _Stretch | None = None
        self._attempts = 0
        self._parameters = self._momentum = self._envelope = 0.0

    def look(self, before: Pair, plan: NDArray[np.int32], after: Pair, gap: StateGap, spread: Spread | None) -> None:
        """Compare a chunk's end with what came before; take the chunk again if the sides parted in it.

        Args:
            before: where the sides stood at the chunk's beginning.
            plan: the chunk.
            after: where they stand at its end.
            gap: the sides' there.
            spread: the ensemble's at its end; None without one.
        """
        parameters = gap.parameters.difference
        momentum = gap.momentum.difference if gap.momentum else 0.0
        outside = self._leaves_envelope(parameters, spread)
        parts = self._jumped(parameters, self._parameters) or self._jumped(momentum, self._momentum)
        self._parameters, self._momentum = max(self._parameters, parameters), max(self._momentum, momentum)
        first_step = gap.steps - len(plan)
        if self.parting and self.parting.explained:
            self._spot(before, plan, first_step)
        elif self.parting is None and (parts or outside) and self._attempts < ATTEMPTS:
            self._attempts += 1
            self.parting = self._replay(before, plan, after, first_step)
        if outside and self.outside is None and not self._excused():
            self.outside = Outside(steps=gap.steps, gap=parameters, limit=FACTOR * self._envelope)

    def finish(self) -> None:
        """Look at the last chunk too: a fault may have begun since the last look."""
        if self._unchecked:
            self._search(self._unchecked)

    def _excused(self) -> bool:
        """A flip explains how far the sides are apart after it, if they were inside the envelope before it."""
        parting = self.parting
        return parting is not None and parting.explained and parting.apart <= FACTOR * self._envelope

    def _jumped(self, gap: float, largest: float) -> bool:
        return jumped(gap, largest, self.settings.dtype)

    def _replay(self, before: Pair, plan: NDArray[np.int32], after: Pair, first_step: int) -> Parting | None:
        found = replay(before, plan, after, first_step=first_step, dtype=self.settings.dtype)
        if found is None:
            return None
        parting, pair = found
        following = plan[parting.step - first_step :]
        finding = self._settled(parting.finding, pair, following) if parting.finding else None
        return replace(parting, finding=finding)

    def _spot(self, before: Pair, plan: NDArray[np.int32], first_step: int) -> None:
        """Look at one step of every SPOT chunks, and of every chunk whose batch is smaller: it may be treated apart."""
        if self.late:
            return
        known = self._unchecked
        start, chunks = (known.start, known.chunks) if known else (before, ())
        self._unchecked = _Stretch(start=start, last=before, chunks=(*chunks, (first_step, plan)))
        if len(self._unchecked.chunks) == SPOT or plan.shape[1] != self.settings.batch_size:
            self._search(self._unchecked)
            self._unchecked = None

    def _search(self, stretch: _Stretch) -> None:
        """Take a step of the last chunk from one state; where it shows a fault, find the first one of all chunks."""
        step, plan = stretch.chunks[-1]
        if local_finding(stretch.last, plan[0], step=step, dtype=self.settings.dtype):
            found = first_finding(stretch.start, stretch.chunks, self.settings.dtype)
            self.late = self._settled(found[0], found[1], found[2][np.newaxis]) if found else None

    def _settled(self, finding: Finding, pair: Pair, following: NDArray[np.int32]) -> Finding:
        """What kind of finding it is, and its cause; `following` are the rows of its step, and of those after it.

        One of a float32 run's first steps, where float64 has matched, is one of precision. Later a program that begins
        in float64 at this state may show it; if it does not, it may be the precision, or something that counts steps.
        """
        if self.settings.dtype == "float64":
            return self._explained(finding, pair, following)
        if finding.step is not None and finding.step < JUDGED_STEPS:
            return replace(finding, kind="precision", detail=f"{finding.detail}; float64 matched in this step")
        step = finding.step or 0
        settings = replace(self.settings, dtype="float64", sgd=self.settings.sgd.resumed(step))
        exact = start_pair(pair.sides, pair.problem, settings, self.device)
        exact = exact.restore(*pair.lanes[0].tensors(pair.states[0]))
        if local_finding(exact, following[0], step=step, dtype="float64"):
            return self._explained(finding, exact, following)
        return replace(finding, kind="unknown", detail=f"{finding.detail}; {_UNKNOWN}")

    def _explained(self, finding: Finding, pair: Pair, following: NDArray[np.int32]) -> Finding:
        """With its cause: what each side makes of a few steps from here, in float64."""
        batches, first_step = list(following[:EXPLAINED]), finding.step or 0
        explanation = explain_steps(pair.resynchronised(), batches, self.settings, first_step=first_step)
        known = explanation.causes or explanation.unknown
        return replace(finding, detail=f"{finding.detail}; cause: {explanation.line}") if known else finding

    def _leaves_envelope(self, gap: float, spread: Spread | None) -> bool:
        if spread is None:
            return False
        self._envelope = max(self._envelope, *spread.members)
        return not gap <= FACTOR * self._envelope
