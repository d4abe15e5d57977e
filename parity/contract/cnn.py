"""The CNN of the PyTorch CIFAR-10 tutorial: its parameters under their canonical names, shapes and layout.

    conv1 3->6 k5, ReLU, max-pool 2, conv2 6->16 k5, ReLU, max-pool 2, flatten (C, H, W),
    fc1 400->120, ReLU, fc2 120->84, ReLU, fc3 84->10

Canonical layout is torch's: convolution kernels OIHW, linear weights (out, in).

Source: https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from parity.contract.draws import Stream
from parity.contract.errors import InputError

__all__ = [
    "CNN_ACTIVATIONS",
    "CNN_PARAMETERS",
    "NUM_CLASSES",
    "Weights",
    "check_images",
    "check_weights",
    "initial_weights",
]

Weights = Mapping[str, NDArray[np.floating]]
"""Canonical tensors by canonical name."""

NUM_CLASSES = 10

CNN_PARAMETERS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "conv1.weight": (6, 3, 5, 5),
        "conv1.bias": (6,),
        "conv2.weight": (16, 6, 5, 5),
        "conv2.bias": (16,),
        "fc1.weight": (120, 400),
        "fc1.bias": (120,),
        "fc2.weight": (84, 120),
        "fc2.bias": (84,),
        "fc3.weight": (10, 84),
        "fc3.bias": (10,),
    }
)

CNN_ACTIVATIONS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "conv1": (6, 28, 28),
        "pool1": (6, 14, 14),
        "conv2": (16, 10, 10),
        "pool2": (16, 5, 5),
        "fc1": (120,),
        "relu3": (120,),
        "fc2": (84,),
        "relu4": (84,),
    }
)
"""What `observe` records between the images and the logits, in forward order: shapes of one image, channels first.

A layer's own name stands for its output before the ReLU; pool1 and pool2 come after ReLU and pooling.
"""

_PURPOSE = 1  # keeps the weights' random stream apart from the index plans'


def initial_weights(seed: int) -> dict[str, NDArray[np.float32]]:
    """Initial weights with torch's default distribution: uniform within +-1/sqrt(fan_in), biases too.

    They are float32 values, so that a float32 and a float64 run start from the same numbers.

    Args:
        seed: the run's seed, >= 0.

    Returns:
        Canonical name -> float32 array of the shape in `CNN_PARAMETERS`.
    """
    stream = Stream(seed, _PURPOSE)
    weights = {}
    for name, shape in CNN_PARAMETERS.items():
        layer = name.partition(".")[0]
        bound = 1 / math.sqrt(math.prod(CNN_PARAMETERS[f"{layer}.weight"][1:]))
        draws = stream.uniform(math.prod(shape)).reshape(shape)
        weights[name] = ((2 * draws - 1) * bound).astype(np.float32)
    return weights


def check_weights(weights: Weights, *, argument: str = "weights", source: str = "given") -> None:
    """Refuse weights that are not exactly this CNN's.

    Args:
        weights: canonical name -> array.
        argument: the argument's name, for the error.
        source: where the weights come from, a file name for example, for the error.

    Raises:
        InputError: a tensor is missing, extra, ill-shaped, not float32 or float64, or holds NaN or infinity.
    """

    def refuse(problem: str) -> InputError:
        return InputError(argument, source, problem, "give the CNN's ten float tensors in torch's layout")

    if missing := sorted(CNN_PARAMETERS.keys() - weights.keys()):
        raise refuse(f"tensor {missing[0]} is missing")
    if extra := sorted(weights.keys() - CNN_PARAMETERS.keys()):
        raise refuse(f"tensor {extra[0]} is not one of the CNN's")
    for name, shape in CNN_PARAMETERS.items():
        value = weights[name]
        if value.shape != shape:
            raise refuse(f"tensor {name} has shape {value.shape}, not {shape}")
        if value.dtype not in (np.float32, np.float64):
            raise refuse(f"tensor {name} is {value.dtype}, not float32 or float64")
        if not np.isfinite(value).all():
            raise refuse(f"tensor {name} holds NaN or infinity")


def check_images(images: NDArray[np.generic]) -> None:
    """Refuse images that are not the pixels that this CNN normalises itself.

    Raises:
        InputError: they are not uint8, or not (N, 32, 32, 3).
    """
    if images.dtype != np.uint8:
        raise InputError("images", images.dtype, "pixels are uint8, 0 to 255", "give them before any normalisation")
    if images.shape[1:] != (32, 32, 3):
        raise InputError("images", images.shape, "their shape is not (N, 32, 32, 3)", "give the channels last")
