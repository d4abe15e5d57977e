"""Inputs that make ties, where implementations of one formula may differ and ordinary images do not show it.

A pre-activation that is exactly 0 has either gradient, 0 (torch, jax.nn.relu) or 1/2 (jnp.maximum). Of equal elements
in a pooling window the gradient goes to the first (torch, XLA) or is shared out. On ordinary images neither happens, in
any number of steps. So one step is taken with weights that make both certain, in whatever order sums are added:

- unit 0 of fc1 and of fc2, and filter 1 of conv1 and of conv2, have no weights and no bias: they compute exactly 0;
- filter 0 of conv1 passes the red channel on, which is constant in the probe's images: whole windows tie, while the
  other channels differ from place to place, so that the gradient shows which element was chosen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.contract import Weights
from parity.problem import Arrays

__all__ = ["tie_probe"]

RED = 200  # any value that the normalisation makes positive, so that the ReLU lets the ties through


def tie_probe(images: NDArray[np.generic], labels: NDArray[np.generic], weights: Weights) -> tuple[Arrays, Weights]:
    """The data and the weights of one step full of ties.

    Args:
        images: (B, 32, 32, 3) uint8, the batch to start from.
        labels: (B,) class numbers.
        weights: the CNN's.

    Returns:
        (images, labels) with the red channel constant, and the weights with silent units.
    """
    probe = np.array(images)
    probe[..., 0] = RED
    changed = {name: np.array(value) for name, value in weights.items()}
    for layer, unit in (("conv1", 1), ("conv2", 1), ("fc1", 0), ("fc2", 0)):
        changed[f"{layer}.weight"][unit] = 0
        changed[f"{layer}.bias"][unit] = 0
    changed["conv1.weight"][0] = 0
    changed["conv1.weight"][0, 0, 2, 2] = 1
    changed["conv1.bias"][0] = 0
    return (probe, np.array(labels)), changed
