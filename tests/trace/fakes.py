"""Sides for traces: softmax regression with a tensor large enough to be projected, and faults at a chosen step."""

from __future__ import annotations

import resource
from dataclasses import dataclass, replace

import numpy as np

from tests.explain.steps import sgd_with, stepping
from tests.fakes import Fake, State

DISK_FULL_AT = 600


@dataclass(frozen=True)
class Wide(Fake):
    """1,920 weights. From step `deviates_at` on, `stage` is off once by `size`, relative, in a random direction.

    The momentum is off by a factor: its norm is all that a trace keeps of it at most steps.
    """

    deviates_at: int | None = None
    stage: str = "update"
    size: float = 1e-6
    fills_disk: bool = False

    def start(self, weights, sgd, *, dtype, device):
        state = super().start(weights, sgd, dtype=dtype, device=device)
        return replace(state, weight=weights["fc1.weight"].ravel()[:1920].reshape(10, 192).astype(dtype))

    def place(self, state, images, labels):
        features = images[:, ::4, ::4].reshape(len(images), -1) / 127.5 - 1
        return features.astype(state.weight.dtype), np.array(labels)

    def _step(self, state, features, labels):
        if self.fills_disk and state.step == DISK_FULL_AT:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as far as this process can tell
        after, loss = super()._step(state, features, labels)
        if state.step != self.deviates_at:
            return after, loss
        if self.stage == "loss":
            return after, loss * (1 + self.size)
        if self.stage == "momentum":
            return replace(after, buffers=tuple(b * (1 + self.size) for b in after.buffers)), loss
        return replace(after, weight=self._displaced(after)), loss

    def _displaced(self, state: State) -> np.ndarray:
        direction = np.random.default_rng(state.step).standard_normal(state.weight.shape)
        return state.weight + self.size * np.linalg.norm(state.weight) * direction / np.linalg.norm(direction)


impl = Wide()
wrong_lr = Wide(lr_factor=1.001)
turns_nan = Wide(nan_at=300)
interrupted = Wide(interrupt_at=300)
fills_disk = Wide(fills_disk=True)


def _signs(p, g, b, sgd, step):
    b = g if b is None else 0.9 * b + g
    return p - sgd.lr * np.sign(b) * np.abs(g) ** 0.5, b * np.abs(b)


no_rule = stepping(_signs)
"""The oracle with an optimizer that is none."""

other_momentum = sgd_with(momentum=0.99)
"""The oracle with another constant in its optimizer."""
