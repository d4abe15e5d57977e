"""Every stage of one training step, as arrays that two sides can be compared by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["STAGES", "StepTrace", "Tensors"]

Tensors = Mapping[str, NDArray[np.generic]]
"""Arrays by name."""

STAGES = (
    "batch",
    "weights",
    "activations",
    "logits",
    "loss",
    "statistics",
    "gradients",
    "momentum",
    "update",
    "evaluation",
)
"""The stages of a step, in the order in which a verdict looks for the first that breaks.

"statistics" are what the forward pass updates by itself, a batch norm's running mean for example; "evaluation" is the
model after the step, on other inputs.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class StepTrace:
    """What one step computed, in canonical layout; every array is a copy, in the dtype that it was computed in.

    Args:
        batch: what the model was fed: {"images": (B, C, H, W) after normalisation, "labels": (B,)} for the CNN, the
            input arrays by number ("0", "1", ...) for other programs.
        weights: the parameters before the step, and tensors without a gradient (running statistics).
        activations: outputs of layers, in the order of the forward pass; their names are the same on both sides for the
            CNN, and each program's own elsewhere.
        logits: {"logits": the model's outputs}.
        loss: {"loss": ()}, before the update.
        gradients: of the loss, by parameter, in the order of the forward pass (the backward pass computes the last
            first); as the optimizer receives them, that is after clipping.
        momentum: the optimizer's tensors after the step; {} when it keeps none.
        parameters: as `weights`, after the step.
        parents: where activations were captured from the program's graph: the activations that each is computed from,
            by name. Empty where names are enough to compare by.
    """

    batch: Tensors
    weights: Tensors
    activations: Tensors
    logits: Tensors
    loss: Tensors
    gradients: Tensors
    momentum: Tensors
    parameters: Tensors
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
