"""Faults that the catalogue does not hold: chosen before the explainer was looked at, to measure it on what it ignores.

| key | what a port does | first seen at |
| --- | --- | --- |
| label-smoothing | the loss smooths the labels by 0.1 | loss, 0 |
| class-weighted-loss | the loss weighs the classes | loss, 0 |
| running-mean-loss | the loss that is recorded is the mean of all so far | loss, 1 |
| logits-scaled | a temperature is left in: the outputs are divided by sqrt(84) | logits, 0 |
| fc3-bias-missing | the last layer has no bias | logits, 0 |
| bias-added-twice | conv2 adds its bias, and so does the code around it | activations, 0 |
| bias-after-relu | fc1 rectifies before it adds its bias | activations, 0 |
| pool-offset | pooling windows begin one row and one column later | activations, 0 |
| leaky-relu | ReLU lets 0.01 of what is negative through | activations, 0 |
| flatten-columns-first | features are flattened as (C, W, H) | activations, 0 |
| next-image | the image of each label is the next one's in the set | batch, 0 |
| batch-statistics | images are normalised by their own batch's mean and deviation | batch, 0 |
| flip-left-on | every second image is mirrored, an augmentation that was left on | batch, 0 |
| world-size | gradients are averaged over two workers where there is one | gradients, 0 |
| gradients-centred | each filter's gradient has its mean taken off | gradients, 0 |
| stop-gradient | nothing flows back from fc1 into the convolutions | gradients, 0 |
| clip-each-tensor | each tensor's gradient is clipped by its own norm, not by that of all | gradients, 0 |
| momentum-reset | the optimizer is made anew at each epoch | momentum, first of epoch 1 |
| momentum-warm-up | the momentum factor is 1 - 0.5 / (t + 1) at first | momentum, 1 |
| decay-to-start | weights decay towards where they began, not towards 0 | momentum, 1 |
| debiased-average | an average of gradients, divided by 1 - mu^t | momentum, 0 |
| biases-twice-lr | biases learn at twice the rate, as in Caffe | update, 0 |
| max-norm | each unit's weights are kept within a norm of 0.5 | update, 0 |
| averaged-weights-evaluated | the evaluation reads a moving average of the weights | evaluation, after the steps |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from parity.contract import SGD
from parity.drill.catalogue.data import images_of, with_images
from parity.drill.fault import ANY, ORACLE, UNKNOWN, Fault, Mutation, Probe
from parity.drill.feeding import Choice, Order, feed, reorder
from parity.drill.operating import log_softmax, operate, scaled_pixels
from parity.drill.reporting import average_evaluated, mean_of_losses
from parity.drill.updating import Tensor, Turn, optimize, sgd_rule
from parity.oracle import layers
from parity.oracle.layers import Array, Labels, Pixels
from parity.problem import Arrays

__all__ = ["OUTSIDE"]

Gradients = dict[str, Array]

CLASSES = 10
SMOOTHING = 0.1
LIMIT = 0.1  # a norm that some tensors' gradients pass, and some do not
CONV2, FC1_WEIGHT, FC3_WEIGHT = (16, 6, 5, 5), (120, 400), (10, 84)


def weighted(weights: Callable[[Labels], Array]) -> dict[str, Callable[[Array, Labels], Array]]:
    """The cross entropy of targets that are no one-hot rows: L = -1/N sum_nc w[n,c] log p[n,c]."""

    def loss(logits: Array, labels: Labels) -> Array:
        return np.asarray(-(weights(labels) * log_softmax(logits)).sum(axis=1).mean())

    def backward(logits: Array, labels: Labels) -> Array:
        w = weights(labels)
        by_logits: Array = (np.exp(log_softmax(logits)) * w.sum(axis=1, keepdims=True) - w) / len(labels)
        return by_logits

    return {"cross_entropy": loss, "cross_entropy_backward": backward}


def one_hot(labels: Labels) -> Array:
    """(batch,) class numbers to (batch, 10) rows."""
    return np.asarray(labels[:, np.newaxis] == np.arange(CLASSES), np.float64)


def smoothed(labels: Labels) -> Array:
    """A tenth of each label's weight is spread over all classes."""
    return (1 - SMOOTHING) * one_hot(labels) + SMOOTHING / CLASSES


def by_class(labels: Labels) -> Array:
    """Class c weighs 1 + c / 10."""
    return one_hot(labels) * (1 + labels[:, np.newaxis] / CLASSES)


def scaled_logits() -> dict[str, Callable[..., Any]]:
    """The outputs are divided by sqrt(84), and what comes back from the loss too."""
    factor = 1 / np.sqrt(84)

    def linear(x: Array, weight: Array, bias: Array) -> Array:
        y: Array = layers.linear(x, weight, bias)
        return np.multiply(factor, y) if weight.shape == FC3_WEIGHT else y

    return {"linear": linear, "cross_entropy_backward": lambda z, y: factor * layers.cross_entropy_backward(z, y)}


def linear_without_last_bias(x: Array, weight: Array, bias: Array) -> Array:
    """fc3 does not add its bias."""
    return layers.linear(x, weight, 0 * bias if weight.shape == FC3_WEIGHT else bias)


def twice_biased(images: Array, kernel: Array, bias: Array) -> Array:
    """conv2 adds its bias twice."""
    return layers.conv2d(images, kernel, 2 * bias if kernel.shape == CONV2 else bias)


def twice_biased_backward(upstream: Array, images: Array, kernel: Array) -> tuple[Array, Array, Array]:
    """So its gradient is twice as large."""
    by_images, by_kernel, by_bias = layers.conv2d_backward(upstream, images, kernel)
    return by_images, by_kernel, 2 * by_bias if kernel.shape == CONV2 else by_bias


def bias_after_relu(x: Array, weight: Array, bias: Array) -> Array:
    """fc1 is relu(x w) + b."""
    if weight.shape != FC1_WEIGHT:
        return layers.linear(x, weight, bias)
    return layers.relu(x @ weight.T) + bias


def shifted_pool(images: Array) -> Array:
    """Windows begin one row and one column later, and the last ones wrap round."""
    return layers.max_pool(np.roll(images, (-1, -1), axis=(2, 3)))


def shifted_pool_backward(upstream: Array, images: Array) -> Array:
    """The same windows."""
    by_images = layers.max_pool_backward(upstream, np.roll(images, (-1, -1), axis=(2, 3)))
    return np.roll(by_images, (1, 1), axis=(2, 3))


def leaky(x: Array) -> Array:
    """0.01 x where x is negative."""
    return np.where(x > 0, x, 0.01 * x)


def leaky_backward(upstream: Array, x: Array) -> Array:
    """Its slope."""
    return np.where(x > 0, upstream, 0.01 * upstream)


def columns_first(x: Array) -> Array:
    """Features in (C, W, H) order."""
    return x.reshape(len(x), 16, 5, 5).swapaxes(2, 3).reshape(len(x), -1)


def columns_first_linear(x: Array, weight: Array, bias: Array) -> Array:
    """fc1 reads them so."""
    return layers.linear(columns_first(x) if weight.shape == FC1_WEIGHT else x, weight, bias)


def columns_first_backward(upstream: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """And so do its gradients; the permutation is its own inverse."""
    if weight.shape != FC1_WEIGHT:
        return layers.linear_backward(upstream, x, weight)
    by_x, by_weight, by_bias = layers.linear_backward(upstream, columns_first(x), weight)
    return columns_first(by_x), by_weight, by_bias


def detached(upstream: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Nothing flows back from fc1."""
    by_x, by_weight, by_bias = layers.linear_backward(upstream, x, weight)
    return (0 * by_x if weight.shape == FC1_WEIGHT else by_x), by_weight, by_bias


def next_image(order: Order, step: int) -> Choice:
    """The image of row i + 1 with the label of row i."""
    rows = np.asarray(order.batches[step])
    return (rows + 1) % order.size, rows


def standardised(images: Pixels) -> Array:
    """(x - mean) / deviation, of the batch's own channels."""
    x = scaled_pixels(1.0, 0.0)(images)
    normal: Array = (x - x.mean(axis=(0, 2, 3), keepdims=True)) / x.std(axis=(0, 2, 3), keepdims=True)
    return normal


def mirrored(arrays: Arrays, step: int) -> Arrays:  # noqa: ARG001  as `Feeding` has it
    """Every second image, left for right."""
    images = np.array(images_of(arrays))
    images[::2] = images[::2, :, ::-1]
    return with_images(arrays, images)


def halved(gradients: Gradients, turn: Turn) -> Gradients:  # noqa: ARG001  as `Gradients` has it
    """The mean over two workers, of which there is one."""
    return {name: g / 2 for name, g in gradients.items()}


def centred(gradients: Gradients, turn: Turn) -> Gradients:  # noqa: ARG001  as `Gradients` has it
    """Each unit's gradient has the mean over its inputs taken off."""
    return {
        name: g - g.mean(axis=tuple(range(1, g.ndim)), keepdims=True) if g.ndim > 1 else g
        for name, g in gradients.items()
    }


def clipped_each(gradients: Gradients, turn: Turn) -> Gradients:
    """The limit is for each tensor's norm."""
    limit = turn.sgd.clip_norm or LIMIT
    return {name: g * min(1.0, limit / (float(np.linalg.norm(g)) + 1e-6)) for name, g in gradients.items()}


def reset_each_epoch(tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """No buffer at an epoch's first step."""
    first = turn.number % Probe().steps_per_epoch == 0
    return sgd_rule(replace(tensor, buffer=None) if first else tensor, turn)


def warming_up(tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """The momentum is min(mu, 1 - 0.5 / (t + 1))."""
    momentum = min(turn.sgd.momentum, 1 - 0.5 / (turn.number + 1))
    return sgd_rule(tensor, replace(turn, sgd=replace(turn.sgd, momentum=momentum)))


def towards_start(tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """Each gradient with 0.01 (p - p0) added."""
    return sgd_rule(replace(tensor, gradient=tensor.gradient + 0.01 * (tensor.value - tensor.start)), turn)


def debiased(tensor: Tensor, turn: Turn) -> tuple[Array, Array]:
    """Adam's first moment alone: b <- mu b + (1 - mu) g, p <- p - lr b / (1 - mu^t)."""
    mu = turn.sgd.momentum
    b = (1 - mu) * tensor.gradient + (0.0 if tensor.buffer is None else mu * tensor.buffer)
    return tensor.value - turn.sgd.lr * b / (1 - mu ** (turn.number + 1)), b


def biases_twice_lr(tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """2 lr for tensors of one dimension."""
    lr = turn.sgd.lr * (2 if tensor.value.ndim == 1 else 1)
    return sgd_rule(tensor, replace(turn, sgd=replace(turn.sgd, lr=lr)))


def max_norm(tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """After the step no unit's weights are longer than 0.5."""
    moved, buffer = sgd_rule(tensor, turn)
    if moved.ndim < 2:
        return moved, buffer
    norms = np.sqrt(np.square(moved).sum(axis=tuple(range(1, moved.ndim)), keepdims=True))
    return moved * np.minimum(1.0, 0.5 / norms), buffer


SAID: dict[str, tuple[str, ...]] = {
    "label-smoothing": ("label-smoothing",),
    "logits-scaled": ("layer-scaled",),
    "leaky-relu": ("other-activation",),
    "world-size": ("gradients-scaled",),
    "stop-gradient": ("gradient-lost",),
    "clip-each-tensor": ("clipping-per-tensor",),
    "biases-twice-lr": ("lr-per-tensor",),
    "debiased-average": ("averaged-momentum",),
    "fc3-bias-missing": ("bias-left-out",),
    "next-image": ("images-beside-other-labels",),
}
"""Causes whose sentence says what the fault is, although the faults were chosen before there were any."""


def _outside(
    key: str, title: str, stage: str, plant: Mutation, *, first: int = 0, names: tuple[str, ...] = (), **more: Any
) -> Fault:
    right = frozenset({UNKNOWN, *names, *SAID.get(key, ())})
    return Fault(key=key, title=title, stage=stage, first=first, plant=plant, names=right, **more)


def _in_model(key: str, title: str, stage: str, plant: Mutation, names: tuple[str, ...] = ()) -> Fault:
    return _outside(key, title, stage, plant, names=names, scope=ORACLE)


OUTSIDE = (
    _in_model("label-smoothing", "the loss smooths the labels by 0.1", "loss", operate(**weighted(smoothed))),
    _in_model("class-weighted-loss", "the loss weighs the classes", "loss", operate(**weighted(by_class))),
    _outside(
        "running-mean-loss", "the recorded loss is the mean of all so far", "loss", mean_of_losses, first=1, scope=ANY
    ),
    _in_model("logits-scaled", "the outputs are divided by sqrt(84)", "logits", operate(**scaled_logits())),
    _in_model("fc3-bias-missing", "the last layer has no bias", "logits", operate(linear=linear_without_last_bias)),
    _in_model(
        "bias-added-twice",
        "conv2 adds its bias twice",
        "activations",
        operate(conv2d=twice_biased, conv2d_backward=twice_biased_backward),
    ),
    _in_model(
        "bias-after-relu", "fc1 rectifies before it adds its bias", "activations", operate(linear=bias_after_relu)
    ),
    _in_model(
        "pool-offset",
        "pooling windows begin one row and one column later",
        "activations",
        operate(max_pool=shifted_pool, max_pool_backward=shifted_pool_backward),
    ),
    _in_model(
        "leaky-relu",
        "ReLU lets 0.01 of what is negative through",
        "activations",
        operate(relu=leaky, relu_backward=leaky_backward),
    ),
    _in_model(
        "flatten-columns-first",
        "features are flattened as (C, W, H)",
        "activations",
        operate(linear=columns_first_linear, linear_backward=columns_first_backward),
        names=("flatten-order", "flatten-order-by-layout"),  # it is one more wrong order of fc1's features
    ),
    _outside("next-image", "each label has the next row's image", "batch", reorder(next_image), scope=ANY),
    _in_model("batch-statistics", "images are normalised by their own batch", "batch", operate(normalise=standardised)),
    _outside("flip-left-on", "every second image is mirrored", "batch", feed(mirrored), scope=ANY),
    _outside("world-size", "gradients are averaged over two workers", "gradients", optimize(gradients=halved)),
    _outside("gradients-centred", "each filter's gradient is centred", "gradients", optimize(gradients=centred)),
    _in_model("stop-gradient", "nothing flows back from fc1", "gradients", operate(linear_backward=detached)),
    _outside(
        "clip-each-tensor",
        "each tensor's gradient is clipped by itself",
        "gradients",
        optimize(gradients=clipped_each),
        probe=Probe(sgd=SGD(lr=0.01, clip_norm=LIMIT)),
    ),
    _outside(
        "momentum-reset",
        "the momentum is reset at each epoch",
        "momentum",
        optimize(reset_each_epoch),
        first=3,  # the second epoch's first step
    ),
    _outside("momentum-warm-up", "the momentum rises at first", "momentum", optimize(warming_up), first=1),
    _outside("decay-to-start", "weights decay towards their start", "momentum", optimize(towards_start), first=1),
    _outside("debiased-average", "a debiased average of gradients", "momentum", optimize(debiased)),
    _outside("biases-twice-lr", "biases learn at twice the rate", "update", optimize(biases_twice_lr)),
    _outside("max-norm", "units' weights are kept within a norm", "update", optimize(max_norm)),
    _outside(
        "averaged-weights-evaluated",
        "the evaluation reads averaged weights",
        "evaluation",
        average_evaluated,
        first=Probe().steps,
        scope=ANY,
    ),
)
