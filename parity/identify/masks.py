"""Which tensors decay: from a fit with a decay of its own for each tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.identify.fit import Fit, fit
from parity.identify.rule import DECAY
from parity.identify.run import Array

__all__ = ["Decay", "decaying", "settle_decay"]

SIGMAS = 8
"""A tensor's decay is 0 where it is within so many standard errors of it."""


SYSTEMATIC = 0.1
"""Rounding that is the same at every step looks like a decay of up to about this share of half an ulp."""


@dataclass(frozen=True, eq=False)
class Decay:
    """Which tensors decay.

    Args:
        groups: (tensors, values): 1 where a tensor has this value.
        undecided: (tensors,) whether the run shows neither that a tensor decays nor that it does not.
    """

    groups: Array
    undecided: Array

    @classmethod
    def unknown(cls, tensors: int) -> Decay:
        """Of a rule without decay, or before anything is known."""
        return cls(np.zeros((tensors, 0)), np.zeros(tensors, bool))


def settle_decay(found: Fit) -> tuple[Fit, Decay] | None:
    """The fit with one decay for the tensors that have one; None where none has.

    Tensors with clearly different decays keep their own.
    """
    count = len(found.observed.run.names)
    if found.rule.decay == "none":
        return found, Decay.unknown(count)
    values, errors, decays = np.asarray(found.constants[DECAY]), _errors(found), decaying(found)
    if not decays.any():
        return None
    weights = 1 / np.maximum(errors[decays], 1e-300) ** 2
    common = float(np.sum(weights * values[decays]) / np.sum(weights))
    tolerance = SIGMAS * errors + 1e-6 * abs(common)
    together = np.abs(values - common) <= tolerance
    groups = decays[:, None].astype(np.float64) if together[decays].all() else np.eye(count)[:, decays]
    undecided = ~decays & (np.abs(common) <= SIGMAS * errors)
    start = {**found.constants, DECAY: np.where(decays, common if together[decays].all() else values, 0.0)}
    return fit(found.rule, start, found.observed, groups=groups, evaluations=12), Decay(groups, undecided)


def decaying(found: Fit) -> NDArray[np.bool_]:
    """(tensors,) whose decay is clearly not 0."""
    clear: NDArray[np.bool_] = np.abs(found.constants[DECAY]) > SIGMAS * _errors(found)
    return clear


def _errors(found: Fit) -> Array:
    errors: Array = np.hypot(found.errors[DECAY], SYSTEMATIC * found.observed.run.eps / 2 / _rate(found))
    return errors


def _rate(found: Fit) -> float:
    """What a decay is multiplied by: the learning rate, as the steps that tell most of it have it."""
    if found.rule.decay == "constant" or (found.rule.scaling == "adam" and found.rule.decay == "coupled"):
        return 1.0
    rates = np.abs(found.replay.lr)
    return float(np.sum(np.square(rates)) / np.sum(rates)) if rates.any() else 1.0
