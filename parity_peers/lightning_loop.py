"""Lightning: the tutorial's net in a LightningModule, trained by its Trainer with all that records or reports off.

The batches are gathered from memory, as in `parity_peers.eager`, so that what is left is the Trainer's own cost. A
Trainer is made for each call of `run`, as a program makes one: that takes some 20 ms.

Source: https://lightning.ai/docs/pytorch/stable/common/trainer.html
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from parity_peers.torch_peer import Resident, State, TorchPeer, batch_of

__all__ = ["Lightning", "impl"]

# Which accelerators there are, and tips, once for each Trainer.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


class Module(lightning.LightningModule):  # type: ignore[misc]  # Lightning may be missing where mypy runs
    """A training step of the net of a state, by the optimizer of that state; keeps the losses."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.net, self.optimizer = state.net, state.optimizer
        self.losses: list[Tensor] = []

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss; the Trainer does the rest."""
        images, labels = batch
        loss = F.cross_entropy(self.net(images), labels)
        self.losses.append(loss.detach())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer, with its momentum."""
        return self.optimizer


@dataclass(frozen=True, kw_only=True, eq=False)
class Batches:
    """The batches of a plan, gathered one by one."""

    state: State
    data: Resident
    plan: Tensor

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (batch_of(self.state, self.data, rows) for rows in self.plan)


class Lightning(TorchPeer):
    """See `parity_peers`."""

    def describe(self, state: State) -> str:
        """Framework, loop and device."""
        return self._describe(f"Lightning {lightning.__version__}'s Trainer, eager, batches in memory", state)

    def run(self, state: State, data: Resident, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows."""
        state = state.copy()
        module = Module(state)
        rows = torch.tensor(plan, dtype=torch.int64, device=state.device)
        with warnings.catch_warnings():
            # Lightning 2.6 uses what torch 2.15 calls deprecated.
            warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
            _trainer(state.device).fit(module, Batches(state=state, data=data, plan=rows))
        return state, np.array(torch.stack(module.losses).cpu().numpy())


def _trainer(device: torch.device) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator=device.type,
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


impl = Lightning()
