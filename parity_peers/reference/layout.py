"""Between canonical weights and the reference's arrays: window rows channels last, and zeros up to whole vectors.

The unused numbers are 0 and stay 0: their gradients are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.contract import Weights
from parity_peers.reference.step import Array, Parameters

__all__ = ["from_canonical", "images_by_planes", "to_canonical"]


def from_canonical(weights: Weights, dtype: str) -> Parameters:
    """Canonical weights, or momentum -> new arrays."""

    def pad(array: NDArray[np.floating], *shape: int) -> Array:
        padded = np.zeros(shape, dtype)
        padded[tuple(map(slice, array.shape))] = array
        return padded

    def rows(name: str, length: int) -> Array:
        kernel = weights[name]
        filters, channels, high, wide = kernel.shape
        return pad(kernel.transpose(0, 2, 3, 1).reshape(filters, high, wide * channels), filters, high, length)

    by_place = weights["fc1.weight"].reshape(120, 16, 25).swapaxes(1, 2).reshape(120, 400)
    return Parameters(
        kernel1=rows("conv1.weight", 16),
        bias1=pad(weights["conv1.bias"], 6),
        kernel2=rows("conv2.weight", 32),
        bias2=pad(weights["conv2.bias"], 16),
        weight3=pad(by_place, 120, 400),
        bias3=pad(weights["fc1.bias"], 120),
        weight4=pad(weights["fc2.weight"], 84, 128),
        bias4=pad(weights["fc2.bias"], 84),
        weight5=pad(weights["fc3.weight"], 12, 96),
        bias5=pad(weights["fc3.bias"], 12),
    )


def to_canonical(parameters: Parameters) -> dict[str, NDArray[np.floating]]:
    """The reverse; copies."""

    def kernel(rows: Array, channels: int) -> Array:
        windows = rows[:, :, : 5 * channels].reshape(-1, 5, 5, channels)
        return np.array(windows.transpose(0, 3, 1, 2), order="C")

    by_channel = parameters.weight3.reshape(120, 25, 16).swapaxes(1, 2).reshape(120, 400)
    return {
        "conv1.weight": kernel(parameters.kernel1, 3),
        "conv1.bias": parameters.bias1.copy(),
        "conv2.weight": kernel(parameters.kernel2, 6),
        "conv2.bias": parameters.bias2.copy(),
        "fc1.weight": np.array(by_channel),
        "fc1.bias": parameters.bias3.copy(),
        "fc2.weight": parameters.weight4[:, :120].copy(),
        "fc2.bias": parameters.bias4.copy(),
        "fc3.weight": parameters.weight5[:10, :84].copy(),
        "fc3.bias": parameters.bias5[:10].copy(),
    }


def images_by_planes(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 32, 32, 3) -> (N, 2, 3, 32, 16): even and odd columns apart, channels first."""
    return np.ascontiguousarray(images.reshape(-1, 32, 16, 2, 3).transpose(0, 3, 4, 1, 2))
