"""The CIFAR-10 tutorial's CNN as an nn.Module; its parameter names are the canonical ones.

Source: https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["CNN"]


class CNN(nn.Module):
    """conv 3->6 k5, pool 2, conv 6->16 k5, pool 2, then 400->120->84->10, with a ReLU after each layer but the last."""

    def __init__(self, *, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5, dtype=dtype, device=device)
        self.conv2 = nn.Conv2d(6, 16, 5, dtype=dtype, device=device)
        self.fc1 = nn.Linear(16 * 5 * 5, 120, dtype=dtype, device=device)
        self.fc2 = nn.Linear(120, 84, dtype=dtype, device=device)
        self.fc3 = nn.Linear(84, 10, dtype=dtype, device=device)

    def forward(self, images: Float[Tensor, "batch 3 32 32"]) -> Float[Tensor, "batch 10"]:
        """Normalised NCHW images -> logits."""
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.flatten(start_dim=1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits
