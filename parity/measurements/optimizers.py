"""Update rules, written once more and straightforwardly, for traces whose rule is known. Nothing of `parity.identify`.

Sources: torch.optim (https://docs.pytorch.org/docs/stable/optim.html), optax (https://optax.readthedocs.io), Keras 3's
SGD, and Lion (Chen et al., 2023). All arithmetic is in the dtype of the parameters, in the order of the source's lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Optimizer", "Truth"]

Floats = NDArray[np.floating]
Tensors = Mapping[str, Floats]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A rule and its constants, as they were drawn.

    Args:
        family: "sgd", "adam", "rmsprop", "adagrad" or "lion".
        form: of the momentum: "none", "torch", "keras", "averaged", "debiased" or "scaled" (dampening on every step).
        constants: by name: momentum, dampening, b1, b2, alpha, eps, eps_root, weight_decay, max_norm, clip_value.
        nesterov: look ahead.
        maximize: climb; the decay still shrinks.
        centered: of RMSprop.
        decay: "none", "coupled", "decoupled" (times lr) or "constant" (not times lr).
        undecayed: tensors that do not decay.
        frozen: tensors that are not trained.
        clip: "none", "norm", "exact" or "value".
        every: steps to an update; the gradients are averaged, or summed.
        summed: whether they are summed.
    """

    family: str
    form: str = "none"
    constants: Mapping[str, float] = field(default_factory=dict)
    nesterov: bool = False
    maximize: bool = False
    centered: bool = False
    decay: str = "none"
    undecayed: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    clip: str = "none"
    every: int = 1
    summed: bool = False

    def __getitem__(self, name: str) -> float:
        return self.constants.get(name, 0.0)


class Optimizer:
    """Takes steps by a rule.

    Args:
        truth: the rule.
        schedule: the learning rate of update 0, 1, ...
    """

    def __init__(self, truth: Truth, schedule: Callable[[int], float]) -> None:
        self.truth, self.schedule = truth, schedule
        self.calls = self.updates = 0
        self.sums: dict[str, Floats] = {}
        self.slots: dict[str, dict[str, Any]] = {}

    def step(self, parameters: Tensors, gradients: Tensors) -> dict[str, Floats]:
        """The parameters after a step; every so many steps, if gradients are accumulated."""
        self.calls += 1
        for name, g in gradients.items():
            self.sums[name] = self.sums[name] + g if name in self.sums else g
        if self.calls % self.truth.every:
            return dict(parameters)
        share = 1.0 if self.truth.summed else 1 / self.truth.every
        grads = self._clipped({name: g * g.dtype.type(share) for name, g in self.sums.items()})
        lr, self.sums = self.schedule(self.updates), {}
        self.updates += 1
        return {
            name: p if name in self.truth.frozen or name not in grads else self._update(name, p, grads[name], lr)
            for name, p in parameters.items()
        }

    def _clipped(self, grads: dict[str, Floats]) -> dict[str, Floats]:
        truth = self.truth
        if truth.clip == "value":
            return {name: np.clip(g, -truth["clip_value"], truth["clip_value"]) for name, g in grads.items()}
        if truth.clip == "none":
            return grads
        norm = np.sqrt(sum(np.sum(np.square(g.astype(np.float64))) for g in grads.values()))
        factor = min(1.0, truth["max_norm"] / (norm + (1e-6 if truth.clip == "norm" else 0.0)))
        return {name: g * g.dtype.type(factor) for name, g in grads.items()}

    def _update(self, name: str, p: Floats, g: Floats, lr: float) -> Floats:
        truth, slots = self.truth, self.slots.setdefault(name, {"t": 0})
        slots["t"] += 1
        rate = 0.0 if name in truth.undecayed else truth["weight_decay"]
        g = -g if truth.maximize else g
        g = g + p.dtype.type(rate) * p if truth.decay == "coupled" else g
        step = getattr(self, f"_{truth.family}")(slots, g, lr)
        if truth.decay == "decoupled":
            step = step - p.dtype.type(lr * rate) * p
        elif truth.decay == "constant":
            step = step - p.dtype.type(rate) * p
        return np.asarray(p + step, p.dtype)

    def _sgd(self, slots: dict[str, Any], g: Floats, lr: float) -> Floats:
        return self._buffered(slots, g, g.dtype.type(lr))

    def _buffered(self, slots: dict[str, Any], q: Floats, lr: Any) -> Floats:
        truth, mu = self.truth, q.dtype.type(self.truth["momentum"])
        b = slots.get("b")
        if truth.form == "none":
            return np.asarray(-lr * q)
        if truth.form == "keras":
            v = -lr * q if b is None else mu * b - lr * q
            slots["b"] = v
            return np.asarray(mu * v - lr * q if truth.nesterov else v)
        if truth.form in ("averaged", "debiased", "scaled"):
            d = mu if truth.form != "scaled" else q.dtype.type(truth["dampening"])
            slots["b"] = b = (1 - d) * q if b is None else mu * b + (1 - d) * q
            return np.asarray(-lr * (b / (1 - mu ** slots["t"]) if truth.form == "debiased" else b))
        slots["b"] = b = q.copy() if b is None else mu * b + q.dtype.type(1 - truth["dampening"]) * q
        return np.asarray(-lr * (q + mu * b if truth.nesterov else b))

    def _adam(self, slots: dict[str, Any], g: Floats, lr: float) -> Floats:
        b1, b2, t = self.truth["b1"], self.truth["b2"], slots["t"]
        one = g.dtype.type
        slots["m"] = one(b1) * slots.get("m", one(0)) + one(1 - b1) * g
        slots["v"] = one(b2) * slots.get("v", one(0)) + one(1 - b2) * g * g
        mean, square = slots["m"] / one(1 - b1**t), slots["v"] / one(1 - b2**t)
        return np.asarray(
            -one(lr) * _ratio(mean, np.sqrt(square + one(self.truth["eps_root"])) + one(self.truth["eps"]))
        )

    def _rmsprop(self, slots: dict[str, Any], g: Floats, lr: float) -> Floats:
        one, alpha = g.dtype.type, self.truth["alpha"]
        slots["v"] = v = one(alpha) * slots.get("v", one(0)) + one(1 - alpha) * g * g
        if self.truth.centered:
            slots["a"] = one(alpha) * slots.get("a", one(0)) + one(1 - alpha) * g
            v = np.maximum(v - slots["a"] * slots["a"], one(0))
        q = _ratio(g, np.sqrt(v + one(self.truth["eps_root"])) + one(self.truth["eps"]))
        return self._buffered(slots, q, one(lr))

    def _adagrad(self, slots: dict[str, Any], g: Floats, lr: float) -> Floats:
        one = g.dtype.type
        slots["s"] = slots.get("s", one(self.truth["initial_accumulator"])) + g * g
        return np.asarray(
            -one(lr) * _ratio(g, np.sqrt(slots["s"] + one(self.truth["eps_root"])) + one(self.truth["eps"]))
        )

    def _lion(self, slots: dict[str, Any], g: Floats, lr: float) -> Floats:
        one, (b1, b2) = g.dtype.type, (self.truth["b1"], self.truth["b2"])
        m = slots.get("m", one(0))
        sign = np.sign(one(b1) * m + one(1 - b1) * g)
        slots["m"] = one(b2) * m + one(1 - b2) * g
        return np.asarray(-one(lr) * sign)


def _ratio(a: Floats, b: Floats) -> Floats:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)
