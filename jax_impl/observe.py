"""One step with every stage recorded: the model's own code, run on layers that note what goes in and out of them.

A layer's input is what the functions before it made of the previous layer's output, so the five layers also show what
ReLU and pooling computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray

from jax_impl.layout import activation_to_canonical
from jax_impl.model import CNN, Operations, Params, merge
from jax_impl.schedule import Rates
from jax_impl.sgd import clip_gradients, make_optimizer
from jax_impl.train import Carry, mean_cross_entropy, normalise, update
from parity.contract import CNN_ACTIVATIONS, SGD

__all__ = ["activations", "observed_step"]

INPUTS = {"conv2": "pool1", "fc1": "pool2", "fc2": "relu3", "fc3": "relu4"}
"""Layer -> what its input is called."""

Layers = dict[str, Array]


def apply_recording(
    params: Params, images: Float[Array, "batch 32 32 3"], operations: Operations
) -> tuple[Float[Array, "batch 10"], Layers]:
    """Logits, and every layer's input and output by canonical name."""
    model = merge(params, images.dtype, operations)
    seen: Layers = {}

    def recording(name: str, layer: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def call(inputs: Array) -> Array:
            if name in INPUTS:
                seen[INPUTS[name]] = inputs
            seen[name] = layer(inputs)
            return seen[name]

        return call

    # The model's own __call__, with these in place of its layers.
    layers = SimpleNamespace(
        **{name: recording(name, getattr(model, name)) for name in params}, max_pool=model.max_pool
    )
    return CNN.__call__(layers, images), seen  # type: ignore[arg-type]


class Seen(NamedTuple):
    """What a step computed besides its new parameters: the batch, what the layers saw, the loss and the gradients."""

    images: Array
    labels: Array
    layers: Layers
    loss: Array
    gradients: Params


@partial(jax.jit, static_argnames=("sgd", "operations"))
def observed_step(
    carry: Carry,
    table: Float[Array, " 256"],
    images: UInt8[Array, "size 32 32 3"],
    labels: Int[Array, " size"],
    rows: Int[Array, " batch"],
    *,
    rates: Rates | None,
    sgd: SGD,
    operations: Operations,
) -> tuple[Carry, Seen]:
    """`train_step` on these rows, which also returns what it computed on the way."""
    batch, targets = normalise(table, images[rows]), labels[rows]

    def loss_fn(params: Params) -> tuple[Float[Array, ""], Layers]:
        logits, layers = apply_recording(params, batch, operations)
        return mean_cross_entropy(logits, targets), layers

    (loss, layers), gradients = jax.value_and_grad(loss_fn, has_aux=True)(carry[0])
    gradients = clip_gradients(gradients, sgd)
    seen = Seen(images=batch, labels=targets, layers=layers, loss=loss, gradients=gradients)
    return update(carry, gradients, make_optimizer(sgd, rates)), seen


def activations(seen: Mapping[str, Array]) -> dict[str, NDArray[np.floating]]:
    """What was recorded between the images and the logits, canonical."""
    return {name: activation_to_canonical(name, np.asarray(seen[name])) for name in CNN_ACTIVATIONS}
