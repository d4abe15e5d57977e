"""Reverse-mode differentiation in NumPy, just enough to write small programs that capture their own activations."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np


@dataclass(eq=False)
class Node:
    """A value, what it is computed from, and how a gradient goes back there. Without a name it is not captured."""

    value: np.ndarray
    sources: tuple = ()
    name: str | None = None
    weight: bool = False
    number: int = field(default_factory=itertools.count().__next__)

    def __add__(self, other):
        return add(self, other)

    def __mul__(self, other):
        return mul(self, other)

    def __sub__(self, other):
        return add(self, mul(wrap(other), -1.0))


def wrap(value):
    return value if isinstance(value, Node) else Node(np.asarray(value, np.float64))


def _unbroadcast(gradient, shape):
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    return gradient.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True).reshape(shape)


def add(x, y, name=None):
    x, y = wrap(x), wrap(y)
    sources = tuple((node, lambda g, node=node: _unbroadcast(g, node.value.shape)) for node in (x, y))
    return Node(x.value + y.value, sources, name)


def mul(x, y, name=None):
    x, y = wrap(x), wrap(y)
    back = (
        (x, lambda g: _unbroadcast(g * y.value, x.value.shape)),
        (y, lambda g: _unbroadcast(g * x.value, y.value.shape)),
    )
    return Node(x.value * y.value, back, name)


def power(x, exponent, name=None):
    return Node(x.value**exponent, ((x, lambda g: g * exponent * x.value ** (exponent - 1)),), name)


def exp(x, name=None):
    value = np.exp(x.value)
    return Node(value, ((x, lambda g: g * value),), name)


def tanh(x, name=None):
    value = np.tanh(x.value)
    return Node(value, ((x, lambda g: g * (1 - value**2)),), name)


def relu(x, name=None):
    return Node(np.maximum(x.value, 0), ((x, lambda g: g * (x.value > 0)),), name)


def mean(x, axes, name=None):
    count = np.prod([x.value.shape[axis] for axis in axes])
    back = ((x, lambda g: np.broadcast_to(g / count, x.value.shape)),)
    return Node(x.value.mean(axis=axes, keepdims=True), back, name)


def total(x, axes, name=None):
    back = ((x, lambda g: np.broadcast_to(g, x.value.shape)),)
    return Node(x.value.sum(axis=axes, keepdims=True), back, name)


def reshape(x, shape, name=None):
    return Node(x.value.reshape(shape), ((x, lambda g: g.reshape(x.value.shape)),), name)


def transpose(x, axes, name=None):
    return Node(x.value.transpose(axes), ((x, lambda g: g.transpose(np.argsort(axes))),), name)


def einsum(spec, x, y, name=None):
    """Every index must be in two of the three places, so that the gradients are einsums too."""
    inputs, out = spec.split("->")
    a, b = inputs.split(",")
    back = (
        (x, lambda g: np.einsum(f"{out},{b}->{a}", g, y.value)),
        (y, lambda g: np.einsum(f"{out},{a}->{b}", g, x.value)),
    )
    return Node(np.einsum(spec, x.value, y.value), back, name)


def windows(x, size, axes, name=None):
    """Sliding windows over two axes, as two new last axes."""
    value = np.lib.stride_tricks.sliding_window_view(x.value, (size, size), axes)

    def back(g):
        found = np.zeros_like(x.value)
        view = np.lib.stride_tricks.sliding_window_view(found, (size, size), axes, writeable=True)
        for i, j in itertools.product(range(size), repeat=2):
            view[..., i, j] += g[..., i, j]
        return found

    return Node(value.copy(), ((x, back),), name)


def piece(x, first, last, name=None):
    """Rows first to last."""

    def back(g):
        found = np.zeros_like(x.value)
        found[first:last] = g
        return found

    return Node(x.value[first:last], ((x, back),), name)


def blocked(x, name=None):
    """The same value, through which no gradient passes."""
    return Node(x.value, ((x, np.zeros_like),), name)


def ordered(node):
    """Everything that a node is computed from, itself included, in the order in which it was made."""
    found, waiting = {}, [node]
    while waiting:
        each = waiting.pop()
        if each.number not in found:
            found[each.number] = each
            waiting += [source for source, _ in each.sources]
    return [found[number] for number in sorted(found)]


def gradients(loss):
    """Node number -> gradient of the loss."""
    found = {loss.number: np.ones_like(loss.value)}
    for node in reversed(ordered(loss)):
        for source, back in node.sources:
            found[source.number] = found.get(source.number, 0.0) + back(found[node.number])
    return found


def captured(node):
    """The named values behind a node, in forward order, and the nearest named ones that each is computed from."""
    nodes = ordered(node)
    activations = {each.name: each.value.copy() for each in nodes if each.name and not each.weight}
    above: dict[int, tuple[str, ...]] = {}
    parents = {}
    for each in nodes:
        near = []
        for source, _ in each.sources:
            near += [source.name] if source.name in activations else above[source.number]
        above[each.number] = tuple(dict.fromkeys(near))
        if each.name in activations:
            parents[each.name] = above[each.number]
    return activations, parents
