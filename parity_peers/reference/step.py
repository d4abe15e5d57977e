"""A training step and many of them: forward, mean cross-entropy, backward, SGD, on buffers made once for a run."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from parity_peers.reference.layers import (
    channels_last,
    compiled,
    conv1,
    conv1_backward,
    conv2,
    conv2_backward,
    cross_entropy,
    linear,
    linear_input_gradient,
    mask,
    normalise,
)
from parity_peers.reference.simd import LANES, axpy, fma, load, load_tile, repeat, store, zero

__all__ = ["Buffers", "Parameters", "Rule", "buffers_for", "train_steps"]

Array = NDArray[Any]


class Parameters(NamedTuple):
    """Weights, or momentum, or the convolutions' gradients; see layers.py and layout.py."""

    kernel1: Array  # (6, 5, 16)
    bias1: Array  # (6,)
    kernel2: Array  # (16, 5, 32)
    bias2: Array  # (16,)
    weight3: Array  # (120, 400)
    bias3: Array  # (120,)
    weight4: Array  # (84, 128)
    bias4: Array  # (84,)
    weight5: Array  # (12, 96)
    bias5: Array  # (12,)


class Rule(NamedTuple):
    """The numbers of SGD's update, in the dtype of the parameters."""

    lr: Any
    momentum: Any
    keep: Any  # 1 - dampening
    weight_decay: Any
    sign: Any  # -1 to maximise
    nesterov: bool


class Buffers(NamedTuple):
    """What a step writes to, for a batch of up to `count` images, a multiple of 4: unused rows stay 0."""

    pixels: Array  # (32 * 32 * 3 + 16,)
    planes: Array  # (32 * 32 * 3 + 16,)
    pool1: Array  # (6 * 14 * 16 + 16,)
    winners1: Array  # (count, 6 * 14 * 16)
    pool1_last: Array  # (count, 14 * 14 * 6 + 16)
    pool2: Array  # (count, 400)
    winners2: Array  # (count, 400)
    hidden3: Array  # (count, 128)
    hidden4: Array  # (count, 96)
    logits: Array  # (count, 12)
    by_pool1: Array  # (14 * 14 * 6 + 16,)
    by_pool2: Array  # (count, 400)
    by_hidden3: Array  # (count, 128)
    by_hidden4: Array  # (count, 96)
    by_logits: Array  # (count, 12)
    taps1: Array  # (3 * 5 * 5 * 6,)
    taps2: Array  # (6 * 5 * 5 * 16,)


def buffers_for(batch: int, dtype: str) -> Buffers:
    """Zeros for a batch of this size."""
    count = -(-batch // 4) * 4

    def zeros(*shape: int, kind: str = dtype) -> Array:
        return np.zeros(shape, kind)

    return Buffers(
        pixels=zeros(32 * 32 * 3 + LANES),
        planes=zeros(32 * 32 * 3 + LANES),
        pool1=zeros(6 * 14 * LANES + LANES),
        winners1=zeros(count, 6 * 14 * LANES, kind="int16"),
        pool1_last=zeros(count, 14 * 14 * 6 + LANES),
        pool2=zeros(count, 25 * LANES),
        winners2=zeros(count, 25 * LANES, kind="int16"),
        hidden3=zeros(count, 128),
        hidden4=zeros(count, 96),
        logits=zeros(count, 12),
        by_pool1=zeros(14 * 14 * 6 + LANES),
        by_pool2=zeros(count, 25 * LANES),
        by_hidden3=zeros(count, 128),
        by_hidden4=zeros(count, 96),
        by_logits=zeros(count, 12),
        taps1=zeros(3 * 5 * 5 * 6),
        taps2=zeros(6 * 5 * 5 * LANES),
    )


@compiled
def train_steps(
    parameters: Any,
    velocity: Any,
    gradients: Any,
    buffers: Any,
    images: Any,
    planes: Any,
    labels: Any,
    plan: Any,
    losses: Any,
    rule: Any,
    *,
    fresh: bool,
) -> None:
    """One step for each row of the plan; `fresh` says that the velocity is not there yet."""
    for number in range(plan.shape[0]):
        keep = rule.lr * 0 + 1 if fresh and number == 0 else rule.keep
        losses[number] = train_step(
            parameters, velocity, gradients, buffers, images, planes, labels, plan[number], rule, keep
        )


@compiled
def train_step(
    parameters: Any,
    velocity: Any,
    gradients: Any,
    buffers: Any,
    images: Any,
    planes: Any,
    labels: Any,
    rows: Any,
    rule: Any,
    keep: Any,
) -> Any:
    """Updates parameters and velocity in place; the loss before the update."""
    features(parameters, buffers, planes, rows)
    loss = classify(parameters, velocity, buffers, labels[rows], rule, keep)
    feature_gradients(parameters, gradients, buffers, images, rows)
    update(parameters.kernel1, gradients.kernel1, velocity.kernel1, rule, keep)
    update(parameters.bias1, gradients.bias1, velocity.bias1, rule, keep)
    update(parameters.kernel2, gradients.kernel2, velocity.kernel2, rule, keep)
    update(parameters.bias2, gradients.bias2, velocity.bias2, rule, keep)
    return loss


@compiled
def features(parameters: Any, buffers: Any, planes: Any, rows: Any) -> None:
    """The convolutions, image by image."""
    make_taps(parameters.kernel1, buffers.taps1, 3, 6)
    make_taps(parameters.kernel2, buffers.taps2, 6, 16)
    full, half = parameters.bias1.dtype.type(255), parameters.bias1.dtype.type(0.5)
    for n in range(rows.size):
        normalise(planes[rows[n]], full, half, buffers.planes)
        conv1(buffers.planes, buffers.taps1, parameters.bias1, buffers.pool1, buffers.winners1[n])
        channels_last(buffers.pool1, buffers.pool1_last[n])
        conv2(buffers.pool1, buffers.taps2, parameters.bias2, buffers.pool2[n], buffers.winners2[n])


@compiled
def make_taps(kernel: Any, taps: Any, channels: int, filters: int) -> None:
    """(filters, 5, row) -> (channels, 5, 5, filters)."""
    for o in range(filters):
        for i in range(5):
            for j in range(5):
                for c in range(channels):
                    taps[((c * 5 + i) * 5 + j) * filters + o] = kernel[o, i, j * channels + c]


@compiled
def classify(parameters: Any, velocity: Any, buffers: Any, labels: Any, rule: Any, keep: Any) -> Any:
    """The linear layers, the loss, their gradients and their update; leaves the gradient by conv2's winners."""
    p, v, b = parameters, velocity, buffers
    linear(b.pool2, p.weight3, p.bias3, b.hidden3)
    rectify(b.hidden3)
    linear(b.hidden3, p.weight4, p.bias4, b.hidden4)
    rectify(b.hidden4)
    linear(b.hidden4, p.weight5, p.bias5, b.logits)
    loss = cross_entropy(b.logits, labels, b.by_logits)
    linear_input_gradient(b.by_logits, p.weight5, b.by_hidden4)
    mask(b.by_hidden4, b.hidden4)
    linear_input_gradient(b.by_hidden4, p.weight4, b.by_hidden3)
    mask(b.by_hidden3, b.hidden3)
    linear_input_gradient(b.by_hidden3, p.weight3, b.by_pool2)
    mask(b.by_pool2, b.pool2)
    linear_update(b.by_logits, b.hidden4, p.weight5, p.bias5, v.weight5, v.bias5, rule, keep)
    linear_update(b.by_hidden4, b.hidden3, p.weight4, p.bias4, v.weight4, v.bias4, rule, keep)
    linear_update(b.by_hidden3, b.pool2, p.weight3, p.bias3, v.weight3, v.bias3, rule, keep)
    return loss


@compiled
def rectify(hidden: Any) -> None:
    """ReLU, in place; a NaN stays one."""
    flat = hidden.reshape(-1)
    for i in range(flat.size):
        flat[i] = 0 if flat[i] <= 0 else flat[i]


@compiled
def feature_gradients(parameters: Any, gradients: Any, buffers: Any, images: Any, rows: Any) -> None:
    """The convolutions' gradients, added up over the batch image by image.

    The pixels are normalised anew: to write them down in the forward pass and read them here takes longer.
    """
    full, half = parameters.bias1.dtype.type(255), parameters.bias1.dtype.type(0.5)
    gradients.kernel1[:] = 0
    gradients.bias1[:] = 0
    gradients.kernel2[:] = 0
    gradients.bias2[:] = 0
    for n in range(rows.size):
        conv2_backward(
            buffers.by_pool2[n],
            buffers.winners2[n],
            buffers.pool1_last[n],
            parameters.kernel2,
            buffers.by_pool1,
            gradients.kernel2,
            gradients.bias2,
        )
        mask(buffers.by_pool1[: 14 * 14 * 6], buffers.pool1_last[n, : 14 * 14 * 6])
        normalise(images[rows[n]], full, half, buffers.pixels)
        conv1_backward(buffers.by_pool1, buffers.winners1[n], buffers.pixels, gradients.kernel1, gradients.bias1)
    gradients.kernel1[:, :, 15:] = 0  # what lies beside a window's row was added up too
    gradients.kernel2[:, :, 30:] = 0


@compiled
def update(parameter: Any, gradient: Any, velocity: Any, rule: Any, keep: Any) -> None:
    """SGD, in place; see `parity.contract.sgd`."""
    p, g, v = parameter.reshape(-1), gradient.reshape(-1), velocity.reshape(-1)
    for i in range(p.size):
        direction = rule.sign * g[i] + rule.weight_decay * p[i]
        v[i] = rule.momentum * v[i] + keep * direction
        p[i] -= rule.lr * (direction + rule.momentum * v[i] if rule.nesterov else v[i])


@compiled
def linear_update(
    upstream: Any, x: Any, weight: Any, bias: Any, velocity: Any, bias_velocity: Any, rule: Any, keep: Any
) -> None:
    """`update` with the gradients upstream^T x and the sum of upstream, which are never stored."""
    inputs, outputs = weight.shape[1], weight.shape[0]
    columns = upstream.shape[1]
    for o in range(0, outputs, 4):
        for i in range(0, inputs, LANES):
            gradient = repeat(zero(weight), 4)
            for n in range(x.shape[0]):
                gradient = fma(gradient, (load(x, n * inputs + i),), upstream, n * columns + o, 1)
            at = o * inputs + i
            old = load_tile(weight, at, inputs, 4)
            direction = axpy(axpy(repeat(zero(weight), 4), rule.sign, gradient), rule.weight_decay, old)
            moved = axpy(repeat(zero(weight), 4), rule.momentum, load_tile(velocity, at, inputs, 4))
            moved = axpy(moved, keep, direction)
            store(velocity, at, inputs, moved)
            if rule.nesterov:
                moved = axpy(direction, rule.momentum, moved)
            store(weight, at, inputs, axpy(old, -rule.lr, moved))
    update(bias, upstream.sum(axis=0)[:outputs], bias_velocity, rule, keep)
