"""A small transformer that classifies sequences of tokens, in torch, trained by Adam."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import torch_impl

rng = np.random.default_rng(0)
tokens = rng.integers(0, 20, size=(128, 10))
labels = tokens.sum(axis=1) % 4


class Transformer(nn.Module):
    """Embeddings, one block (layer norm before attention and before the MLP), the mean over the tokens."""

    def __init__(self):
        super().__init__()
        self.embed, self.position = nn.Embedding(20, 16), nn.Embedding(10, 16)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(16), nn.LayerNorm(16), nn.LayerNorm(16)
        # The keys' bias moves all of a query's scores alike, which softmax takes out: its gradient, a third of that of
        # in_proj_bias, is zero but for rounding.
        self.attention = nn.MultiheadAttention(16, num_heads=2, batch_first=True)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, tokens):
        """The logits, (sequences, 4)."""
        x = self.embed(tokens) + self.position.weight
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(self.norm3(x).mean(dim=1))


torch.manual_seed(0)
model = Transformer()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

impl = torch_impl.adapt(model, F.cross_entropy, optimizer, data=(tokens, labels))
