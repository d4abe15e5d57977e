"""How the learning rate changes. The honest side halves it at each epoch, which is three steps long."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, ExponentialLR, StepLR
from parity.drill.fault import Fault, Mutation, Probe
from parity.drill.updating import Tensor, Turn, configure, optimize, sgd_rule
from parity.oracle.schedule import rates

__all__ = ["SCHEDULE"]

Array = NDArray[np.float64]

EPOCH = Probe().steps_per_epoch
HALVED = Probe(sgd=SGD(lr=0.01, schedule=StepLR(step_size=1, gamma=0.5, every=EPOCH)))
DECAYING = Probe(sgd=SGD(lr=0.01, schedule=ExponentialLR(gamma=0.9)))


def at_lr(lr: float, tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """Torch's rule with this learning rate."""
    return sgd_rule(tensor, replace(turn, sgd=replace(turn.sgd, lr=lr, schedule=None)))


def one_step_late(tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """The count of the step before."""
    return sgd_rule(tensor, replace(turn, number=max(turn.number - 1, 0)))


def inside_the_buffer(tensor: Tensor, turn: Turn) -> tuple[Array, Array]:
    """Keras' form: v <- mu v - lr g, p <- p + v. The buffer shown is -v / lr, which is torch's while lr is constant."""
    lr, before = rates(turn.sgd, turn.number).lr, rates(turn.sgd, max(turn.number - 1, 0)).lr
    v = -lr * tensor.gradient
    if tensor.buffer is not None:
        v = v - turn.sgd.momentum * before * tensor.buffer
    return tensor.value + v, -v / lr


def smooth(tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """Eta gamma^(t / epoch), without the steps."""
    return at_lr(turn.sgd.lr * 0.5 ** (turn.number / EPOCH), tensor, turn)


def inverse_time(tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """Eta / (1 + d t), Keras' `decay`."""
    return at_lr(turn.sgd.lr / (1 + 0.01 * turn.number), tensor, turn)


def in_float32(tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """Eta gamma^t, computed in float32."""
    lr = np.float32(turn.sgd.lr) * np.float32(0.9) ** np.float32(turn.number)
    return at_lr(float(lr), tensor, turn)


def _update(key: str, title: str, first: int, plant: Mutation) -> Fault:
    return Fault(key=key, title=title, stage="update", first=first, plant=plant, probe=HALVED)


def _halving(every: int, taken: int = 0) -> Mutation:
    return configure(schedule=StepLR(step_size=1, gamma=0.5, every=every, taken=taken))


SCHEDULE = (
    _update("first-lr-skipped", "the scheduler is stepped before the first update", 0, _halving(EPOCH, taken=EPOCH)),
    _update("lr-early", "the learning rate changes one step early", EPOCH - 1, _halving(EPOCH, taken=1)),
    _update("lr-late", "the learning rate changes one step late", EPOCH, optimize(one_step_late)),
    _update("scheduler-per-batch", "the scheduler counts batches for epochs", 1, _halving(1)),
    _update("lr-baked", "the learning rate never changes", EPOCH, configure(schedule=None)),
    Fault(
        key="lr-inside-buffer",
        title="the learning rate is inside the buffer, as in Keras",
        stage="momentum",
        first=EPOCH,  # the forms are the same until the rate changes
        plant=optimize(inside_the_buffer),
        probe=HALVED,
    ),
    Fault(
        key="inverse-time-decay",
        title="a decay of 0.01 is added to the learning rate, as in Keras",
        stage="update",
        first=1,
        plant=optimize(inverse_time),
    ),
    _update("no-staircase", "the learning rate decays smoothly", 1, optimize(smooth)),
    Fault(
        key="float32-schedule",
        title="the schedule is computed in float32",
        stage="update",
        first=0,
        plant=optimize(in_float32),
        probe=DECAYING,
        names=frozenset({"float32-schedule", "lr-in-float32"}),  # one step shows one learning rate
    ),
)
