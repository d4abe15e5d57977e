"""A small program of its own, trained by SGD with momentum and weight decay."""

import numpy as np
import torch
from torch import nn

import torch_impl

__all__ = ["impl"]

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(20, 4))
LABELS = RNG.integers(0, 3, size=20)

torch.manual_seed(0)
MODEL = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
OPTIMIZER = torch.optim.SGD(MODEL.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)

impl = torch_impl.adapt(MODEL, nn.functional.cross_entropy, OPTIMIZER, data=(POINTS, LABELS))
