"""The CNN as a chain of small parts, each with its gradient, that can be taken out or replaced one by one.

A part maps x to y; its `backward` takes the loss's gradient by y and returns that by x, and by the parameters that it
reads. A step's trace holds the output of each node of the chain, so that every node can be computed from what was
recorded before it: a fault in one does not spoil what is predicted of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from parity.contract import StepTrace, Tensors
from parity.oracle import layers
from parity.oracle.layers import Array

__all__ = [
    "NODES",
    "Convolution",
    "Flatten",
    "Linear",
    "Map",
    "MaxPool",
    "Node",
    "Nodes",
    "Part",
    "Reading",
    "Relu",
    "average_pool",
    "gradients_of",
    "inputs_of",
    "output_of",
    "softmax",
]

Weights = Tensors
Gradients = dict[str, Array]


class Part(Protocol):
    """One operation of a layer."""

    def forward(self, x: Array, weights: Weights) -> Array:
        """Y of x, both with a leading batch axis."""
        ...

    def backward(self, upstream: Array, x: Array, weights: Weights) -> tuple[Array, Gradients]:
        """The loss's gradients by x, and by the parameters that the part reads."""
        ...


@dataclass(frozen=True)
class Reading:
    """How a layer reads its weight: with the elements of the canonical tensor in another order.

    Args:
        name: what it does, for a sentence; "" for the canonical order.
        order: numbers of the flattened tensor's elements.
    """

    name: str = ""
    order: tuple[int, ...] = field(default=(), repr=False)

    def read(self, weight: Array) -> Array:
        """The tensor that the layer works with."""
        return weight.reshape(-1)[list(self.order)].reshape(weight.shape) if self.order else weight

    def unread(self, gradient: Array) -> Array:
        """The gradient by the canonical tensor."""
        if not self.order:
            return gradient
        canonical = np.empty(gradient.size)
        canonical[list(self.order)] = gradient.reshape(-1)
        return canonical.reshape(gradient.shape)


@dataclass(frozen=True, kw_only=True)
class _Affine:
    """What convolutions and linear layers share: a weight, read in some order, and a bias, or none."""

    layer: str
    reading: Reading = Reading()
    bias: bool = True

    def parameters(self, weights: Weights) -> tuple[Array, Array]:
        """Weight and bias as the layer works with them."""
        weight, bias = (np.asarray(weights[f"{self.layer}.{kind}"], np.float64) for kind in ("weight", "bias"))
        return self.reading.read(weight), bias if self.bias else np.zeros_like(bias)

    def gradients(self, by_weight: Array, by_bias: Array) -> Gradients:
        """By the canonical parameters."""
        by_bias = by_bias if self.bias else np.zeros_like(by_bias)
        return {f"{self.layer}.weight": self.reading.unread(by_weight), f"{self.layer}.bias": by_bias}


@dataclass(frozen=True, kw_only=True)
class Convolution(_Affine):
    """`parity.oracle.layers.conv2d`, with so many zeros before and after each axis of the images, cut to `size`."""

    padding: tuple[int, int] = (0, 0)
    size: int | None = None

    def forward(self, x: Array, weights: Weights) -> Array:
        """(batch, channels, height, width) to (batch, filters, height', width')."""
        return layers.conv2d(self._padded(x), *self.parameters(weights))

    def backward(self, upstream: Array, x: Array, weights: Weights) -> tuple[Array, Gradients]:
        """See `Part`."""
        by_x, *by_parameters = layers.conv2d_backward(upstream, self._padded(x), self.parameters(weights)[0])
        before, (height, width) = self.padding[0], x.shape[2:]
        whole = np.zeros((*x.shape[:2], height + sum(self.padding), width + sum(self.padding)))
        whole[:, :, : by_x.shape[2], : by_x.shape[3]] = by_x  # what was cut off has no gradient
        return whole[:, :, before : before + height, before : before + width], self.gradients(*by_parameters)

    def _padded(self, x: Array) -> Array:
        return np.pad(x, ((0, 0), (0, 0), self.padding, self.padding))[:, :, : self.size, : self.size]


@dataclass(frozen=True, kw_only=True)
class Linear(_Affine):
    """`parity.oracle.layers.linear`."""

    def forward(self, x: Array, weights: Weights) -> Array:
        """(batch, inputs) to (batch, outputs)."""
        return layers.linear(x, *self.parameters(weights))

    def backward(self, upstream: Array, x: Array, weights: Weights) -> tuple[Array, Gradients]:
        """See `Part`."""
        by_x, *by_parameters = layers.linear_backward(upstream, x, self.parameters(weights)[0])
        return by_x, self.gradients(*by_parameters)


@dataclass(frozen=True, kw_only=True)
class Relu:
    """max(x, 0). Its slope at 0 is 0 in torch and jax.nn.relu, 1/2 in jnp.maximum."""

    at_zero: float = 0.0

    def forward(self, x: Array, weights: Weights) -> Array:  # noqa: ARG002  a part may read weights
        """Of any shape."""
        return layers.relu(x)

    def backward(self, upstream: Array, x: Array, weights: Weights) -> tuple[Array, Gradients]:  # noqa: ARG002
        """See `Part`."""
        return layers.relu_backward(upstream, x) + np.where(x == 0, self.at_zero * upstream, 0.0), {}


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """The maximum of windows of 2 by 2. Of a tie, the first or the last gets the gradient, or all in equal shares."""

    ties: str = "first"

    def forward(self, x: Array, weights: Weights) -> Array:  # noqa: ARG002
        """(batch, channels, height, width) to half of height and width."""
        return layers.max_pool(x)

    def backward(self, upstream: Array, x: Array, weights: Weights) -> tuple[Array, Gradients]:  # noqa: ARG002
        """See `Part`."""
        if self.ties == "first":
            return layers.max_pool_backward(upstream, x), {}
        if self.ties == "last":
            flipped = layers.max_pool_backward(upstream[:, :, ::-1, ::-1], x[:, :, ::-1, ::-1])
            return flipped[:, :, ::-1, ::-1], {}
        winners = _spread(layers.max_pool(x)) == x
        shares = winners / _spread(layers.max_pool(np.ones_like(x)) * _window_sums(winners))
        return _spread(upstream) * shares, {}


def _spread(pooled: Array) -> Array:
    """Each window's value at all four of its places."""
    return pooled.repeat(2, axis=2).repeat(2, axis=3)


def _window_sums(x: Array) -> Array:
    """The sum of each window of 2 by 2."""
    sums: Array = sliding_window_view(x, (2, 2), axis=(2, 3))[:, :, ::2, ::2].sum(axis=(-2, -1))
    return sums


@dataclass(frozen=True, kw_only=True)
class Flatten:
    """(batch, C, H, W) to (batch, features), with the axes in this order."""

    order: str = "CHW"

    def forward(self, x: Array, weights: Weights) -> Array:  # noqa: ARG002
        """See the class."""
        return x.transpose(self._axes()).reshape(len(x), -1)

    def backward(self, upstream: Array, x: Array, weights: Weights) -> tuple[Array, Gradients]:  # noqa: ARG002
        """See `Part`."""
        axes = self._axes()
        return upstream.reshape([x.shape[axis] for axis in axes]).transpose(np.argsort(axes)), {}

    def _axes(self) -> tuple[int, ...]:
        return (0, *(1 + "CHW".index(axis) for axis in self.order))


@dataclass(frozen=True, kw_only=True)
class Map:
    """Any function without parameters.

    Args:
        name: for a sentence.
        function: y of x.
        pullback: the gradient by x, of the gradient by y and x.
    """

    name: str
    function: Callable[[Array], Array] = field(repr=False)
    pullback: Callable[[Array, Array], Array] = field(repr=False)

    def forward(self, x: Array, weights: Weights) -> Array:  # noqa: ARG002
        """See the class."""
        return self.function(x)

    def backward(self, upstream: Array, x: Array, weights: Weights) -> tuple[Array, Gradients]:  # noqa: ARG002
        """See `Part`."""
        return self.pullback(upstream, x), {}


average_pool = Map(
    name="an average pool",
    function=lambda x: _window_sums(x) / 4,
    pullback=lambda upstream, x: _spread(upstream) / 4,  # noqa: ARG005  it is linear
)


def softmax(logits: Array) -> Array:
    """Of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


Node = tuple[Part, ...]
Nodes = Mapping[str, Node]

NODES: Nodes = {
    "conv1": (Convolution(layer="conv1"),),
    "pool1": (Relu(), MaxPool()),
    "conv2": (Convolution(layer="conv2"),),
    "pool2": (Relu(), MaxPool()),
    "fc1": (Flatten(), Linear(layer="fc1")),
    "relu3": (Relu(),),
    "fc2": (Linear(layer="fc2"),),
    "relu4": (Relu(),),
    "logits": (Linear(layer="fc3"),),
}
"""Named as `parity.contract.CNN_ACTIVATIONS`, and the logits."""


def output_of(node: Node, x: Array, weights: Weights) -> Array:
    """What a node computes."""
    for part in node:
        x = part.forward(x, weights)
    return x


def inputs_of(trace: StepTrace) -> dict[str, Array]:
    """What each node read, as far as it was recorded: the output of the node before it."""
    outputs = {"images": trace.batch.get("images"), **trace.activations}
    names = ["images", *list(NODES)[:-1]]
    pairs = zip(NODES, names, strict=True)
    return {name: np.asarray(outputs[before], np.float64) for name, before in pairs if outputs.get(before) is not None}


def gradients_of(nodes: Nodes, trace: StepTrace, upstream: Array) -> Gradients:
    """The chain rule through what was recorded.

    Args:
        nodes: of the chain.
        trace: with every node's input.
        upstream: (batch, 10), the loss's gradient by the logits.

    Returns:
        The gradient by every parameter, in the order of the forward pass.
    """
    inputs, found = inputs_of(trace), Gradients()
    for name in reversed(list(nodes)):
        steps = list(_through(nodes[name], inputs[name], trace.weights))
        for part, x in reversed(steps):
            upstream, gradients = part.backward(upstream, x, trace.weights)
            found |= gradients
    return {name: found[name] for name in trace.weights if name in found}


def _through(node: Node, x: Array, weights: Weights) -> Iterator[tuple[Part, Array]]:
    """Each part of a node, and what it reads."""
    for part in node:
        yield part, x
        x = part.forward(x, weights)
