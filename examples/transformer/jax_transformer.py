"""The transformer of torch_transformer.py in flax: `impl` is the same program, `wrong` has one mistake."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jax_impl

rng = np.random.default_rng(0)
tokens = rng.integers(0, 20, size=(128, 10))
labels = tokens.sum(axis=1) % 4


def attend(query, key, value, **_):
    """Not flax's own attention: it ends in jax.nn.dot_product_attention, whose softmax is always in float32."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
    return jnp.einsum("bhqk,bkhd->bqhd", nnx.softmax(scores), value)


class Transformer(nnx.Module):
    """Embeddings, one block (layer norm before attention and before the MLP), the mean over the tokens."""

    def __init__(self, gelu):
        rngs = nnx.Rngs(0)
        self.gelu = gelu
        # Not nnx.Embed: it computes in the type that it was made with, float32, in float64 runs too.
        self.embed, self.position = (nnx.Param(rngs.normal((length, 16))) for length in (20, 10))
        # torch's epsilon; flax's own is 1e-6.
        self.norm1, self.norm2, self.norm3 = (nnx.LayerNorm(16, epsilon=1e-5, rngs=rngs) for _ in range(3))
        self.attention = nnx.MultiHeadAttention(2, 16, decode=False, attention_fn=attend, rngs=rngs)
        self.up, self.down = nnx.Linear(16, 32, rngs=rngs), nnx.Linear(32, 16, rngs=rngs)
        self.head = nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, tokens):
        """The logits, (sequences, 4)."""
        x = self.embed[tokens] + self.position[...]
        x = x + self.attention(self.norm1(x))
        x = x + self.down(self.gelu(self.up(self.norm2(x))))
        return self.head(self.norm3(x).mean(axis=1))


def cross_entropy(logits, labels):
    """As torch's: the mean over the batch."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def adapted(model):
    """The model as parity takes it."""
    graph, params = nnx.split(model, nnx.Param)

    def apply(params, tokens):
        return nnx.merge(graph, params)(tokens)

    return jax_impl.adapt(apply, params, cross_entropy, optax.adam(1e-3), data=(tokens, labels))


impl = adapted(Transformer(gelu=partial(nnx.gelu, approximate=False)))
# The mistake: flax computes GELU by a tanh unless told otherwise, torch by the error function.
wrong = adapted(Transformer(gelu=nnx.gelu))
