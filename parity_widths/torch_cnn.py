"""The CNN with k times as many channels in both convolutions, in torch: `cnn_1`, `cnn_2`, `cnn_16`, any k will do.

jax_cnn.py has their twins, from the same initial weights (`parity_widths.cnn`).
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.contract import SGD
from parity_widths.cnn import example, initial_weights, width_of
from torch_impl import AdaptedModule, adapt

__all__ = ["WideCNN", "program"]


class WideCNN(nn.Module):
    """conv 3->6k k5, pool 2, conv 6k->16k k5, pool 2, then 400k->120->84->10; it normalises its pixels itself."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6 * k, 5), nn.Conv2d(6 * k, 16 * k, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400 * k, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch, 32, 32, 3) uint8 -> (batch, 10)."""
        x = pixels.permute(0, 3, 1, 2).to(self.fc1.weight.dtype) / 127.5 - 1
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc2(F.relu(self.fc1(x.flatten(start_dim=1)))))
        logits: Tensor = self.fc3(x)
        return logits


@cache
def program(k: int) -> AdaptedModule:
    """Trained by SGD with the tutorial's learning rate and momentum."""
    module, sgd = WideCNN(k), SGD()
    module.load_state_dict({name: torch.tensor(value) for name, value in initial_weights(k).items()})
    optimizer = torch.optim.SGD(module.parameters(), lr=sgd.lr, momentum=sgd.momentum)
    return adapt(module, F.cross_entropy, optimizer, data=example())


def __getattr__(name: str) -> AdaptedModule:
    return program(width_of(name))
