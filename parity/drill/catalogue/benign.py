"""Changes that are no faults: the same mathematics in other words. Each must match, and have no name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, AnyImplementation, ExponentialLR, StepTrace
from parity.drill.catalogue.reports import right_metric
from parity.drill.catalogue.schedule import inside_the_buffer
from parity.drill.fault import ANY, CNN, ORACLE, Benign, Host, Mutation, Probe
from parity.drill.feeding import Choice, Order, feed, reorder
from parity.drill.operating import log_softmax, operate, scaled_pixels
from parity.drill.reporting import in_pieces, score_with
from parity.drill.starting import start_with
from parity.drill.updating import Optimized, Tensor, Turn, clipped, configure, optimize, sgd_rule
from parity.drill.wrapped import State, Wrapped
from parity.oracle import layers
from parity.oracle.layers import Array, Labels
from parity.problem import Arrays

__all__ = ["BENIGN"]

Floats = NDArray[np.float64]


def wrapped(host: Host) -> AnyImplementation:
    """Nothing is changed."""
    return Wrapped(host.implementation)


def reversed_batch(arrays: Arrays, step: int) -> Arrays:  # noqa: ARG001  as `Feeding` has it
    """The same examples, the last first."""
    return tuple(array[::-1] for array in arrays)


def own_loader(order: Order, step: int) -> Choice:
    """The rows that it is told."""
    return order.batches[step], order.batches[step]


def as_they_were(arrays: Arrays, step: int) -> Arrays:  # noqa: ARG001  as `Feeding` has it
    """Copies, in another memory order."""
    return tuple(np.asfortranarray(array) for array in arrays)


def float32_values(weights: Any) -> Any:
    """Weights that are float32 values pass through float32 unharmed."""
    return {name: value.astype(np.float32).astype(np.float64) for name, value in weights.items()}


def twice_log_softmax(logits: Array, labels: Labels) -> Array:
    """Log p is its own log softmax."""
    return layers.cross_entropy(log_softmax(logits), labels)


def twice_log_softmax_backward(logits: Array, labels: Labels) -> Array:
    """(p - onehot) / N, through both: the rows of the inner gradient add up to 0."""
    inner = layers.cross_entropy_backward(log_softmax(logits), labels)
    outer: Array = inner - np.exp(log_softmax(logits)) * inner.sum(axis=1, keepdims=True)
    return outer


def one_hot_cross_entropy(logits: Array, labels: Labels) -> Array:
    """A sum over one-hot rows, for a choice by index."""
    onehot = labels[:, np.newaxis] == np.arange(logits.shape[1])
    return np.asarray(-np.sum(onehot * log_softmax(logits)) / len(labels))


def before_pooling(x: Array) -> Array:
    """No ReLU before a pooling, which does it."""
    return x if x.ndim == 4 else layers.relu(x)


def before_pooling_backward(upstream: Array, x: Array) -> Array:
    """Likewise."""
    return upstream if x.ndim == 4 else layers.relu_backward(upstream, x)


def pool_then_relu(images: Array) -> Array:
    """relu(max) for max(relu)."""
    return layers.relu(layers.max_pool(images))


def pool_then_relu_backward(upstream: Array, images: Array) -> Array:
    """Where the maximum is negative, nothing comes back."""
    return layers.max_pool_backward(layers.relu_backward(upstream, layers.max_pool(images)), images)


def unfolded_conv2d(images: Array, kernel: Array, bias: Array) -> Array:
    """A sum over the kernel's places, one matrix product for each: another order of summation."""
    rows, columns = kernel.shape[2:]
    height, width = images.shape[2] - rows + 1, images.shape[3] - columns + 1
    y: Array = np.broadcast_to(bias[:, np.newaxis, np.newaxis], (len(images), len(kernel), height, width)).copy()
    for k, m in np.ndindex(rows, columns):
        window = images[:, :, k : k + height, m : m + width]
        y += np.einsum("oc,nchw->nohw", kernel[:, :, k, m], window)
    return y


def reversed_linear(x: Array, weight: Array, bias: Array) -> Array:
    """The terms of each sum in reverse."""
    return layers.linear(x[:, ::-1], weight[:, ::-1], bias)


def masked_relu(x: Array) -> Array:
    """A choice, for a maximum."""
    return np.where(x > 0, x, 0.0)


class MicroBatches(Optimized):
    """Each batch in two halves, whose gradients are averaged by their sizes; recorded is what belongs to the whole."""

    def __init__(self, inner: AnyImplementation) -> None:
        super().__init__(inner, lambda _whole, turn: clipped(turn.memory["mean"], turn), sgd_rule)

    def observe(self, state: State, data: Any, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """One step of the whole, and the halves' gradients for its own."""
        halves = [half for half in np.array_split(rows, 2) if len(half)]
        parts = [self.inner.observe(state.inner, data, half)[1].gradients for half in halves]
        shares = [len(half) / len(rows) for half in halves]
        mean = {
            name: sum(share * np.asarray(part[name], np.float64) for share, part in zip(shares, parts, strict=True))
            for name in parts[0]
        }
        return super().observe(replace(state, memory={**state.memory, "mean": mean}), data, rows)


def micro_batches(host: Host) -> AnyImplementation:
    """See `MicroBatches`."""
    return MicroBatches(host.implementation)


def shrunk_first(tensor: Tensor, turn: Turn) -> tuple[Floats, Floats | None]:
    """The step p (1 - lr wd) - lr g, which is the coupled decay where there is no momentum."""
    sgd = turn.sgd
    return tensor.value * (1 - sgd.lr * sgd.weight_decay) - sgd.lr * tensor.gradient, None


def two_part_nesterov(tensor: Tensor, turn: Turn) -> tuple[Floats, Floats]:
    """The step p - lr mu b - lr g, in two differences for one."""
    mu, lr, g = turn.sgd.momentum, turn.sgd.lr, tensor.gradient
    b = g if tensor.buffer is None else mu * tensor.buffer + g
    return (tensor.value - lr * mu * b) - lr * g, b


def powers_by_hand(tensor: Tensor, turn: Turn) -> tuple[Floats, Floats | None]:
    """The learning rate times gamma at each step, as torch computes it, for a power."""
    lr = turn.sgd.lr
    for _ in range(turn.number):
        lr *= 0.9
    return sgd_rule(tensor, replace(turn, sgd=replace(turn.sgd, lr=lr, schedule=None)))


def _change(key: str, title: str, plant: Mutation, *, scope: str = CNN, probe: Probe | None = None) -> Benign:
    return Benign(key=key, title=title, plant=plant, scope=scope, probe=probe or Probe())


def _in_model(key: str, title: str, **operations: Callable[..., Any]) -> Benign:
    return Benign(key=key, title=title, plant=operate(**operations), scope=ORACLE)


BENIGN = (
    _change("reordered-inside-batch", "examples in another order inside the batch", feed(reversed_batch), scope=ANY),
    _in_model("other-normalisation-words", "x / 127.5 - 1", normalise=scaled_pixels(1 / 127.5, -1.0)),
    _in_model(
        "log-softmax-twice",
        "log_softmax of log_softmax",
        cross_entropy=twice_log_softmax,
        cross_entropy_backward=twice_log_softmax_backward,
    ),
    _in_model(
        "pool-before-relu",
        "ReLU after pooling",
        relu=before_pooling,
        relu_backward=before_pooling_backward,
        max_pool=pool_then_relu,
        max_pool_backward=pool_then_relu_backward,
    ),
    _change("float32-weights", "weights that are float32 values pass through float32", start_with(float32_values)),
    _change("nothing", "a wrapper that passes everything on", wrapped, scope=ANY),
    _change("run-in-pieces", "each run step by step", in_pieces, scope=ANY),
    _change("own-loader", "a loader of its own, with the same order", reorder(own_loader), scope=ANY),
    _change("memory-order", "batches in another memory order", feed(as_they_were), scope=ANY),
    _change("own-optimizer", "the same rule, in NumPy", optimize()),
    _change("keras-form", "the learning rate inside the buffer, while it is constant", optimize(inside_the_buffer)),
    _change("micro-batches", "each batch in two parts, averaged by their sizes", micro_batches),
    _change("same-hyper-parameters", "hyper-parameters given once more", configure(dampening=0.0, maximize=False)),
    _change("score-stated", "the program states its accuracy, rightly", score_with(right_metric)),
    _change(
        "decay-before-the-step",
        "p (1 - lr wd) - lr g, without momentum",
        optimize(shrunk_first),
        probe=Probe(sgd=SGD(lr=0.01, momentum=0.0, weight_decay=5e-4)),
    ),
    _change(
        "nesterov-in-two-parts",
        "p - lr mu b - lr g",
        optimize(two_part_nesterov),
        probe=Probe(sgd=SGD(lr=0.01, nesterov=True)),
    ),
    _change(
        "rate-by-rate",
        "the learning rate times gamma at each step, for a power",
        optimize(powers_by_hand),
        probe=Probe(sgd=SGD(lr=0.01, schedule=ExponentialLR(gamma=0.9))),
    ),
    _in_model("one-hot-loss", "the loss as a sum over one-hot rows", cross_entropy=one_hot_cross_entropy),
    _in_model("unfolded-convolution", "convolutions summed place by place", conv2d=unfolded_conv2d),
    _in_model("reversed-sums", "linear layers summed from the other end", linear=reversed_linear),
    _in_model("masked-relu", "x where it is positive", relu=masked_relu),
)
