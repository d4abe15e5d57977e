"""Between canonical NumPy (torch's layout) and the nnx.Module's pytree: one declarative table.

| canonical        | here                     |
| kernel OIHW      | HWIO                     |
| linear (out, in) | (in, out)                |
| fc1's inputs     | (C, H, W) -> (H, W, C)   |
| images NHWC      | NHWC, as they are stored |
| activations NCHW | NHWC, flat before fc1    |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from jax_impl.device import to_device
from jax_impl.model import ModelParams
from parity.contract import CNN_ACTIVATIONS, CNN_PARAMETERS, Weights, check_weights

__all__ = ["TABLE", "Entry", "activation_to_canonical", "from_canonical", "images_to_canonical", "to_canonical"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where a canonical tensor goes, and how: reshape to `split`, transpose to `axes`, merge into `shape`."""

    layer: str
    leaf: str
    split: tuple[int, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    canonical_shape: tuple[int, ...]

    def to_native(self, value: NDArray[Any]) -> NDArray[Any]:
        """Canonical array -> this side's layout."""
        return value.reshape(self.split).transpose(self.axes).reshape(self.shape)

    def to_canonical(self, value: NDArray[Any]) -> NDArray[Any]:
        """This side's layout -> canonical array."""
        permuted = tuple(self.split[axis] for axis in self.axes)
        return value.reshape(permuted).transpose(np.argsort(self.axes)).reshape(self.canonical_shape)


def _entry(name: str, *, axes: tuple[int, ...], split: tuple[int, ...] | None = None, merge: int = 0) -> Entry:
    """`merge` counts the leading axes that become one after the transpose."""
    layer, leaf = name.split(".")
    canonical = CNN_PARAMETERS[name]
    split = split or canonical
    permuted = tuple(split[axis] for axis in axes)
    shape = (int(np.prod(permuted[:merge])), *permuted[merge:]) if merge else permuted
    leaf = {"weight": "kernel", "bias": "bias"}[leaf]
    return Entry(layer=layer, leaf=leaf, split=split, axes=axes, shape=shape, canonical_shape=canonical)


OIHW_TO_HWIO = (2, 3, 1, 0)
OUT_IN_TO_IN_OUT = (1, 0)
O_CHW_TO_HWC_O = (2, 3, 1, 0)

TABLE: Mapping[str, Entry] = {
    "conv1.weight": _entry("conv1.weight", axes=OIHW_TO_HWIO),
    "conv1.bias": _entry("conv1.bias", axes=(0,)),
    "conv2.weight": _entry("conv2.weight", axes=OIHW_TO_HWIO),
    "conv2.bias": _entry("conv2.bias", axes=(0,)),
    # fc1 reads the flattened feature maps: torch flattens them channel first, JAX channel last.
    "fc1.weight": _entry("fc1.weight", split=(120, 16, 5, 5), axes=O_CHW_TO_HWC_O, merge=3),
    "fc1.bias": _entry("fc1.bias", axes=(0,)),
    "fc2.weight": _entry("fc2.weight", axes=OUT_IN_TO_IN_OUT),
    "fc2.bias": _entry("fc2.bias", axes=(0,)),
    "fc3.weight": _entry("fc3.weight", axes=OUT_IN_TO_IN_OUT),
    "fc3.bias": _entry("fc3.bias", axes=(0,)),
}


def from_canonical(weights: Weights, *, dtype: str) -> ModelParams:
    """Canonical weights -> a new pytree on the default device.

    Raises:
        InputError: a tensor is missing, unknown or ill-shaped.
    """
    check_weights(weights)
    params: dict[str, dict[str, Array]] = {}
    for name, entry in TABLE.items():
        params.setdefault(entry.layer, {})[entry.leaf] = to_device(entry.to_native(weights[name]), dtype)
    return params


def to_canonical(params: ModelParams) -> dict[str, NDArray[np.floating]]:
    """A pytree of parameters, gradients or momentum -> canonical arrays, copies."""
    host = jax.device_get(params)
    return {name: np.array(entry.to_canonical(host[entry.layer][entry.leaf])) for name, entry in TABLE.items()}


def images_to_canonical(images: NDArray[Any]) -> NDArray[Any]:
    """(B, H, W, C) -> (B, C, H, W), a copy."""
    return np.array(images.transpose(0, 3, 1, 2))


def activation_to_canonical(name: str, value: NDArray[Any]) -> NDArray[Any]:
    """An activation of a batch, by its canonical name -> (B, C, H, W) or (B, features), a copy."""
    shape = CNN_ACTIVATIONS[name]
    if len(shape) == 1:
        return np.array(value)
    channels, height, width = shape
    return images_to_canonical(value.reshape(len(value), height, width, channels))
