"""The tutorial's CNN as a chain of layers, and the chain rule through it.

Source: https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from parity.contract import CNN_PARAMETERS, SGD
from parity.oracle import layers
from parity.oracle.layers import Array, Labels, Pixels
from parity.oracle.sgd import clip_gradients, sgd_update

__all__ = ["Arrays", "Operations", "backward", "forward"]

Arrays = Mapping[str, Array]
"""Parameters, gradients or layers' outputs, by name."""


@dataclass(frozen=True, kw_only=True)
class Operations:
    """What a training step is made of. An oracle with one of them replaced is a program with a known fault."""

    normalise: Callable[[Pixels], Array] = layers.normalise
    conv2d: Callable[[Array, Array, Array], Array] = layers.conv2d
    conv2d_backward: Callable[[Array, Array, Array], tuple[Array, Array, Array]] = layers.conv2d_backward
    relu: Callable[[Array], Array] = layers.relu
    relu_backward: Callable[[Array, Array], Array] = layers.relu_backward
    max_pool: Callable[[Array], Array] = layers.max_pool
    max_pool_backward: Callable[[Array, Array], Array] = layers.max_pool_backward
    linear: Callable[[Array, Array, Array], Array] = layers.linear
    linear_backward: Callable[[Array, Array, Array], tuple[Array, Array, Array]] = layers.linear_backward
    cross_entropy: Callable[[Array, Labels], Array] = layers.cross_entropy
    cross_entropy_backward: Callable[[Array, Labels], Array] = layers.cross_entropy_backward
    clip_gradients: Callable[[Arrays, SGD], dict[str, Array]] = clip_gradients
    sgd_update: Callable[[Array, Array, Array | None, SGD, int], tuple[Array, Array | None]] = sgd_update


def forward(ops: Operations, weights: Arrays, images: Array) -> dict[str, Array]:
    """Every layer's output, in order; the logits are the last, "fc3".

    Args:
        ops: the layers.
        weights: the ten parameters, in canonical layout.
        images: (batch, 3, 32, 32), normalised.

    Returns:
        The activations of `CNN_ACTIVATIONS` with a leading batch axis, "relu1" and "relu2" between them, and "fc3".
    """
    w, x = weights, {}
    x["conv1"] = ops.conv2d(images, w["conv1.weight"], w["conv1.bias"])
    x["relu1"] = ops.relu(x["conv1"])
    x["pool1"] = ops.max_pool(x["relu1"])
    x["conv2"] = ops.conv2d(x["pool1"], w["conv2.weight"], w["conv2.bias"])
    x["relu2"] = ops.relu(x["conv2"])
    x["pool2"] = ops.max_pool(x["relu2"])
    x["fc1"] = ops.linear(_flatten(x["pool2"]), w["fc1.weight"], w["fc1.bias"])
    x["relu3"] = ops.relu(x["fc1"])
    x["fc2"] = ops.linear(x["relu3"], w["fc2.weight"], w["fc2.bias"])
    x["relu4"] = ops.relu(x["fc2"])
    x["fc3"] = ops.linear(x["relu4"], w["fc3.weight"], w["fc3.bias"])
    return x


def backward(ops: Operations, weights: Arrays, images: Array, outputs: Arrays, upstream: Array) -> dict[str, Array]:
    """The gradients of the loss by the parameters, computed from the last layer to the first.

    Args:
        ops: the layers.
        weights: as `forward` was given.
        images: as `forward` was given.
        outputs: what `forward` returned.
        upstream: (batch, 10), the gradient by the logits.

    Returns:
        The ten parameters' gradients, in the order of `CNN_PARAMETERS`.
    """
    w, x, by = weights, outputs, {}
    dy, by["fc3.weight"], by["fc3.bias"] = ops.linear_backward(upstream, x["relu4"], w["fc3.weight"])
    dy = ops.relu_backward(dy, x["fc2"])
    dy, by["fc2.weight"], by["fc2.bias"] = ops.linear_backward(dy, x["relu3"], w["fc2.weight"])
    dy = ops.relu_backward(dy, x["fc1"])
    dy, by["fc1.weight"], by["fc1.bias"] = ops.linear_backward(dy, _flatten(x["pool2"]), w["fc1.weight"])
    dy = ops.max_pool_backward(dy.reshape(x["pool2"].shape), x["relu2"])
    dy = ops.relu_backward(dy, x["conv2"])
    dy, by["conv2.weight"], by["conv2.bias"] = ops.conv2d_backward(dy, x["pool1"], w["conv2.weight"])
    dy = ops.max_pool_backward(dy, x["relu1"])
    dy = ops.relu_backward(dy, x["conv1"])
    _, by["conv1.weight"], by["conv1.bias"] = ops.conv2d_backward(dy, images, w["conv1.weight"])
    return {name: by[name] for name in CNN_PARAMETERS}


def _flatten(images: Array) -> Array:
    """(batch, channels, height, width) -> (batch, features), channel by channel."""
    return images.reshape(len(images), -1)
