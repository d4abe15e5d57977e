"""An MLP that fits a function of six variables, in torch, trained by AdamW."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import torch_impl

rng = np.random.default_rng(0)
features = rng.normal(size=(256, 6))
targets = np.sin(features.sum(axis=1, keepdims=True))

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

impl = torch_impl.adapt(model, F.mse_loss, optimizer, data=(features, targets))
