"""The forward pass, the loss and its gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, AnyImplementation, StepTrace, Stream
from parity.drill.catalogue.weights import bfloat16
from parity.drill.fault import ORACLE, Fault, Host, Mutation, Probe
from parity.drill.operating import (
    CONV1,
    FC1,
    FC2,
    average_pool,
    average_pool_backward,
    chain_softmax,
    only,
    operate,
    pool_sharing_ties,
    smooth_log,
    softmax,
)
from parity.drill.updating import Optimized, Turn, double, optimize, sgd_rule
from parity.drill.wrapped import State
from parity.oracle import Operations, Oracle, layers
from parity.oracle.layers import Array, Labels

__all__ = ["MODEL"]

Arrays = dict[str, Array]

FULL = Probe().batch_size
DECAY = 5e-4

_PURPOSE = 9  # keeps this random stream apart from other streams of the same seed


def same(x: Array) -> Array:
    """No operation."""
    return x


def passed(upstream: Array, x: Array) -> Array:  # noqa: ARG001  as `Operations` has it
    """No operation's gradient."""
    return upstream


def without_relu(shape: tuple[int, ...]) -> dict[str, Callable[..., Array]]:
    """The operations, with no ReLU after the layer of this shape."""
    return {
        "relu": only(shape, same, layers.relu),
        "relu_backward": only(shape, passed, layers.relu_backward),
    }


CONV1_KERNEL, FC3_WEIGHT = (6, 3, 5, 5), (10, 84)


def shifted(images: Array) -> Array:
    """Two rows and columns of zeros before the image, as many cut off behind it: where padding SAME puts it."""
    return np.pad(images, ((0, 0), (0, 0), (2, 0), (2, 0)))[:, :, :-2, :-2]


def padded_conv2d(images: Array, kernel: Array, bias: Array) -> Array:
    """conv1 with padding SAME, cut to the size that it should have."""
    return layers.conv2d(shifted(images) if kernel.shape == CONV1_KERNEL else images, kernel, bias)


def padded_conv2d_backward(upstream: Array, images: Array, kernel: Array) -> tuple[Array, Array, Array]:
    """Its gradients; nobody reads that by the images."""
    return layers.conv2d_backward(upstream, shifted(images) if kernel.shape == CONV1_KERNEL else images, kernel)


class Dropout:
    """Dropout of one half after fc1's ReLU, drawn anew at each forward pass."""

    def __init__(self) -> None:
        self.calls = 0
        self.mask: Array = np.ones(1, np.float64)

    def relu(self, x: Array) -> Array:
        """2 m max(x, 0), with m = 0 or 1."""
        if x.shape[1:] != FC1:
            return layers.relu(x)
        self.calls += 1
        kept = Stream(self.calls, _PURPOSE).uniform(x.size) < 0.5
        self.mask = np.where(kept.reshape(x.shape), 2.0, 0.0)
        return layers.relu(x) * self.mask

    def relu_backward(self, upstream: Array, x: Array) -> Array:
        """With the mask of the forward pass before it."""
        return layers.relu_backward(upstream * self.mask if x.shape[1:] == FC1 else upstream, x)


def dropout(host: Host) -> AnyImplementation:  # noqa: ARG001  as `Mutation` has it
    """The oracle with dropout."""
    left_on = Dropout()
    return Oracle(operations=Operations(relu=left_on.relu, relu_backward=left_on.relu_backward))


def rectified_logits(x: Array, weight: Array, bias: Array) -> Array:
    """A ReLU after the last layer too."""
    y = layers.linear(x, weight, bias)
    return layers.relu(y) if weight.shape == FC3_WEIGHT else y


def behind_relu(logits: Array, labels: Labels) -> Array:
    """The gradient by what that ReLU was given; a cross entropy sees no more than its output."""
    return layers.relu_backward(layers.cross_entropy_backward(logits, labels), logits)


def half_at_zero(upstream: Array, x: Array) -> Array:
    """The gradient of `jnp.maximum(x, 0)`: 1/2 where x is 0."""
    half: Array = np.where(x == 0, upstream / 2, layers.relu_backward(upstream, x))
    return half


def times(factor: Callable[[Labels], float]) -> dict[str, Callable[[Array, Labels], Array]]:
    """The loss, and its gradient, times a function of the batch."""
    return {
        "cross_entropy": lambda z, y: np.asarray(factor(y) * layers.cross_entropy(z, y)),
        "cross_entropy_backward": lambda z, y: factor(y) * layers.cross_entropy_backward(z, y),
    }


def twice_softmax(logits: Array, labels: Labels) -> Array:
    """The cross entropy of probabilities taken for logits."""
    return layers.cross_entropy(softmax(logits), labels)


def twice_softmax_backward(logits: Array, labels: Labels) -> Array:
    """Its gradient by the logits."""
    return chain_softmax(layers.cross_entropy_backward(softmax(logits), labels), logits)


class Penalised(Optimized):
    """wd/2 |p|^2 of all parameters is part of the loss, and wd p of the gradients."""

    def __init__(self, inner: AnyImplementation) -> None:
        super().__init__(inner, penalised, sgd_rule)

    def observe(self, state: State, data: Any, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """One step."""
        after, trace = super().observe(state, data, rows)
        penalty = DECAY / 2 * sum(np.sum(np.square(p)) for p in double(trace.weights).values())
        loss = trace.loss["loss"]
        return after, replace(trace, loss={"loss": np.asarray(double(trace.loss)["loss"] + penalty, loss.dtype)})


def penalised(gradients: Arrays, turn: Turn) -> Arrays:
    """Each gradient with wd p added."""
    return {name: g + DECAY * turn.weights[name] for name, g in gradients.items()}


def penalise(host: Host) -> AnyImplementation:
    """See `Penalised`."""
    return Penalised(host.implementation)


def without_first_bias(gradients: Arrays, turn: Turn) -> Arrays:  # noqa: ARG001  as `Gradients` has it
    """No gradient for conv1's bias."""
    return {**gradients, "conv1.bias": np.zeros_like(gradients["conv1.bias"])}


def added_up(gradients: Arrays, turn: Turn) -> Arrays:
    """All gradients since the start."""
    before = turn.memory.get("sum", {})
    turn.memory["sum"] = {name: before.get(name, 0.0) + g for name, g in gradients.items()}
    summed: Arrays = turn.memory["sum"]
    return summed


def clipped_at_one(gradients: Arrays, turn: Turn) -> Arrays:  # noqa: ARG001  as `Gradients` has it
    """All gradients together no longer than 1."""
    norm = np.sqrt(sum(float(np.sum(g * g)) for g in gradients.values()))
    return {name: g * min(1.0, 1 / (norm + 1e-6)) for name, g in gradients.items()}


def through(change: Callable[[Array], Array]) -> Callable[[Arrays, Turn], Arrays]:
    """Each gradient changed by itself."""
    return lambda gradients, _turn: {name: change(g) for name, g in gradients.items()}


def float32(value: Array) -> Array:
    """Through float32 and back."""
    return value.astype(np.float32).astype(value.dtype)


SMOOTH, SMOOTH_BACKWARD = smooth_log(1e-8)

STEEP = Probe(sgd=SGD(lr=0.01), weights_scale=2.0)
"""Weights that are larger have larger gradients: their norm is 2 to 10 on pictures, and the clipping is active."""


def _model(key: str, title: str, stage: str, plant: Mutation, *, first: int = 0, phase: str = "") -> Fault:
    return Fault(key=key, title=title, stage=stage, first=first, phase=phase, scope=ORACLE, plant=plant)


def _gradients(key: str, title: str, change: Callable[[Arrays, Turn], Arrays], *, first: int = 0, **more: Any) -> Fault:
    return Fault(key=key, title=title, stage="gradients", first=first, plant=optimize(gradients=change), **more)


MODEL = (
    _model("relu-missing-conv1", "conv1 has no ReLU", "activations", operate(**without_relu(CONV1))),
    _model("relu-missing-fc2", "fc2 has no ReLU", "activations", operate(**without_relu(FC2))),
    _model(
        "average-pool",
        "pooling takes the mean",
        "activations",
        operate(max_pool=average_pool, max_pool_backward=average_pool_backward),
    ),
    _model(
        "padding-same",
        "conv1 is padded",
        "activations",
        operate(conv2d=padded_conv2d, conv2d_backward=padded_conv2d_backward),
    ),
    _model("dropout-left-on", "dropout of one half after fc1", "activations", dropout),
    _model(
        "relu-on-logits",
        "a ReLU after the last layer",
        "logits",
        operate(linear=rectified_logits, cross_entropy_backward=behind_relu),
    ),
    _model(
        "relu-gradient-at-zero",
        "ReLU is jnp.maximum(x, 0), with gradient 1/2 at 0",
        "gradients",
        operate(relu_backward=half_at_zero),
        phase="tie probe",
    ),
    _model(
        "pool-ties",
        "equal maxima of a window share its gradient",
        "gradients",
        operate(max_pool_backward=pool_sharing_ties),
        phase="tie probe",
    ),
    _model("loss-summed", "the loss is the sum over the batch", "loss", operate(**times(len))),
    _model(
        "softmax-twice",
        "the cross entropy is given probabilities",
        "loss",
        operate(cross_entropy=twice_softmax, cross_entropy_backward=twice_softmax_backward),
    ),
    _model(
        "log-epsilon",
        "the loss is -log(softmax + 1e-8)",
        "loss",
        operate(cross_entropy=SMOOTH, cross_entropy_backward=SMOOTH_BACKWARD),
    ),
    Fault(
        key="l2-in-loss",
        title="wd/2 |p|^2 is part of the loss",
        stage="loss",
        first=0,
        plant=penalise,
    ),
    _model(
        "last-batch-padded",
        "a partial batch's loss is divided by the full batch",
        "loss",
        operate(**times(lambda labels: len(labels) / FULL)),
        first=2,  # the first partial batch
    ),
    _gradients("bias-gradient-lost", "conv1's bias has no gradient", without_first_bias),
    _gradients("gradients-not-reset", "gradients are added to those before", added_up, first=1),
    _gradients("extra-clipping", "gradients are clipped at a norm of 1", clipped_at_one, probe=STEEP),
    _gradients(
        "gradient-rounded-bfloat16",
        "gradients pass through bfloat16",
        through(bfloat16),
        names=frozenset({"gradient-rounded-bfloat16", "gradient-rounded"}),
    ),
    _gradients(
        "gradient-rounded-float32",
        "gradients pass through float32",
        through(float32),
        names=frozenset({"gradient-rounded-float32", "gradient-rounded"}),
    ),
)
