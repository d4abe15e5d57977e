"""One step with every stage recorded."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, Shaped

from jax_impl.by_batch import by_batch
from jax_impl.formulation import Formulation, Params
from jax_impl.schedule import Rates
from jax_impl.sgd import clip_gradients, make_optimizer
from jax_impl.train import Carry, mean_cross_entropy, update
from parity.contract import SGD

__all__ = ["observed_step", "rows_of"]


class Seen(NamedTuple):
    """What a step computed besides its new parameters: the batch, what the layers saw, the loss and the gradients."""

    images: Array
    labels: Array
    layers: dict[str, Array]
    logits: Array
    loss: Array
    gradients: Params


@jax.jit
def rows_of(
    images: Shaped[Array, "size ..."], labels: Int[Array, " size"], rows: Int[Array, " batch"]
) -> tuple[Shaped[Array, "batch ..."], Int[Array, " batch"]]:
    """These rows of a data set: apart from the step, which is then compiled once for data sets of all sizes."""
    return images[rows], labels[rows]


@by_batch(static_argnames=("sgd", "formulation"))
def observed_step(
    carry: Carry,
    table: Float[Array, " 256"],
    images: Shaped[Array, "batch ..."],
    labels: Int[Array, " batch"],
    *,
    rates: Rates | None,
    sgd: SGD,
    formulation: Formulation,
) -> tuple[Carry, Seen]:
    """`train_step` on this batch, which also returns what it computed on the way."""
    rows = jnp.arange(len(labels))
    batch = formulation.batch(table, images, rows)

    def loss_fn(params: Params) -> tuple[Float[Array, ""], tuple[Array, dict[str, Array]]]:
        logits, layers = formulation.recorded(params, batch)
        return mean_cross_entropy(logits, labels), (logits, layers)

    (loss, (logits, layers)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(carry[0])
    gradients = clip_gradients(gradients, sgd)
    fed = formulation.images(table, images, rows)
    seen = Seen(images=fed, labels=labels, layers=layers, logits=logits, loss=loss, gradients=gradients)
    return update(carry, gradients, make_optimizer(sgd, rates)), seen
