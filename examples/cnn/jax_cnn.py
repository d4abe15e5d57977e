"""The CNN of torch_cnn.py in flax (NHWC): `impl` is the same program, `wrong` has one mistake."""

import numpy as np
import optax
from flax import nnx

import jax_impl

rng = np.random.default_rng(0)
images = rng.normal(size=(128, 3, 8, 8)).transpose(0, 2, 3, 1)
labels = rng.integers(0, 5, size=128)


class BatchNorm(nnx.BatchNorm):
    """torch's: it normalises by the batch's biased variance, but keeps the unbiased one. flax keeps the biased one."""

    def __call__(self, x):
        """Normalise over all axes but the last."""
        kept = self.momentum * self.var[...]
        y = super().__call__(x)
        n = x.size // x.shape[-1]
        if not self.use_running_average:
            self.var[...] = kept + (self.var[...] - kept) * n / (n - 1)
        return y


class ResidualCNN(nnx.Module):
    """A convolution, a residual block, the mean over the image, a linear layer."""

    def __init__(self, momentum):
        rngs = nnx.Rngs(0)
        self.stem, self.conv1, self.conv2 = (nnx.Conv(width, 8, (3, 3), rngs=rngs) for width in (3, 8, 8))
        # In float32 the fast variance, E[x^2] - E[x]^2, loses digits where the mean is large.
        self.stem_norm, self.norm1, self.norm2 = (
            BatchNorm(8, momentum=momentum, use_fast_variance=False, rngs=rngs) for _ in range(3)
        )
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        """The logits, (images, 5)."""
        x = nnx.relu(self.stem_norm(self.stem(x)))
        y = nnx.relu(self.norm1(self.conv1(x)))
        x = nnx.relu(x + self.norm2(self.conv2(y)))
        return self.head(x.mean(axis=(1, 2)))


def cross_entropy(logits, labels):
    """As torch's: the mean over the batch."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def adapted(model):
    """The model with its running statistics, as parity takes it."""
    graph, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)

    def apply(params, statistics, x):
        model = nnx.merge(graph, params, statistics)
        return model(x), nnx.state(model, nnx.BatchStat)

    def evaluate(params, statistics, x):
        return nnx.view(nnx.merge(graph, params, statistics), use_running_average=True)(x)

    tx = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.01, momentum=0.9))
    data = images, labels
    return jax_impl.adapt(apply, params, cross_entropy, tx, data=data, statistics=statistics, evaluate=evaluate)


impl = adapted(ResidualCNN(momentum=0.9))
# The mistake: torch's default, momentum=0.1, as it is. There it is the share of the new batch, in flax of the old mean.
wrong = adapted(ResidualCNN(momentum=0.1))
