"""The tensors of a check that are kept to be looked at: each place's worst step, and of the places the worst.

A tensor is looked at while its step is there; afterwards only its histogram and its largest elements are left.
"""

from __future__ import annotations

from collections.abc import Iterable

from parity.compare import Detail, Rung, Stage, stage_tensors, tensor_detail
from parity.contract import StepTrace

__all__ = ["KEPT", "Details"]

KEPT = 64
"""Places whose details are kept: more than the CNN has."""


class Details:
    """What has been kept so far.

    Args:
        phase: of the steps: "" for the ordinary ones.
    """

    def __init__(self, phase: str = "") -> None:
        self.phase = phase
        self._kept: dict[Stage, tuple[Rung, Detail]] = {}

    def look(self, rungs: Iterable[Rung], a: StepTrace, b: StepTrace) -> None:
        """Keep the tensors of a step that are worse than what is kept of their places.

        Args:
            rungs: what came of comparing the step.
            a: one side's.
            b: the other's, under the same names and in the same layout.
        """
        first, second = stage_tensors(a), stage_tensors(b)
        for rung in rungs:
            x, y = first.get(rung.place), second.get(rung.place)
            if x is None or y is None or x.shape != y.shape or not self._is_worth_it(rung):
                continue
            detail = tensor_detail(rung.place, x, y, step=rung.step, phase=self.phase)
            self._kept[rung.place] = (rung, detail)
            if len(self._kept) > KEPT:
                del self._kept[min(self._kept, key=lambda place: _rank(self._kept[place][0]))]

    def _is_worth_it(self, rung: Rung) -> bool:
        known = self._kept.get(rung.place)
        if known is None and len(self._kept) >= KEPT:
            return _rank(rung) > min(_rank(kept) for kept, _ in self._kept.values())
        return known is None or _rank(rung) > _rank(known[0])

    def found(self) -> tuple[Detail, ...]:
        """The details, in the order in which their places first came."""
        return tuple(detail for _, detail in self._kept.values())


def _rank(rung: Rung) -> tuple[bool, bool, float]:
    """What breaks is worse than what agrees, and what says nothing comes last."""
    return rung.broken, rung.judged, rung.share
