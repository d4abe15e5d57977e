"""Update rules as data: what is done to the gradient, how it is scaled, what is kept of it, where weights decay.

A step of every rule, per parameter p with gradient g, is the chain

    g <- clip(g)                                    by global norm or by value
    g <- -g                                         if the rule ascends
    g <- g + weight_decay p                         coupled decay (L2)
    q <- g / denominator(g^2 so far)                Adam, RMSprop, Adagrad; q = g for SGD; a sign for Lion
    d <- buffer(q so far)                           none; torch's, Keras' or the debiased form of momentum
    p <- p - lr d - decoupled decay

with the parts that `simulate.py` spells out. The learning rate may be another at every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from parity.identify.run import Array

__all__ = ["BY_NORM", "DECAY", "FAMILIES", "Constants", "Rule"]

BY_NORM = ("norm", "exact", "sum")
"""Clipping by the global norm: torch's max_norm / (norm + 1e-6), optax' max_norm / norm, and torch's of a sum of
gradients whose mean is looked at."""

DECAY = "weight_decay"

Constants = Mapping[str, "float | Array"]
"""A rule's constants by name; `weight_decay` is an array with one value per tensor."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The form of an update rule, without its constants.

    Args:
        scaling: "none", "adam", "rms", "adagrad" or "lion".
        buffer: "none"; "torch": b = mu b + (1 - d) q, p -= lr b; "keras": v = mu v - lr q, p += v; "debiased": torch's,
            divided by (1 - mu^t) / (1 - mu).
        nesterov: look ahead along the buffer.
        dampened: torch's dampening, which leaves the first step alone.
        centered: the denominator is the gradient's standard deviation (RMSprop).
        epsilon: where the denominator's epsilon is: "none" visible, "outside" or "inside" the root, or "both".
        initial: whether the sum of squares starts above 0 (Adagrad).
        clip: "none", one of `BY_NORM`, or "value".
        decay: "none", "coupled", "decoupled" (lr weight_decay p) or "constant" (weight_decay p, whatever lr is).
        ascent: the gradient's sign is changed; the decay's is not.
    """

    scaling: str = "none"
    buffer: str = "none"
    nesterov: bool = False
    dampened: bool = False
    centered: bool = False
    epsilon: str = "none"
    initial: bool = False
    clip: str = "none"
    decay: str = "none"
    ascent: bool = False

    @property
    def constants(self) -> tuple[str, ...]:
        """The names of its constants, the learning rate aside."""
        present = {
            "momentum": self.buffer != "none",
            "dampening": self.dampened,
            "b1": self.scaling in ("adam", "lion"),
            "b2": self.scaling in ("adam", "lion"),
            "alpha": self.scaling == "rms",
            "eps": self.epsilon in ("outside", "both"),
            "eps_root": self.epsilon in ("inside", "both"),
            "initial_accumulator": self.initial,
            "max_norm": self.clip in BY_NORM,
            "clip_value": self.clip == "value",
            DECAY: self.decay != "none",
        }
        return tuple(name for name, there in present.items() if there)

    @property
    def complexity(self) -> tuple[int, int]:
        """Constants, then forms that need none: of rules that fit alike, the simplest is taken."""
        return len(self.constants), sum((self.nesterov, self.centered, self.buffer not in ("none", "torch")))

    @property
    def name(self) -> str:
        """In the field's terms: "SGD with nesterov momentum, coupled decay"."""
        parts = [FAMILIES[self.scaling]]
        if self.scaling == "adam" and self.decay == "decoupled":
            parts = ["AdamW"]
        if self.centered:
            parts = ["centered", *parts]
        if self.buffer != "none":
            form = {"torch": "", "keras": " in Keras' form (lr inside the buffer)", "debiased": ", debiased average"}
            parts += ["with", *(["nesterov"] if self.nesterov else []), f"momentum{form[self.buffer]}"]
        text = " ".join(parts)
        extras = [
            "dampening" if self.dampened else "",
            _EPSILONS[self.epsilon] if self.scaling in ("rms", "adagrad", "adam") else "",
            "initial accumulator" if self.initial else "",
            _CLIPS[self.clip],
            "" if self.scaling == "adam" and self.decay == "decoupled" else _DECAYS[self.decay],
            "ascent" if self.ascent else "",
        ]
        return ", ".join([text, *filter(None, extras)])


FAMILIES = {"none": "SGD", "adam": "Adam", "rms": "RMSprop", "adagrad": "Adagrad", "lion": "Lion"}
_EPSILONS = {
    "none": "",
    "outside": "epsilon outside the root",
    "inside": "epsilon inside the root",
    "both": "epsilons inside and outside the root",
}
_CLIPS = {
    "none": "",
    "norm": "clipping by global norm (epsilon 1e-6)",
    "exact": "clipping by global norm (no epsilon)",
    "sum": "clipping by global norm of summed gradients (epsilon 1e-6)",
    "value": "clipping by value",
}
_DECAYS = {
    "none": "",
    "coupled": "coupled decay (L2)",
    "decoupled": "decoupled decay (times lr)",
    "constant": "decoupled decay (not times lr)",
}
