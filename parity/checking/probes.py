"""Inputs that make ties, where implementations of one formula may differ and ordinary images do not show it.

A pre-activation that is exactly 0 has either gradient, 0 (torch, jax.nn.relu) or 1/2 (jnp.maximum). Of equal elements
in a pooling window the gradient goes to the first (torch, XLA) or is shared out. On ordinary images neither happens, in
any number of steps. So one step is taken with weights that make both certain, in whatever order sums are added:

- unit 0 of fc1 and of fc2, and filter 1 of conv1 and of conv2, have no weights and no bias: they compute exactly 0;
- filter 0 of conv1 passes the red channel on, which is constant in the probe's images: whole windows tie, while the
  other channels differ from place to place, so that the gradient shows which element was chosen.

Everything else is noise: the other channels, and weights as they are drawn at first. On pictures, flat regions would
make conv2 tie as well, where rounding chooses the winner, and so would filters that training has silenced; filter 0
would show that choice too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.contract import Stream, Weights, initial_weights
from parity.data import IMAGE_SHAPE
from parity.problem import Arrays

__all__ = ["tie_probe"]

RED = 200  # any value that the normalisation makes positive, so that the ReLU lets the ties through


_PURPOSE = 6  # keeps this noise apart from other streams of the same seed


def tie_probe(labels: NDArray[np.generic]) -> tuple[Arrays, Weights]:
    """The data and the weights of one step full of ties.

    Args:
        labels: (B,) class numbers.

    Returns:
        (B, 32, 32, 3) uint8 images with the red channel constant, with the labels, and the weights with silent units.
    """
    shape = (len(labels), *IMAGE_SHAPE)
    probe = Stream(0, _PURPOSE).integers(256, int(np.prod(shape))).reshape(shape).astype(np.uint8)
    probe[..., 0] = RED
    changed = initial_weights(0)
    for layer, unit in (("conv1", 1), ("conv2", 1), ("fc1", 0), ("fc2", 0)):
        changed[f"{layer}.weight"][unit] = 0
        changed[f"{layer}.bias"][unit] = 0
    changed["conv1.weight"][0] = 0
    changed["conv1.weight"][0, 0, 2, 2] = 1
    changed["conv1.bias"][0] = 0
    return (probe, np.array(labels)), changed
