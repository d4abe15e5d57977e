"""A residual CNN with batch norm, in torch (NCHW), trained by SGD with momentum and weight decay."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import torch_impl

rng = np.random.default_rng(0)
images = rng.normal(size=(128, 3, 8, 8))
labels = rng.integers(0, 5, size=128)


class ResidualCNN(nn.Module):
    """A convolution, a residual block, the mean over the image, a linear layer."""

    def __init__(self):
        super().__init__()
        # The batch norm that follows takes a convolution's bias out again, so its gradient is zero but for rounding.
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        """The logits, (images, 5)."""
        x = F.relu(self.stem_norm(self.stem(x)))
        y = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(x + self.norm2(self.conv2(y)))
        return self.head(x.mean(dim=(2, 3)))


torch.manual_seed(0)
model = ResidualCNN()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

impl = torch_impl.adapt(model, F.cross_entropy, optimizer, data=(images, labels))
