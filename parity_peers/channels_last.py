"""Between canonical weights and those of a framework with channels last: {layer: {"kernel", "bias"}}.

| canonical        | here                   |
| kernel OIHW      | HWIO                   |
| linear (out, in) | (in, out)              |
| fc1's inputs     | (C, H, W) -> (H, W, C) |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import CNN_PARAMETERS, Weights

__all__ = ["LAYERS", "from_canonical", "to_canonical"]

LAYERS = tuple(dict.fromkeys(name.partition(".")[0] for name in CNN_PARAMETERS))

_POOLED = (16, 5, 5)  # what fc1 reads, channels first

Layers = dict[str, dict[str, NDArray[np.floating]]]


def from_canonical(weights: Weights, dtype: str) -> Layers:
    """Canonical weights -> new arrays by layer."""
    return {
        layer: {
            "kernel": np.array(_kernel(layer, weights[f"{layer}.weight"]), dtype, order="C"),
            "bias": np.array(weights[f"{layer}.bias"], dtype),
        }
        for layer in LAYERS
    }


def to_canonical(layers: Mapping[str, Mapping[str, Any]]) -> dict[str, NDArray[np.floating]]:
    """Arrays by layer -> canonical weights, copies."""
    weights = {}
    for layer in LAYERS:
        weights[f"{layer}.weight"] = np.array(_weight(layer, np.asarray(layers[layer]["kernel"])), order="C")
        weights[f"{layer}.bias"] = np.array(layers[layer]["bias"])
    return weights


def _kernel(layer: str, weight: NDArray[np.floating]) -> NDArray[np.floating]:
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    if layer == "fc1":
        return weight.reshape(-1, *_POOLED).transpose(2, 3, 1, 0).reshape(400, -1)
    return weight.T


def _weight(layer: str, kernel: NDArray[np.floating]) -> NDArray[np.floating]:
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    if layer == "fc1":
        channels, rows, columns = _POOLED
        return kernel.reshape(rows, columns, channels, -1).transpose(3, 2, 0, 1).reshape(-1, 400)
    return kernel.T
