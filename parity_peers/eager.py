"""Plain PyTorch: the tutorial's net and optimizer, eager, on batches gathered from memory; nothing waits for a loss."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from parity_peers.torch_peer import Resident, State, TorchPeer, batch_of

__all__ = ["Eager", "impl"]


class Eager(TorchPeer):
    """See `parity_peers`."""

    def describe(self, state: State) -> str:
        """Framework, loop and device."""
        return self._describe("eager, batches in memory", state)

    def run(self, state: State, data: Resident, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows."""
        state, losses = state.copy(), []
        for rows in torch.tensor(plan, dtype=torch.int64, device=state.device):
            images, labels = batch_of(state, data, rows)
            state.optimizer.zero_grad()
            loss = F.cross_entropy(state.net(images), labels)
            loss.backward()
            state.optimizer.step()
            losses.append(loss.detach())
        return state, np.array(torch.stack(losses).cpu().numpy())


impl = Eager()
