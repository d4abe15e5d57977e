"""What a training step must do at least: its floating-point operations and the bytes that it must move.

A layer that multiplies p weights at s places of its output, g of which have a gradient, does for a batch of B

    forward                       2 B p s
    gradient by its weights       2 B p g
    gradient by its input         2 B p g, but not in the first layer: nobody needs the images' gradient

operations: a product and a sum for each. For a convolution s is the number of its output's positions; of each 2x2
window that is pooled only the winner has a gradient, so g = s / 4. For a linear layer s = g = 1. Biases, ReLU, pooling,
the softmax and the update add less than 3 % and are left out: this is a floor, of programs that multiply out every sum.
Where a ReLU is closed there is no gradient either. How often depends on the weights, so that is not taken off: a
program that passes closed units over does fewer products than these, and may even be faster than the floor: then it
is not ranked, because its share of the floor says nothing.

Of the bytes those count that no cache can save: each step reads and writes every parameter and its momentum buffer, and
reads its images (a byte each value) and labels (4 bytes). Activations may never leave a cache.

The CNN at batch 4 does 7.8 million operations and moves 1.0 MB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from parity.contract import CNN_PARAMETERS, storage

__all__ = ["Work", "step_work"]

IMAGE_SIDE, POOL = 32, 2
LABEL_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Work:
    """Of one step: floating-point operations and bytes."""

    operations: int
    bytes: int


def step_work(batch_size: int, dtype: str, parameters: Mapping[str, tuple[int, ...]] = CNN_PARAMETERS) -> Work:
    """What a step does at least.

    Args:
        batch_size: images in it.
        dtype: the precision; parameters and momentum are kept as its `storage` says.
        parameters: the CNN's shapes by canonical name, or those of one with other widths.

    >>> step_work(4, "float32")
    Work(operations=7822080, bytes=1004400)
    """
    products = forward_products(parameters)
    first = next(iter(products))
    passes = {layer: 1 + (1 if layer == first else 2) / _places_a_gradient(parameters, layer) for layer in products}
    tensors = 4 * sum(map(math.prod, parameters.values())) * np.dtype(storage(dtype)).itemsize
    image = IMAGE_SIDE**2 * parameters[f"{first}.weight"][1]
    return Work(
        operations=2 * batch_size * round(sum(passes[layer] * count for layer, count in products.items())),
        bytes=tensors + batch_size * (image + LABEL_BYTES),
    )


def forward_products(parameters: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Products in the forward pass of one image, by layer, in the order of the layers."""
    side, products = IMAGE_SIDE, {}
    for name, shape in parameters.items():
        layer, _, kind = name.partition(".")
        if kind == "weight" and len(shape) == 4:
            side -= shape[-1] - 1
            products[layer] = math.prod(shape) * side**2
            side //= POOL
        elif kind == "weight":
            products[layer] = math.prod(shape)
    return products


def _places_a_gradient(parameters: Mapping[str, tuple[int, ...]], layer: str) -> int:
    """Outputs of the layer for each one that has a gradient: those of a pooling window, or itself."""
    return POOL**2 if len(parameters[f"{layer}.weight"]) == 4 else 1
