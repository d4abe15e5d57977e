"""The MLP of torch_mlp.py in JAX: `impl` is the same program, `wrong` has one mistake."""

from functools import partial
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import optax

import jax_impl

rng = np.random.default_rng(0)
features = rng.normal(size=(256, 6))
targets = np.sin(features.sum(axis=1, keepdims=True))

WIDTHS = (6, 32, 32, 1)
params = [
    {"kernel": rng.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in), "bias": np.zeros(fan_out)}
    for fan_in, fan_out in pairwise(WIDTHS)
]


def apply(params, x):
    """The outputs, (rows, 1)."""
    *hidden, last = params
    for layer in hidden:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    return x @ last["kernel"] + last["bias"]


def mean_squared_error(outputs, targets):
    """As torch's `mse_loss`."""
    return jnp.mean((outputs - targets) ** 2)


trained_by = partial(jax_impl.adapt, apply, params, mean_squared_error, data=(features, targets))

impl = trained_by(optax.adamw(1e-3, weight_decay=1e-2))
# The mistake: torch.optim.AdamW decays the weights by 1e-2 unless told otherwise, optax.adamw by 1e-4.
wrong = trained_by(optax.adamw(1e-3))
