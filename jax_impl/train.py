"""One training step, and many of them in one compiled scan: forward, mean cross-entropy, backward, clipping, SGD."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jaxtyping import Float, Int, UInt8

from jax_impl.model import PLAIN, Operations, Params, apply
from jax_impl.schedule import Rates
from jax_impl.sgd import clip_gradients, make_optimizer
from parity.contract import SGD

__all__ = ["Carry", "evaluate", "mean_cross_entropy", "normalise", "train_many", "train_step", "train_steps", "update"]

Carry = tuple[Params, optax.OptState]
"""What a step changes: parameters and optimizer state."""


def loss_fn(
    params: Params,
    images: Float[Array, "batch 32 32 3"],
    labels: Int[Array, " batch"],
    operations: Operations,
) -> Float[Array, ""]:
    """Mean cross-entropy of a batch of normalised images."""
    return mean_cross_entropy(apply(params, images, operations), labels)


def mean_cross_entropy(logits: Float[Array, "batch 10"], labels: Int[Array, " batch"]) -> Float[Array, ""]:
    """Of the softmax of the logits."""
    losses: Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def train_step(
    carry: Carry,
    images: Float[Array, "batch 32 32 3"],
    labels: Int[Array, " batch"],
    *,
    sgd: SGD,
    rates: Rates | None,
    operations: Operations,
) -> tuple[Carry, Float[Array, ""]]:
    """A pure step: the new parameters and optimizer state, and the loss before the update."""
    params, opt_state = carry
    loss, gradients = jax.value_and_grad(loss_fn)(params, images, labels, operations)
    return update((params, opt_state), clip_gradients(gradients, sgd), make_optimizer(sgd, rates)), loss


def update(carry: Carry, gradients: Params, optimizer: optax.GradientTransformation) -> Carry:
    """Apply the gradients."""
    params, opt_state = carry
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def normalise(table: Float[Array, " 256"], pixels: UInt8[Array, "..."]) -> Float[Array, "..."]:
    """Look each pixel up; the table's values are the same bits on every side."""
    return table[pixels]


@partial(jax.jit, static_argnames=("sgd", "operations"))
def train_steps(
    carry: Carry,
    table: Float[Array, " 256"],
    images: UInt8[Array, "size 32 32 3"],
    labels: Int[Array, " size"],
    plan: Int[Array, "steps batch"],
    *,
    rates: Rates | None,
    sgd: SGD,
    operations: Operations,
) -> tuple[Carry, Float[Array, " steps"]]:
    """One step for each row of the plan, with its rates: a single call, so that Python is not asked again between."""

    def step(carry: Carry, now: tuple[Int[Array, " batch"], Rates | None]) -> tuple[Carry, Float[Array, ""]]:
        rows, current = now
        batch = normalise(table, images[rows])
        return train_step(carry, batch, labels[rows], sgd=sgd, rates=current, operations=operations)

    return lax.scan(step, carry, (plan, rates))


@partial(jax.jit, static_argnames=("sgd", "operations"))
def train_many(
    carries: Carry,
    table: Float[Array, " 256"],
    images: UInt8[Array, "size 32 32 3"],
    labels: Int[Array, " size"],
    plan: Int[Array, "steps batch"],
    *,
    rates: Rates | None,
    sgd: SGD,
    operations: Operations,
) -> tuple[Carry, Float[Array, "members steps"]]:
    """`train_steps` of several members on the same batches; every array of `carries` has an axis of members first."""

    def member(carry: Carry) -> tuple[Carry, Float[Array, " steps"]]:
        arrays = (table, images, labels, plan)
        alone: tuple[Carry, Array] = train_steps(carry, *arrays, rates=rates, sgd=sgd, operations=operations)
        return alone

    return jax.vmap(member)(carries)


@partial(jax.jit, static_argnames="batch_size")
def evaluate(
    params: Params, table: Float[Array, " 256"], images: UInt8[Array, "size 32 32 3"], batch_size: int = 500
) -> Float[Array, "size 10"]:
    """Logits of all images, in order, a batch at a time. XLA's own operations: no gradient is taken here."""

    def logits(image: UInt8[Array, "32 32 3"]) -> Float[Array, " 10"]:
        return apply(params, normalise(table, image)[jnp.newaxis], PLAIN)[0]

    outputs: Array = lax.map(logits, images, batch_size=batch_size)
    return outputs
