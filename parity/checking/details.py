"""The tensors of a check that are kept to be looked at: each place's worst step, and of the places the worst.

A tensor is looked at while its step is there; afterwards only its histogram and its largest elements are left. It takes
time, more than comparing norms does, and is for those who show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from parity.compare import Detail, Rung, Stage, stage_tensors, tensor_detail
from parity.contract import StepTrace

__all__ = ["KEPT", "TIE_PROBE", "Details"]

KEPT = 64
"""Places of each phase whose details are kept: more than the CNN has."""

TIE_PROBE = "tie probe"
"""The phase of the step on inputs full of ties; that of the steps and of the outputs after them is ""."""

Arrays = Mapping[Stage, NDArray[np.generic]]


class Details:
    """What has been kept so far, of all phases."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, Stage], tuple[Rung, Detail]] = {}

    def look(self, rungs: Iterable[Rung], a: StepTrace, b: StepTrace, *, phase: str = "") -> None:
        """Keep the tensors of a step that are worse than what is kept of their places.

        Args:
            rungs: what came of comparing the step.
            a: one side's.
            b: the other's, under the same names and in the same layout.
            phase: that the step belongs to.
        """
        self.look_at(rungs, stage_tensors(a), stage_tensors(b), phase=phase)

    def look_at(self, rungs: Iterable[Rung], a: Arrays, b: Arrays, *, phase: str = "") -> None:
        """The same for tensors by their places."""
        for rung in rungs:
            x, y = a.get(rung.place), b.get(rung.place)
            if x is None or y is None or x.shape != y.shape or not self._is_worth_it(rung, phase):
                continue
            detail = tensor_detail(rung.place, x, y, step=rung.step, phase=phase)
            self._kept[phase, rung.place] = (rung, detail)
            of_phase = {key: _rank(kept) for key, (kept, _) in self._kept.items() if key[0] == phase}
            if len(of_phase) > KEPT:
                del self._kept[min(of_phase, key=lambda key: of_phase[key])]

    def _is_worth_it(self, rung: Rung, phase: str) -> bool:
        known = self._kept.get((phase, rung.place))
        ranks = [_rank(kept) for (of, _), (kept, _) in self._kept.items() if of == phase]
        if known is None and len(ranks) >= KEPT:
            return _rank(rung) > min(ranks)
        return known is None or _rank(rung) > _rank(known[0])

    def found(self) -> tuple[Detail, ...]:
        """The details, in the order in which their places first came."""
        return tuple(detail for _, detail in self._kept.values())


def _rank(rung: Rung) -> tuple[bool, bool, float]:
    """What breaks is worse than what agrees, and what says nothing comes last."""
    return rung.broken, rung.judged, rung.share
