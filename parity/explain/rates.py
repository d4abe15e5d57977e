"""Learning rates that fall, or are cut, where that is not asked for: from the rates of single steps to their law.

Each law has one constant, fitted to all steps; it names rates that it predicts to rounding, those of at least two steps
beside what the constant was fitted to.

    inverse time    lr_t = lr / (1 + d t)            Keras' `decay`; or with t + 1 for t
    exponential     lr_t = lr g^t                    or with t + 1
    clipping        lr_t = lr min(1, c / (|u_t| + e))     of the update u, all parameters together
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from parity.oracle.layers import Array
from parity.oracle.sgd import CLIP_EPS

__all__ = ["clipped_rates", "decaying_rates"]

ROUNDING = 1e-11
"""Fitted rates of single steps are more exact: sums over all parameters, of updates that are rounded to 1e-12 or so. A
law that is named still has to predict every tensor to rounding."""

FEWEST = 3
"""Steps: one shows the rate that is meant or the constant, the others are predicted."""

Named = tuple[str, str, Array]
"""Key, sentence, and one rate for each step."""


def decaying_rates(first: int, found: Array, meant: Array) -> Iterator[Named]:
    """Rates that fall from step to step, relative to those that are meant.

    Args:
        first: the number of the first step.
        found: (steps,) fitted.
        meant: (steps,).
    """
    if len(found) < FEWEST or not (found.all() and meant.all()) or np.allclose(found, meant, rtol=ROUNDING, atol=0):
        return
    shares, steps = found / meant, first + np.arange(len(found), dtype=np.float64)
    if not (shares > 0).all():
        return
    for offset, counted in ((0, "t"), (1, "(t + 1)")):
        t = steps + offset
        d = float(np.vdot(t, 1 / shares - 1) / np.vdot(t, t))
        if d > 0:
            text = f"decays the learning rate by inverse time: lr / (1 + {d:.6g} {counted}), t counted in steps"
            yield from _predicted("inverse-time-decay", text, meant / (1 + d * t), found)
        g = float(np.exp(np.vdot(t, np.log(shares)) / np.vdot(t, t)))
        text = f"decays the learning rate exponentially: lr times {g:.6g}^{counted}, t counted in steps"
        yield from _predicted("exponential-decay", text, meant * g**t, found)


def clipped_rates(found: Array, meant: Array, norms: Sequence[float]) -> Iterator[Named]:
    """Rates of updates that are no longer than a limit, with the learning rate or without it.

    Args:
        found: (steps,) fitted.
        meant: (steps,).
        norms: (steps,) of the updates that are meant.
    """
    whole = np.array(norms)
    if not (meant.all() and whole.all()) or np.count_nonzero(found / meant < 1 - ROUNDING) < FEWEST - 1:
        return
    yield from _clipped("after momentum and learning rate", whole, found, meant)
    if not np.allclose(meant, meant[0], rtol=ROUNDING, atol=0):
        yield from _clipped("after momentum and before the learning rate", whole / np.abs(meant), found, meant)


def _clipped(when: str, lengths: Array, found: Array, meant: Array) -> Iterator[Named]:
    """The limit is what the first step that is cut shows."""
    shares = found / meant
    first = int(np.argmax(shares < 1 - ROUNDING))
    for epsilon, more in ((0.0, ""), (CLIP_EPS, ", with torch's epsilon of 1e-6")):
        limit = float(shares[first] * (lengths[first] + epsilon))
        text = f"clips the update, {when}, at a norm of {limit:.6g} of all parameters together{more}"
        yield from _predicted("update-clipped", text, meant * np.minimum(1.0, limit / (lengths + epsilon)), found)


def _predicted(key: str, sentence: str, rates: Array, found: Array) -> Iterator[Named]:
    if np.allclose(found, rates, rtol=ROUNDING, atol=0):
        yield key, sentence, rates
