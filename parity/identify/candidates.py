"""Which rules are tried, in order of how many constants they have, and where the search for the constants begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from parity.identify.rule import BY_NORM, DECAY, Constants, Rule
from parity.identify.run import Array, RecordedRun
from parity.identify.variables import FLOORS

__all__ = ["alike", "base", "candidates", "clippings", "decayed", "richer", "simpler", "starts"]

DECAYS = ("none", "coupled", "decoupled", "constant")
CLIPS = ("none", *BY_NORM, "value")

_SGD = (
    Rule(),
    Rule(buffer="torch"),
    Rule(buffer="torch", nesterov=True),
    Rule(buffer="keras"),
    Rule(buffer="keras", nesterov=True),
    Rule(buffer="debiased"),
    Rule(buffer="torch", dampened=True),
)
_EPSILONS = ("none", "outside", "inside", "both")
_ADAM = tuple(Rule(scaling="adam", epsilon=epsilon) for epsilon in _EPSILONS)
_RMS_BUFFERS = (("none", False), ("torch", False), ("keras", False), ("keras", True))
_RMS = tuple(
    Rule(scaling="rms", epsilon=epsilon, centered=centered, buffer=buffer, nesterov=nesterov)
    for epsilon, centered, (buffer, nesterov) in product(_EPSILONS[:3], (False, True), _RMS_BUFFERS)
)
_ADAGRAD = tuple(
    Rule(scaling="adagrad", epsilon=epsilon, initial=initial)
    for epsilon, initial in product(_EPSILONS[:3], (False, True))
)

FAMILIES: dict[str, tuple[Rule, ...]] = {"sgd": _SGD, "adam": _ADAM, "rms": _RMS, "adagrad": _ADAGRAD}


def candidates(linear: bool | None, *, every: int = 1) -> list[Rule]:
    """All rules, the simplest first.

    Args:
        linear: True for SGD's alone that are not clipped by value, whose updates are linear combinations of gradients
            and states; False for all but these; None for all.
        every: gradients of an update, which may have been summed.
    """
    rules = [
        replace(rule, clip=clip, decay=decay)
        for clip, family in product(CLIPS, FAMILIES)
        if every > 1 or clip != "sum"
        if linear is None or (family == "sgd" and clip != "value") == linear
        for rule in FAMILIES[family]
        for decay in DECAYS
    ]
    return sorted(rules, key=lambda rule: (*rule.complexity, rule.clip != "none", rule.decay == "constant"))


def base(rule: Rule) -> Rule:
    """The rule without its parts: what is left is the scaling and the form of the buffer."""
    return replace(rule, decay="none", clip="none", epsilon="none", dampened=False, initial=False)


def richer(rule: Rule) -> Iterator[Rule]:
    """The rules with one part more, and clipping without torch's epsilon, which is nearly clipping with it."""
    if rule.decay == "none":
        yield from (replace(rule, decay=decay) for decay in DECAYS[1:])
    if rule.clip == "none":
        yield from (replace(rule, clip=clip) for clip in ("norm", "value"))
    if rule.clip == "norm":
        yield from (replace(rule, clip=clip) for clip in BY_NORM[1:])
    if rule.epsilon != "both":
        kinds = ("outside", "inside") if rule.epsilon == "none" else ("both",)
        yield from (replace(rule, epsilon=epsilon) for epsilon in kinds)
    yield from (replace(rule, dampened=True), replace(rule, initial=True))
    if rule.buffer == "keras":  # whose rates may be those of dampening's first step, and of clipped gradients
        yield replace(rule, buffer="torch", dampened=True)
        for clip in BY_NORM if rule.clip == "none" else ():
            yield replace(rule, buffer="torch", clip=clip)
            yield replace(rule, buffer="torch", clip=clip, dampened=True)


def clippings(rule: Rule) -> Iterator[Rule]:
    """The rule, and with every other way to divide by the norm."""
    yield rule
    if rule.clip in BY_NORM:
        yield from (replace(rule, clip=clip) for clip in BY_NORM if clip != rule.clip)


def alike(rule: Rule, rules: Iterable[Rule]) -> Iterator[Rule]:
    """Those of the rules that have as many constants and another base, or another kind of one part."""
    for other in rules:
        if len(other.constants) == len(rule.constants):
            changed = [part for part in _PARTS if getattr(other, part) != getattr(rule, part)]
            if (base(other) != base(rule)) + len(changed) == 1 or changed == _ADAGRAD_FLOOR:
                yield other


_PARTS = ("decay", "clip", "epsilon", "dampened", "initial")
_ADAGRAD_FLOOR = ["epsilon", "initial"]
"""Adagrad's initial accumulator and an epsilon inside the root are one constant under two names."""


def simpler(rule: Rule) -> Iterator[Rule]:
    """The rules with one part less."""
    if rule.decay != "none":
        yield replace(rule, decay="none")
    if rule.clip != "none":
        yield replace(rule, clip="none")
    if rule.epsilon != "none":
        smaller = ("outside", "inside") if rule.epsilon == "both" else ("none",)
        yield from (replace(rule, epsilon=epsilon) for epsilon in smaller)
    if rule.dampened:
        yield replace(rule, dampened=False)
    if rule.initial:
        yield replace(rule, initial=False)
    if rule.buffer != "none":
        yield replace(rule, buffer="none", nesterov=False, dampened=False)
    # A denominator that an epsilon outweighs is a constant, and without b1 Adam is RMSprop.
    if rule.scaling == "adam":
        yield replace(rule, scaling="rms")
        yield replace(rule, scaling="none", buffer="debiased", epsilon="none")
    if rule.scaling in ("rms", "adagrad"):
        yield replace(rule, scaling="none", centered=False, epsilon="none", initial=False)


def decayed(rule: Rule) -> Iterator[Rule]:
    """The rule with each kind of decay."""
    yield from (replace(rule, decay=decay) for decay in DECAYS)


_STARTS: dict[str, Sequence[float]] = {
    "momentum": (0.9, 0.5, 0.98),
    "dampening": (0.1, 0.3, 0.6),
    "b1": (0.9, 0.6),
    "b2": (0.999, 0.97, 0.9),
    "alpha": (0.99, 0.9),
    "eps": (1e-8, 1e-5, 1e-3),
    "eps_root": (1e-8, 1e-5),
    "initial_accumulator": (0.1, 1e-3),
    DECAY: (0.0, 0.01, -0.01),
}
_QUANTILES = (0.02, 0.06, 0.15, 0.27, 0.4, 0.55, 0.7, 0.82, 0.92, 0.98)


def starts(rule: Rule, run: RecordedRun, known: Constants, kept: float | None = None) -> list[Constants]:
    """A grid of starting values for the constants that are not known; where clipping begins, from the gradients.

    A bound, and what is added to a denominator, may be known and are yet tried anew, one at a time: a fit that lacked
    another part may have driven them to where nothing leads back. `kept` is a momentum that the updates suggest.
    """
    sizes = np.abs(run.gradients[run.gradients != 0])
    grids = _STARTS | {
        "max_norm": tuple(np.quantile(run.norms[run.norms > 0], (0.0, *_QUANTILES))),  # the first clips every step
        "clip_value": tuple(np.quantile(sizes, _QUANTILES)) if len(sizes) else (1.0,),
    }
    if kept is not None:
        grids["momentum"] = (kept, *grids["momentum"])
    names = [name for name in rule.constants if name not in known]
    rows = product(*(grids[name] for name in names))
    grid = [{name: _whole(name, value, run) for name, value in zip(names, row, strict=True)} for row in rows]
    anew = [{name: value} for name in (*FLOORS, *BOUNDS) if name in known for value in grids[name]]
    return [
        {name: {**known, **row, **other}[name] for name in rule.constants} for row, other in product(grid, [{}, *anew])
    ]


BOUNDS = ("max_norm", "clip_value")


def _whole(name: str, value: float, run: RecordedRun) -> float | Array:
    return np.full(len(run.names), value) if name == DECAY else float(value)
