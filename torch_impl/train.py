"""One training step, and many of them: forward, mean cross-entropy, backward, clipping, SGD."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from parity.contract import SGD
from torch_impl.schedule import Rates, set_rates
from torch_impl.sgd import clip_gradients

__all__ = ["Step", "evaluate", "loss_fn", "normalise", "train_steps", "update"]


def loss_fn(
    model: nn.Module, images: Float[Tensor, "batch 3 32 32"], labels: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of a batch of normalised images."""
    return F.cross_entropy(model(images), labels)


def update(optimizer: torch.optim.Optimizer) -> None:
    """Apply the gradients, in place."""
    optimizer.step()


@dataclass(frozen=True, kw_only=True)
class Step:
    """A training step of a model and its optimizer; `loss_fn` and `update` may be compiled versions of the above.

    `sgd` says how gradients are clipped; the rest of it is the optimizer's already.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    sgd: SGD
    loss_fn: Callable[[nn.Module, Tensor, Tensor], Tensor] = loss_fn
    update: Callable[[torch.optim.Optimizer], None] = update

    def __call__(
        self, images: Float[Tensor, "batch 3 32 32"], labels: Int[Tensor, " batch"], rates: Rates | None = None
    ) -> Float[Tensor, ""]:
        """Update model and optimizer in place, with these rates if they change; returns the loss before the update."""
        if rates is not None:
            set_rates(self.optimizer, rates)
        self.optimizer.zero_grad()
        loss = self.loss_fn(self.model, images, labels)
        torch.autograd.backward(loss)
        clip_gradients(self.model.parameters(), self.sgd)
        self.update(self.optimizer)
        return loss.detach()


def normalise(table: Float[Tensor, " 256"], pixels: UInt8[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Look each pixel up; the table's values are the same bits on every side."""
    return table[pixels.int()]


def train_steps(
    step: Step,
    *,
    table: Float[Tensor, " 256"],
    images: UInt8[Tensor, "size 3 32 32"],
    labels: Int[Tensor, " size"],
    plan: Int[Tensor, "steps batch"],
    rates: Sequence[Rates | None],
) -> Float[Tensor, " steps"]:
    """One step for each row of the plan, with its rates; the losses stay on the device: nothing waits for them."""
    losses = torch.empty(len(plan), dtype=table.dtype, device=table.device)
    for number, (rows, current) in enumerate(zip(plan, rates, strict=True)):
        losses[number] = step(normalise(table, images[rows]), labels[rows], current)
    return losses


@torch.no_grad()
def evaluate(
    model: nn.Module, table: Float[Tensor, " 256"], images: UInt8[Tensor, "size 3 32 32"], batch_size: int = 500
) -> Float[Tensor, "size 10"]:
    """Logits of all images, in order."""
    return torch.cat([model(normalise(table, batch)) for batch in torch.split(images, batch_size)])
