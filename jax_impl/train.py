"""One training step, and many of them in one compiled scan: forward, mean cross-entropy, backward, clipping, SGD."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jaxtyping import Float, Int, Shaped

from jax_impl.by_batch import by_batch
from jax_impl.formulation import Formulation, Params
from jax_impl.schedule import Rates
from jax_impl.sgd import clip_gradients, make_optimizer
from parity.contract import NUM_CLASSES, SGD

__all__ = ["Carry", "evaluate", "mean_cross_entropy", "train_many", "train_step", "train_steps", "update"]

T = TypeVar("T")

Carry = tuple[Params, optax.OptState]
"""What a step changes: parameters and optimizer state."""


def loss_fn(
    params: Params, batch: Float[Array, "..."], labels: Int[Array, " batch"], formulation: Formulation
) -> Float[Array, ""]:
    """Mean cross-entropy of a batch of normalised images."""
    return mean_cross_entropy(formulation.logits(params, batch), labels)


def mean_cross_entropy(logits: Float[Array, "batch 10"], labels: Int[Array, " batch"]) -> Float[Array, ""]:
    """Of the softmax of the logits: log(sum(exp(z))) - z[label].

    optax.softmax_cross_entropy_with_integer_labels to the bit, which takes z[label] by a gather. The gradient of that
    is a scatter, slow on a GPU where it is to be deterministic; a sum with zeros is exact, and so is its gradient.
    """
    is_label = labels[:, jnp.newaxis] == jnp.arange(NUM_CLASSES, dtype=labels.dtype)
    of_label = jnp.where(is_label, logits, 0).sum(1)
    losses: Array = jax.nn.logsumexp(logits, axis=1) - of_label
    return losses.mean()


def loss_and_gradients(
    params: Params,
    table: Float[Array, " 256"],
    images: Shaped[Array, "size ..."],
    labels: Int[Array, " size"],
    rows: Int[Array, " batch"],
    *,
    formulation: Formulation,
) -> tuple[Float[Array, ""], Params]:
    """The loss of the images in these rows, and its gradients."""

    def of(piece: Int[Array, " piece"]) -> tuple[Float[Array, ""], Params]:
        batch = formulation.batch(table, images, piece)
        found: tuple[Array, Params] = jax.value_and_grad(loss_fn)(params, batch, labels[piece], formulation)
        return found

    if formulation.at_once is None or len(rows) <= formulation.at_once:
        return of(rows)
    return mean_over_pieces(of, rows, formulation.at_once)


def mean_over_pieces(function: Callable[[Array], T], rows: Int[Array, " batch"], most: int) -> T:
    """The mean over all rows of a function that takes means over some: in equal pieces but for the last."""
    number = -(-len(rows) // most)
    size = -(-len(rows) // number)
    whole = len(rows) - len(rows) % size

    def add(sums: T, piece: Int[Array, " piece"]) -> T:
        share = len(piece) / len(rows)
        result: T = jax.tree.map(lambda total, mean: total + share * mean, sums, function(piece))
        return result

    sums = jax.tree.map(lambda mean: jnp.zeros(mean.shape, mean.dtype), jax.eval_shape(function, rows[:size]))
    sums, _ = lax.scan(lambda sums, piece: (add(sums, piece), None), sums, rows[:whole].reshape(-1, size))
    return add(sums, rows[whole:]) if whole < len(rows) else sums


def train_step(
    carry: Carry,
    table: Float[Array, " 256"],
    images: Shaped[Array, "size ..."],
    labels: Int[Array, " size"],
    rows: Int[Array, " batch"],
    *,
    sgd: SGD,
    rates: Rates | None,
    formulation: Formulation,
) -> tuple[Carry, Float[Array, ""]]:
    """A pure step: the new parameters and optimizer state, and the loss before the update."""
    params, opt_state = carry
    loss, gradients = loss_and_gradients(params, table, images, labels, rows, formulation=formulation)
    return update((params, opt_state), clip_gradients(gradients, sgd), make_optimizer(sgd, rates)), loss


def update(carry: Carry, gradients: Params, optimizer: optax.GradientTransformation) -> Carry:
    """Apply the gradients."""
    params, opt_state = carry
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


@by_batch(static_argnames=("sgd", "formulation"))
def train_steps(
    carry: Carry,
    table: Float[Array, " 256"],
    images: Shaped[Array, "size ..."],
    labels: Int[Array, " size"],
    plan: Int[Array, "steps batch"],
    *,
    rates: Rates | None,
    sgd: SGD,
    formulation: Formulation,
) -> tuple[Carry, Float[Array, " steps"]]:
    """One step for each row of the plan, with its rates: a single call, so that Python is not asked again between."""

    def step(carry: Carry, now: tuple[Int[Array, " batch"], Rates | None]) -> tuple[Carry, Float[Array, ""]]:
        rows, current = now
        return train_step(carry, table, images, labels, rows, sgd=sgd, rates=current, formulation=formulation)

    return lax.scan(step, carry, (plan, rates))


@partial(jax.jit, static_argnames=("sgd", "formulation"))
def train_many(
    carries: Carry,
    table: Float[Array, " 256"],
    images: Shaped[Array, "size ..."],
    labels: Int[Array, " size"],
    plan: Int[Array, "steps batch"],
    *,
    rates: Rates | None,
    sgd: SGD,
    formulation: Formulation,
) -> tuple[Carry, Float[Array, "members steps"]]:
    """`train_steps` of several members on the same batches; every array of `carries` has an axis of members first."""

    def member(carry: Carry) -> tuple[Carry, Float[Array, " steps"]]:
        arrays = (table, images, labels, plan)
        alone: tuple[Carry, Array] = train_steps.default(carry, *arrays, rates=rates, sgd=sgd, formulation=formulation)
        return alone

    return jax.vmap(member)(carries)


@partial(jax.jit, static_argnames=("formulation", "batch_size"))
def evaluate(
    params: Params,
    table: Float[Array, " 256"],
    images: Shaped[Array, "size ..."],
    *,
    formulation: Formulation,
    batch_size: int = 500,
) -> Float[Array, "size 10"]:
    """Logits of all images, in order, a batch at a time."""

    def logits(rows: Int[Array, " batch"]) -> Float[Array, "batch 10"]:
        return formulation.logits(params, formulation.batch(table, images, rows))

    rows = jnp.arange(len(images))
    batch_size = max(1, min(batch_size, len(images)))  # no loop over nothing: it would be compiled all the same
    whole = len(images) - len(images) % batch_size
    outputs = lax.map(logits, rows[:whole].reshape(whole // batch_size, batch_size)).reshape(whole, NUM_CLASSES)
    return jnp.concatenate([outputs, logits(rows[whole:])]) if whole < len(images) else outputs
