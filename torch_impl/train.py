"""One training step, and many of them: forward, mean cross-entropy, backward, SGD."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

__all__ = ["Step", "evaluate", "train_step", "train_steps"]

Step = Callable[[nn.Module, torch.optim.Optimizer, Tensor, Tensor], Tensor]
"""A training step, plain or compiled: model, optimizer, normalised images and labels in, loss out."""


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Float[Tensor, "batch 3 32 32"],
    labels: Int[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """Update model and optimizer in place; returns the loss before the update."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    torch.autograd.backward(loss)
    optimizer.step()
    return loss.detach()


def normalise(table: Float[Tensor, " 256"], pixels: UInt8[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Look each pixel up; the table's values are the same bits on every side."""
    return table[pixels.int()]


def train_steps(
    step: Step,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    table: Float[Tensor, " 256"],
    images: UInt8[Tensor, "size 3 32 32"],
    labels: Int[Tensor, " size"],
    plan: Int[Tensor, "steps batch"],
) -> Float[Tensor, " steps"]:
    """One step for each row of the plan, in place; the losses stay on the device, so that nothing waits for them."""
    losses = torch.empty(len(plan), dtype=table.dtype, device=table.device)
    for number, rows in enumerate(plan):
        losses[number] = step(model, optimizer, normalise(table, images[rows]), labels[rows])
    return losses


@torch.no_grad()
def evaluate(
    model: nn.Module, table: Float[Tensor, " 256"], images: UInt8[Tensor, "size 3 32 32"], batch_size: int = 500
) -> Float[Tensor, "size 10"]:
    """Logits of all images, in order."""
    return torch.cat([model(normalise(table, batch)) for batch in torch.split(images, batch_size)])
