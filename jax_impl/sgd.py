"""SGD with momentum as an optax transformation that means what torch.optim.SGD means.

`optax.sgd` is torch's SGD exactly when dampening and weight_decay are 0 and maximize is off. Otherwise the missing
parts go before it, in torch's order: negate the gradient, add the decay, dampen, then the momentum and the learning
rate.

Source: https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.sgd
"""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jax import Array

from parity.contract import SGD

__all__ = ["dampen", "make_optimizer", "momentum_trace", "with_momentum"]


def make_optimizer(sgd: SGD) -> optax.GradientTransformation:
    """The gradient transformation for these hyper-parameters."""
    # momentum=None leaves the trace out; torch then has no buffer and ignores the dampening.
    core = optax.sgd(sgd.lr, momentum=sgd.momentum or None, nesterov=sgd.nesterov)
    before = []
    if sgd.maximize:
        # Not a negative lr: the decay must still shrink the weights.
        before.append(optax.scale(-1.0))
    if sgd.weight_decay:
        before.append(optax.add_decayed_weights(sgd.weight_decay))
    if sgd.momentum and sgd.dampening:
        before.append(dampen(sgd.dampening))
    return optax.chain(*before, core) if before else core


def dampen(dampening: float) -> optax.GradientTransformation:
    """Scale gradients by 1 - dampening from the second step on: torch's first buffer is the whole gradient."""

    def factor(count: Array) -> Array:
        return jnp.where(count == 0, 1.0, 1.0 - dampening)

    return optax.scale_by_schedule(factor)


def momentum_trace(state: optax.OptState) -> optax.Updates | None:
    """The momentum buffers in an optimizer state, as a pytree like the parameters; None when it keeps none."""
    return optax.tree_utils.tree_get(state, "trace")


def with_momentum(state: optax.OptState, trace: optax.Updates) -> optax.OptState:
    """The optimizer state with these momentum buffers, which make its next step no first step; else unchanged."""
    if momentum_trace(state) is None:
        return state
    state = optax.tree_utils.tree_set(state, trace=trace)
    count = optax.tree_utils.tree_get(state, "count")
    return state if count is None else optax.tree_utils.tree_set(state, count=jnp.maximum(count, 1))
