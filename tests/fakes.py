"""A small implementation in NumPy alone, fast enough to test the driver and the command line with.

It trains softmax regression on each image's mean colour, and can be told to go wrong in many ways. `honest` is right;
every other instance here is the same thing with one fault.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.contract import SGD, StepTrace


@dataclass(frozen=True)
class State:
    weight: np.ndarray
    bias: np.ndarray
    buffers: tuple[np.ndarray, np.ndarray] | None
    sgd: SGD
    step: int = 0


@dataclass(frozen=True)
class Fake:
    """`nan_at` and `interrupt_at` are steps; `lr_factor` is a wrong learning rate; `drift` spoils float32 only."""

    nan_at: int | None = None
    interrupt_at: int | None = None
    lr_factor: float = 1.0
    momentum_factor: float = 1.0
    drift: float = 0.0
    has_cuda: bool = False
    constant_loss: float | None = None

    def devices(self):
        return ("cuda", "cpu") if self.has_cuda else ("cpu",)

    def start(self, weights, sgd, *, dtype, device):
        sgd = replace(sgd, lr=sgd.lr * self.lr_factor, momentum=sgd.momentum * self.momentum_factor)
        weight = np.array(weights["fc3.weight"][:, :3], dtype)
        return State(weight=weight, bias=np.array(weights["fc3.bias"], dtype), buffers=None, sgd=sgd)

    def describe(self, state):
        return f"fake, {state.weight.dtype}"

    def place(self, state, images, labels):
        features = images.reshape(len(images), -1, 3).mean(axis=1) / 127.5 - 1
        return features.astype(state.weight.dtype), np.array(labels)

    def run(self, state, data, plan):
        losses = []
        for rows in plan:
            state, loss = self._step(state, data[0][rows], data[1][rows])
            losses.append(loss)
        return state, np.array(losses, state.weight.dtype)

    def _step(self, state: State, features: Any, labels: Any) -> tuple[State, float]:
        if state.step == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        logits = features @ state.weight.T + state.bias
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        loss = float(-np.log(probabilities[rows, labels]).mean())
        probabilities[rows, labels] -= 1
        gradients = (probabilities.T @ features / len(labels), probabilities.mean(axis=0))
        mu = state.sgd.momentum
        old = state.buffers
        buffers = gradients if old is None else tuple(mu * b + g for b, g in zip(old, gradients, strict=True))
        weight = state.weight - state.sgd.lr * buffers[0]
        bias = state.bias - state.sgd.lr * buffers[1]
        if weight.dtype == np.float32:
            bias = bias + np.float32(self.drift)
        loss = np.nan if state.step == self.nan_at else loss
        loss = loss if self.constant_loss is None else self.constant_loss
        return State(weight, bias, buffers, state.sgd, state.step + 1), loss

    def restore(self, state, weights, momentum):
        dtype = state.weight.dtype
        weight, bias = (np.array(weights[name], dtype) for name in ("fc3.weight", "fc3.bias"))
        buffers = tuple(np.array(momentum[name], dtype) for name in ("fc3.weight", "fc3.bias")) if momentum else None
        return replace(state, weight=weight[:, :3], bias=bias, buffers=buffers)

    def observe(self, state, data, rows):
        after, loss = self._step(state, data[0][rows], data[1][rows])
        # From the buffers: what the gradient must have been.
        old = state.buffers or (np.zeros_like(state.weight), np.zeros_like(state.bias))
        gradients = [b - state.sgd.momentum * o for b, o in zip(after.buffers, old, strict=True)]
        return after, StepTrace(
            batch={"images": data[0][rows], "labels": data[1][rows]},
            weights=self.weights(state),
            activations={},
            logits={"logits": data[0][rows] @ state.weight.T + state.bias},
            loss={"loss": np.array(loss)},
            gradients={"fc3.weight": gradients[0], "fc3.bias": gradients[1]},
            momentum=self.momentum(after),
            parameters=self.weights(after),
        )

    def logits(self, state, data):
        return data[0] @ state.weight.T + state.bias

    def weights(self, state):
        return {"fc3.weight": state.weight.copy(), "fc3.bias": state.bias.copy()}

    def momentum(self, state):
        if state.sgd.momentum == 0:
            return {}
        buffers = state.buffers or (np.zeros_like(state.weight), np.zeros_like(state.bias))
        return {"fc3.weight": buffers[0].copy(), "fc3.bias": buffers[1].copy()}


honest = impl = Fake()
wrong_lr = Fake(lr_factor=1.001)
wrong_momentum = Fake(momentum_factor=0.99)
drifting = Fake(drift=1e-5)
turns_nan = Fake(nan_at=7)
turns_nan_late = Fake(nan_at=230)
interrupted = Fake(interrupt_at=60)
interrupted_late = Fake(interrupt_at=215)
with_cuda = Fake(has_cuda=True)


class Raises(Fake):
    def run(self, state, data, plan):
        raise RuntimeError("the user's own fault")


class BadLogits(Fake):
    def logits(self, state, data):
        return super().logits(state, data)[:, 0]


class BadMomentum(Fake):
    def momentum(self, state):
        return {"other": state.bias}


class InfiniteLogits(Fake):
    def logits(self, state, data):
        return np.full((len(data[1]), 10), np.inf)


class Exits(Fake):
    def run(self, state, data, plan):
        sys.exit(0)


class Dies(Fake):
    def run(self, state, data, plan):
        os._exit(0)


class Panics(Fake):
    def run(self, state, data, plan):
        raise Panic("no Exception, as of an extension module")


class Panic(BaseException):
    pass


class BadLosses(Fake):
    def run(self, state, data, plan):
        state, losses = super().run(state, data, plan)
        return state, losses.tolist()


class NoDriver(Fake):
    def devices(self):
        raise RuntimeError("driver too old")


exits, dies, panics, bad_losses, no_driver = Exits(), Dies(), Panics(), BadLosses(), NoDriver()
raises, bad_logits, bad_momentum, infinite_logits = Raises(), BadLogits(), BadMomentum(), InfiniteLogits()


class NoMomentum:
    """Breaks the protocol: two methods are missing."""

    devices = start = describe = restore = place = run = observe = logits = staticmethod(lambda: None)


no_momentum = NoMomentum()
not_an_implementation = 3
