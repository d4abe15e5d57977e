"""SGD with momentum as an optax transformation that means what torch.optim.SGD means, and clipping before it.

`optax.sgd` is torch's SGD exactly when dampening and weight_decay are 0 and maximize is off. Otherwise the missing
parts go before it, in torch's order: negate the gradient, add the decay, dampen, then the momentum and the learning
rate.

Source: https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.sgd
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jax_impl.schedule import Rates
from parity.contract import SGD

__all__ = [
    "clip_gradients",
    "dampen",
    "initial_state",
    "make_optimizer",
    "momentum_trace",
    "unscheduled",
    "with_momentum",
]

CLIP_EPS = 1e-6


def make_optimizer(sgd: SGD, rates: Rates | None = None) -> optax.GradientTransformation:
    """The gradient transformation for these hyper-parameters, and for these rates in place of theirs."""
    lr = sgd.lr if rates is None else rates.lr
    # momentum=None leaves the trace out; torch then has no buffer and ignores the dampening.
    momentum = (sgd.momentum or None) if rates is None or rates.momentum is None else rates.momentum
    core = optax.sgd(lr, momentum=momentum, nesterov=sgd.nesterov)
    before = []
    if sgd.maximize:
        # Not a negative lr: the decay must still shrink the weights.
        before.append(optax.scale(-1.0))
    if sgd.weight_decay:
        before.append(optax.add_decayed_weights(sgd.weight_decay, mask=None if sgd.decay_biases else decayed))
    if sgd.momentum and sgd.dampening:
        before.append(dampen(sgd.dampening))
    return optax.chain(*before, core) if before else core


@partial(jax.jit, static_argnames=("sgd",))
def initial_state(params: optax.Params, *, sgd: SGD) -> optax.OptState:
    """Before the first step, without momentum. Compiled at once: one by one, ten buffers are ten small programs."""
    return make_optimizer(sgd).init(params)


def unscheduled(sgd: SGD) -> SGD:
    """The hyper-parameters without what a schedule changes: equal wherever the same program can be compiled for both.

    The rates then come from outside; the momentum, where the schedule sets it, stands for any that is not 0.
    """
    if sgd.schedule is None:
        return sgd
    momentum = 1.0 if sgd.schedule.cycles_momentum else sgd.momentum
    return replace(sgd, lr=1.0, momentum=momentum, schedule=None)


def decayed(params: optax.Params) -> optax.Params:
    """A mask: which parameters weight_decay applies to where biases are left out."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def clip_gradients(gradients: optax.Updates, sgd: SGD) -> optax.Updates:
    """The gradients, limited as the hyper-parameters say.

    Not optax.clip_by_global_norm: it has no epsilon, so that its results are longer by 1e-6 / norm than torch's.
    """
    if sgd.clip_norm is not None:
        factor = jnp.minimum(sgd.clip_norm / (optax.tree.norm(gradients) + CLIP_EPS), 1.0)
        return jax.tree.map(lambda g: g * factor, gradients)
    if sgd.clip_value is not None:
        return optax.clip(sgd.clip_value).update(gradients, optax.EmptyState())[0]
    return gradients


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
