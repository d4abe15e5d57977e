"""Three small programs in JAX, with random data: what the tests adapt. No library of layers, except where it serves."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jax_impl

ROWS = 24


def draws():
    return np.random.default_rng(3)


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def squared_error(output, target):
    return ((output - target) ** 2).mean()


def uniform(rng, *shape):
    return rng.uniform(-0.5, 0.5, shape)


def mlp_forward(params, x):
    hidden = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return hidden @ params["out"]["kernel"] + params["out"]["bias"]


@cache  # what is compiled for one test serves the next
def mlp(tx=None):
    rng = draws()
    params = {
        "hidden": {"kernel": uniform(rng, 5, 7), "bias": uniform(rng, 7)},
        "out": {"kernel": uniform(rng, 7, 2), "bias": uniform(rng, 2)},
    }
    data = rng.normal(size=(ROWS, 5)), rng.normal(size=(ROWS, 2))
    return jax_impl.adapt(mlp_forward, params, squared_error, tx or optax.sgd(0.1, momentum=0.9), data=data)


class Residual(nnx.Module):
    """conv, batch norm, ReLU; conv, batch norm, plus the first ReLU's output; pooled."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(2, 3, (3, 3), use_bias=False, rngs=rngs)
        self.bn1 = nnx.BatchNorm(3, momentum=0.9, rngs=rngs)
        self.conv2 = nnx.Conv(3, 3, (3, 3), use_bias=False, rngs=rngs)
        self.bn2 = nnx.BatchNorm(3, momentum=0.9, rngs=rngs)
        self.fc = nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = x + self.bn2(self.conv2(x))
        return self.fc(x.mean((1, 2)))


@cache
def residual(tx=None):
    graph, params, statistics = nnx.split(Residual(nnx.Rngs(1)), nnx.Param, nnx.BatchStat)

    def apply(params, statistics, x):
        model = nnx.merge(graph, params, statistics)
        output = model(x)
        return output, nnx.state(model, nnx.BatchStat)

    def evaluate(params, statistics, x):
        model = nnx.merge(graph, params, statistics)
        model.eval()
        return model(x)

    rng = draws()
    data = rng.normal(size=(ROWS, 5, 5, 2)), rng.integers(0, 4, ROWS)
    return jax_impl.adapt(
        apply, params, cross_entropy, tx or optax.adam(0.01), data=data, statistics=statistics, evaluate=evaluate
    )


def norm(params, x):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-5) * params["scale"] + params["bias"]


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def block_forward(params, tokens):
    x = params["embed"][tokens]
    with jax.named_scope("attention"):
        heads = dense(params["qkv"], norm(params["norm1"], x)).reshape(*tokens.shape, 3, 2, 4)
        q, k, v = jnp.moveaxis(heads, 2, 0)
        scores = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / 2)
        x = x + dense(params["proj"], jnp.einsum("bhqk,bkhd->bqhd", scores, v).reshape(*tokens.shape, 8))
    with jax.named_scope("mlp"):
        x = x + dense(params["down"], jax.nn.gelu(dense(params["up"], norm(params["norm2"], x)), approximate=False))
    return dense(params["head"], x[:, 0])


@cache
def block(tx=None):
    """A transformer block over 6 tokens of 11."""
    rng = draws()

    def layer(fan_in, fan_out):
        return {"kernel": uniform(rng, fan_in, fan_out), "bias": uniform(rng, fan_out)}

    params = {"embed": uniform(rng, 11, 8), "head": layer(8, 4)}
    params |= {name: {"scale": np.ones(8), "bias": np.zeros(8)} for name in ("norm1", "norm2")}
    params |= {"qkv": layer(8, 24), "proj": layer(8, 8), "up": layer(8, 16), "down": layer(16, 8)}
    data = rng.integers(0, 11, (ROWS, 6)), rng.integers(0, 4, ROWS)
    return jax_impl.adapt(block_forward, params, cross_entropy, tx or optax.adamw(0.01), data=data)


PROGRAMS = [mlp, residual, block]
