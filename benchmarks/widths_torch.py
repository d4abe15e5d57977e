"""Programs of several widths for `python -m parity.measurements calibration`, in torch; widths_jax.py has their twins.

`mlp_16` is a two-layer perceptron of width 16, `conv_8` a small convolutional network of 8 filters; any width will do.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from torch_impl import AdaptedModule, adapt

ROWS, FEATURES, SIDE, CLASSES = 256, 12, 10, 5


class MLP(nn.Module):
    """Regression: 12 -> width -> width -> 1, tanh."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(FEATURES, width), nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 12) -> (batch, 1)."""
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Conv(nn.Module):
    """Classification: conv 3x3, ReLU, average over 2x2, conv 3x3, ReLU, mean over the image, linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, width, 3), nn.Conv2d(width, 2 * width, 3), nn.Linear(2 * width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 3, 10, 10) -> (batch, 5)."""
        x = nn.functional.avg_pool2d(torch.relu(self.a(x)), 2)
        return self.c(torch.relu(self.b(x)).mean((2, 3)))


def rows(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets."""
    rng = np.random.default_rng(5)
    if kind == "mlp":
        return rng.normal(size=(ROWS, FEATURES)).astype("f4"), rng.normal(size=(ROWS, 1)).astype("f4")
    return rng.normal(size=(ROWS, 3, SIDE, SIDE)).astype("f4"), rng.integers(0, CLASSES, ROWS)


@cache
def program(kind: str, width: int) -> AdaptedModule:
    """The program of that kind and width."""
    torch.manual_seed(width)
    module = MLP(width) if kind == "mlp" else Conv(width)
    loss = nn.functional.mse_loss if kind == "mlp" else nn.functional.cross_entropy
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=0.001)
    return adapt(module, loss, optimizer, data=rows(kind))


def __getattr__(name: str) -> AdaptedModule:
    kind, _, width = name.partition("_")
    if kind not in ("mlp", "conv") or not width.isdecimal():
        raise AttributeError(name)
    return program(kind, int(width))
