"""The CNN's parameters as one vector, so that the update takes a few operations however many layers there are.

A layer is a matrix [W | b]: its bias is the weight of one more input that is always 1. Then

    y = [W | b] [x; 1],    dL/d[W | b] = g [x; 1]^T

and a bias needs no operation of its own. A kernel's row holds a filter's weights in the order in which windows.py lays
out what a window sees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from parity.contract import CNN_PARAMETERS

__all__ = ["Flat"]

LAYERS = tuple(name.removesuffix(".weight") for name in CNN_PARAMETERS if name.endswith(".weight"))

KERNEL_AXES = {"conv1": ("row", "column", "channel"), "conv2": ("column", "row", "channel")}
"""The axes of a kernel after the filters; canonical are (channel, row, column)."""


class Flat:
    """A vector with a place for every parameter: the weights, their gradient or their momentum.

    Attributes:
        vector: (62006,), zeros at first.
        matrices: layer -> [W | b], (outputs, inputs + 1), a view of the vector.
        tensors: canonical name -> a view of the vector, in the canonical layout.
    """

    def __init__(self, *, dtype: torch.dtype, device: torch.device) -> None:
        shapes = {layer: _matrix_shape(layer) for layer in LAYERS}
        sizes = [math.prod(shape) for shape in shapes.values()]
        self.vector: Float[Tensor, " parameters"] = torch.zeros(sum(sizes), dtype=dtype, device=device)
        parts = zip(shapes.items(), self.vector.split(sizes), strict=True)
        self.matrices = {layer: part.view(shape) for (layer, shape), part in parts}
        self.tensors = {name: _canonical(name, self.matrices[name.partition(".")[0]]) for name in CNN_PARAMETERS}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy canonical tensors in."""
        for name, place in self.tensors.items():
            place.copy_(tensors[name])

    def copies(self) -> dict[str, Tensor]:
        """Canonical name -> a contiguous copy."""
        return {name: place.clone(memory_format=torch.contiguous_format) for name, place in self.tensors.items()}


def _matrix_shape(layer: str) -> tuple[int, int]:
    outputs, *inputs = CNN_PARAMETERS[f"{layer}.weight"]
    return outputs, math.prod(inputs) + 1


def _canonical(name: str, matrix: Tensor) -> Tensor:
    """The part of its layer's matrix that a parameter is, as a view of the canonical shape."""
    layer, _, kind = name.partition(".")
    if kind == "bias":
        return matrix[:, -1]
    weight = matrix[:, :-1]
    if layer not in KERNEL_AXES:
        return weight
    canonical = dict(zip(("channel", "row", "column"), CNN_PARAMETERS[name][1:], strict=True))
    axes = KERNEL_AXES[layer]
    kernel: Tensor = weight.unflatten(1, [canonical[axis] for axis in axes])
    return kernel.permute(0, *(1 + axes.index(axis) for axis in canonical))
