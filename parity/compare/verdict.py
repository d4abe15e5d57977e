"""Whether two sides compute the same formula, from a run in float64.

Honest implementations agree there to about 1e-15 for thousands of steps: rounding enters at 1e-16 and training has not
had time to amplify it. Another formula that the data exercises shows within those steps, and far above: a learning rate
rounded to float32, off by 5e-8 of itself, changes parameters and momentum by 1e-8 (real images, batch 4). The bound of
1e-9 over the first 200 steps lies between the two, with six orders of magnitude left to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from parity.compare.measure import Gap, loss_differences
from parity.compare.stages import Stage

__all__ = ["BOUND", "JUDGED_STEPS", "Outcome", "StateGap", "Verdict", "judge"]

BOUND = 1e-9
JUDGED_STEPS = 200


class Outcome(StrEnum):
    """What a verdict can be."""

    MATCH = "match"
    DIFFERS = "differs"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class StateGap:
    """How far two states are apart after so many steps; `momentum` is None where neither side keeps one.

    `parameters` and `momentum` are the largest, `tensors` has the difference of each.
    """

    steps: int
    parameters: Gap
    momentum: Gap | None
    tensors: Mapping[Stage, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome, the first quantity that broke the bound (None for a match), and what was compared."""

    outcome: Outcome
    reason: str | None
    steps: int
    largest_loss: float
    largest_loss_step: int
    largest_parameters: Gap
    largest_momentum: Gap | None


def judge(a: NDArray[np.floating], b: NDArray[np.floating], gaps: list[StateGap]) -> Verdict:
    """Judge the first `JUDGED_STEPS` steps of two float64 runs.

    Args:
        a: (steps,) losses of one side, at least one.
        b: (steps,) losses of the other.
        gaps: the states' distances at step counts within those steps, in order, at least one.

    Raises:
        ValueError: there is nothing to compare, so that there can be no pass.
    """
    differences = loss_differences(a[:JUDGED_STEPS], b[:JUDGED_STEPS])
    gaps = [gap for gap in gaps if gap.steps <= JUDGED_STEPS]
    if not (len(differences) and gaps):
        raise ValueError("no step was compared")
    worst = int(differences.argmax())
    reason = _first_break(differences, gaps)
    return Verdict(
        outcome=Outcome.DIFFERS if reason else Outcome.MATCH,
        reason=reason,
        steps=len(differences),
        largest_loss=float(differences[worst]),
        largest_loss_step=worst,
        largest_parameters=max((gap.parameters for gap in gaps), key=lambda gap: gap.difference),
        largest_momentum=max(
            (gap.momentum for gap in gaps if gap.momentum), key=lambda gap: gap.difference, default=None
        ),
    )


def _first_break(differences: NDArray[np.float64], gaps: list[StateGap]) -> str | None:
    """What breaks the bound first: the loss of step k is computed before the update that state k + 1 holds."""
    breaks: list[tuple[float, str]] = []
    # Not `> BOUND`: that would let NaN through.
    if len(broken := np.flatnonzero(~(differences <= BOUND))):
        step = int(broken[0])
        breaks.append((step, f"the loss of step {step} by {differences[step]:.1e}"))
    for gap in gaps:
        for kind, part in (("parameters", gap.parameters), ("momentum", gap.momentum)):
            if part and not part.difference <= BOUND:
                breaks.append(
                    (gap.steps - 0.5, f"{kind} {part.tensor} after {gap.steps} steps by {part.difference:.1e}")
                )
    return min(breaks, key=lambda item: item[0])[1] if breaks else None
