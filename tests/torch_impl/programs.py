"""Three small programs in torch, with random data: what the tests adapt."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import torch_impl

ROWS = 24


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(5, 7)
        self.out = nn.Linear(7, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(x)))


class Residual(nn.Module):
    """conv, batch norm, ReLU in place; conv, batch norm, plus the first ReLU's output; pooled."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 4)

    def forward(self, x):
        x = F.relu_(self.bn1(self.conv1(x)))
        x = x + self.bn2(self.conv2(x))
        return self.fc(x.mean((2, 3)))


class Block(nn.Module):
    """A transformer block over 6 tokens of 11."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, tokens):
        x = self.embed(tokens)
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x[:, 0])


def draws():
    return np.random.default_rng(3)


def mlp(optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)):
    torch.manual_seed(1)
    module, rng = MLP(), draws()
    data = rng.normal(size=(ROWS, 5)), rng.normal(size=(ROWS, 2))
    return torch_impl.adapt(module, F.mse_loss, optimizer(module.parameters()), data=data)


def residual(optimizer=lambda p: torch.optim.Adam(p, lr=0.01)):
    torch.manual_seed(1)
    module, rng = Residual(), draws()
    data = rng.normal(size=(ROWS, 2, 5, 5)), rng.integers(0, 4, ROWS)
    return torch_impl.adapt(module, F.cross_entropy, optimizer(module.parameters()), data=data)


def block(optimizer=lambda p: torch.optim.AdamW(p, lr=0.01)):
    torch.manual_seed(1)
    module, rng = Block(), draws()
    data = rng.integers(0, 11, (ROWS, 6)), rng.integers(0, 4, ROWS)
    return torch_impl.adapt(module, F.cross_entropy, optimizer(module.parameters()), data=data)


PROGRAMS = [mlp, residual, block]
