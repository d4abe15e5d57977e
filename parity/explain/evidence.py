"""What is known of one side when its steps are explained: what it was given, and what it recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, StepTrace, Tensors, Weights

__all__ = ["Evidence"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Consecutive steps of one side.

    Args:
        side: its name.
        traces: what it recorded, step by step.
        rows: which examples each step was given.
        images: of the set that the rows count in, normalised, (size, C, H, W) in float64; None where the inputs are not
            the CNN's.
        labels: likewise, (size,).
        weights: given before the first step.
        momentum: given before the first step; {} where there is none yet.
        sgd: what the optimizer was asked to do.
        batch_size: asked for; the last batch of an epoch may have fewer.
        steps_per_epoch: of the plan.
        first_step: the number of the first of these steps in the run.
    """

    side: str
    traces: tuple[StepTrace, ...]
    rows: tuple[NDArray[np.int32], ...]
    images: NDArray[np.float64]
    labels: NDArray[np.integer]
    weights: Weights
    momentum: Weights
    sgd: SGD
    batch_size: int
    first_step: int = 0

    def before(self, step: int) -> tuple[Tensors, Tensors]:
        """The weights and the momentum that a step begins with, as the step before it left them."""
        if step == 0:
            return self.weights, self.momentum
        return self.traces[step - 1].parameters, self.traces[step - 1].momentum

    def tensors(self, kind: str) -> list[dict[str, NDArray[np.float64]]]:
        """One stage of every step in float64."""
        return [_doubles(getattr(trace, kind)) for trace in self.traces]


def _doubles(tensors: Tensors) -> dict[str, NDArray[np.float64]]:
    return {name: np.asarray(value, np.float64) for name, value in tensors.items()}
