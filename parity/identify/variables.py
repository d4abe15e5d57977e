"""What a fit searches in place of a rule's constants: variables of order one, from which no step leads out of range.

    momentum, b1, b2, alpha         asinh(T (1 - constant) / 2), T the number of steps
    max_norm, clip_value            log(constant)
    eps, eps_root, initial          asinh(constant / 2 s), s the size of a gradient or its square
    dampening, weight_decay         themselves

An asinh is a logarithm where a constant is large, and linear where it is too small to show: a logarithm would have made
a plateau of that, which a search does not leave.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from parity.identify.derivatives import along
from parity.identify.rule import BY_NORM, DECAY, Constants, Rule
from parity.identify.run import Array, RecordedRun
from parity.identify.simulate import clip_sizes

__all__ = ["FLOORS", "Variables", "always_clipped", "at_bound", "clips_always", "in_range", "released", "settled_bound"]

NEAR = 1e-6
"""Relative: what a search leaves is less."""

SIGMAS = 5.0
"""A bound that is above the smallest gradient by less than so many standard errors may as well be at it, where no step
is left that tells the bound from a multiple of it."""

_RATES = ("momentum", "b1", "b2", "alpha")
FLOORS = {"eps": 1, "eps_root": 2, "initial_accumulator": 2}
"""What is added to a denominator, and the power of the gradient that it is compared with."""


def clips_always(rule: Rule, max_norm: float, run: RecordedRun, *, error: float = 0.0) -> bool:
    """Whether no step has a smaller gradient than this bound, or none that its standard error lets one tell."""
    return max_norm - SIGMAS * error <= _smallest(rule, run)


def in_range(constants: Constants) -> Constants:
    """Without the rates that no optimizer has: a fit that lacks another part may drive them anywhere."""
    return {name: value for name, value in constants.items() if name not in _RATES or 0 <= np.max(value) < 1}


def always_clipped(rule: Rule, constants: Constants, run: RecordedRun) -> bool:
    """Whether the rule clips by norm, and does so in every step."""
    return rule.clip in BY_NORM and clips_always(rule, float(np.max(constants["max_norm"])), run)


def at_bound(rule: Rule, constants: Constants, bound: float) -> dict[str, float | Array]:
    """The same rule where it always clips, with another bound, and all constants that grow with the gradients.

    A search that has run away may have none: then some are infinite.
    """
    powers = {**FLOORS, "max_norm": 1, DECAY: int(rule.decay == "coupled")}
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        factor = np.float64(bound) / np.max(constants["max_norm"])
        return {name: value * factor ** powers.get(name, 0) for name, value in constants.items()}


def released(rule: Rule, constants: Constants, run: RecordedRun) -> Constants:
    """The same rule with a bound that the smallest gradient does not reach."""
    sizes = np.unique(clip_sizes(rule, run)[run.norms > 0])[:2]
    return at_bound(rule, constants, float(np.exp(np.log(sizes).mean())))


def settled_bound(rule: Rule, constants: Constants, run: RecordedRun) -> Constants:
    """The constants; a bound that lies at the smallest gradient, but for what a search leaves, is there."""
    if rule.clip not in BY_NORM:
        return constants
    smallest = _smallest(rule, run)
    if smallest < cast(float, constants["max_norm"]) <= smallest * (1 + NEAR):
        return {**constants, "max_norm": smallest}
    return constants


def _smallest(rule: Rule, run: RecordedRun) -> float:
    return float(clip_sizes(rule, run)[run.norms > 0].min(initial=np.inf))


@dataclass(frozen=True, eq=False)
class Variables:
    """The variables of one search; all methods take or give them as one vector.

    Args:
        names: of the constants that are searched.
        groups: (tensors, decays): what each searched decay adds to each tensor's.
        size: of a gradient's elements.
        steps: of the run.
    """

    names: tuple[str, ...]
    groups: Array
    size: float
    steps: int

    @classmethod
    def of(
        cls,
        rule: Rule,
        run: RecordedRun,
        constants: Constants,
        groups: Array | None = None,
        only: Collection[str] | None = None,
    ) -> Variables:
        """For a run, from these constants; with a decay of its own for each tensor if there are no groups.

        Not searched are Lion's rates, which are seen through signs alone, and a bound that every step's norm exceeds:
        any multiple of it is the same rule with other constants.
        """
        names = [name for name in rule.constants if rule.scaling != "lion" or name == DECAY]
        names = [name for name in names if only is None or name in only]
        if "max_norm" in names and clips_always(rule, float(cast(float, constants["max_norm"])), run):
            names.remove("max_norm")
        there = np.abs(run.gradients[run.gradients != 0])
        size = float(np.median(there)) if len(there) else 1.0
        return cls(tuple(names), np.eye(len(run.names)) if groups is None else groups, max(size, 1e-100), run.steps)

    def pack(self, constants: Constants) -> Array:
        """The variables of these constants."""
        parts = [np.zeros(0)]
        for name in self.names:
            value = np.asarray(constants[name], np.float64)
            if name == DECAY:
                full = np.broadcast_to(value, len(self.groups))
                parts.append(self.groups.T @ full / np.maximum(self.groups.sum(axis=0), 1))
            else:
                parts.append(np.atleast_1d(self._variable(name, value)))
        return np.concatenate(parts)

    def _variable(self, name: str, value: Array) -> Array:
        if name in _RATES:
            return np.asarray(np.arcsinh(self.steps * (1 - value) / 2))
        if name in FLOORS:
            return np.asarray(np.arcsinh(value / (2 * self.size ** FLOORS[name])))
        return value if name == "dampening" else np.asarray(np.log(np.maximum(value, 1e-300)))

    def unpack(self, x: Array) -> dict[str, float | Array]:
        """The constants of these variables, complex where they are."""
        constants: dict[str, float | Array] = {}
        for place, name in enumerate(self.names):
            if name == DECAY:  # the last
                constants[name] = self.groups @ x[place:]
            elif name in _RATES:
                constants[name] = 1 - 2 / self.steps * _sinh(x[place])
            elif name in FLOORS:
                constants[name] = 2 * self.size ** FLOORS[name] * _sinh(x[place])
            elif name == "dampening":
                constants[name] = x[place]
            else:
                constants[name] = np.exp(min(x[place], 300.0, key=np.real))
        return constants

    def _constant(self, name: str, x: Array) -> Array:
        return np.asarray(self.unpack(x)[name])

    def errors(self, x: Array, errors: Array) -> dict[str, float | Array]:
        """Errors of the variables as errors of the constants."""
        constants: dict[str, float | Array] = {}
        for place, name in enumerate(self.names):
            if name == DECAY:
                spread = np.abs(self.groups) @ np.nan_to_num(errors[place:], posinf=1e300)
                constants[name] = np.where(self.groups.any(axis=1), spread, 0)
            else:
                slope = along(partial(self._constant, name), x, np.ones_like(x))
                constants[name] = float(errors[place] * np.abs(slope))
        return constants


def _sinh(x: float) -> float:
    """Without overflow."""
    return cast(float, np.sinh(min(max(x, -300.0, key=np.real), 300.0, key=np.real)))
