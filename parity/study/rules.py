"""The forms that SGD with momentum has in other programs, beside torch's: one update each, in float64 NumPy.

With gradient g, momentum mu, learning rate eta_t and weight decay w, from b = 0:

    torch       b <- mu b + (1 - dampening) g, the first time b <- g;  p <- p - eta_t b
    Keras       b <- mu b - eta_t g;                                   p <- p + b           lr inside the buffer
    averaged    b <- mu b + (1 - mu) g;                                p <- p - eta_t b     an exponential mean
    debiased    b as averaged;                                         p <- p - eta_t b / (1 - mu^(t + 1))
    scaled      b <- mu b + (1 - dampening) g, the first time too;     p <- p - eta_t b     dampening before optax.trace
    decoupled   b <- mu b + g;                                         p <- p - eta_t (b + w p)

Source: https://keras.io/api/optimizers/sgd/, https://optax.readthedocs.io/en/latest/api/transformations.html#optax.ema,
I. Loshchilov and F. Hutter, Decoupled weight decay regularization, ICLR 2019 (decoupled)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from parity.contract import SGD
from parity.oracle.schedule import rates
from parity.oracle.sgd import clip_gradients, sgd_update
from parity.study.experiment import Array
from parity.study.problems import Problem

__all__ = ["Rule", "averaged", "debiased", "decoupled", "descend", "keras", "scaled", "torch_form"]

Rule = Callable[[Array, Array, Array | None, int], tuple[Array, Array | None]]
"""(p, g, b, t) -> p and b after the update of step t, from 0; b is None before the first."""


def torch_form(sgd: SGD) -> Rule:
    """torch's, with all its arguments but clipping, which `descend` does."""
    return partial(_torch_form, sgd)


def _torch_form(sgd: SGD, p: Array, g: Array, b: Array | None, t: int) -> tuple[Array, Array | None]:
    return sgd_update(p, g, b, sgd, t)


def keras(sgd: SGD) -> Rule:
    """Lr inside the buffer, with or without nesterov (p <- p + mu b - eta g)."""

    def update(p: Array, g: Array, b: Array | None, t: int) -> tuple[Array, Array]:
        lr, momentum = rates(sgd, t)
        b = momentum * (np.zeros_like(p) if b is None else b) - lr * g
        return p + (momentum * b - lr * g if sgd.nesterov else b), b

    return update


def averaged(sgd: SGD) -> Rule:
    """The buffer is an exponential mean of the gradients, drawn towards 0 at the start."""
    return scaled(replace(sgd, dampening=sgd.momentum))


def debiased(sgd: SGD) -> Rule:
    """The same, divided by the sum of its weights, as in Adam."""

    def update(p: Array, g: Array, b: Array | None, t: int) -> tuple[Array, Array]:
        lr, momentum = rates(sgd, t)
        b = momentum * (np.zeros_like(p) if b is None else b) + (1 - momentum) * g
        return p - lr * b / (1 - momentum ** (t + 1)), b

    return update


def scaled(sgd: SGD) -> Rule:
    """Torch's with a buffer that begins at 0: dampening then applies to the first gradient too."""

    def update(p: Array, g: Array, b: Array | None, t: int) -> tuple[Array, Array | None]:
        return sgd_update(p, g, np.zeros_like(p) if b is None else b, sgd, t)

    return update


def decoupled(sgd: SGD) -> Rule:
    """The decay passes the buffer by; lr scales it."""
    plain = replace(sgd, weight_decay=0.0)

    def update(p: Array, g: Array, b: Array | None, t: int) -> tuple[Array, Array | None]:
        after, b = sgd_update(p, g, b, plain, t)
        return after - rates(sgd, t).lr * sgd.weight_decay * p, b

    return update


def descend(problem: Problem, rule: Rule, steps: int, *, clipping: SGD | None = None) -> Array:
    """(steps + 1, 2) the points that a rule visits, its start first.

    Args:
        problem: whose gradient it follows.
        rule: the update.
        steps: how many.
        clipping: hyper-parameters whose limits the gradient is held to; None for none.
    """
    p, b = problem.start, None
    path = [p]
    with np.errstate(over="ignore", invalid="ignore"):  # a climb ends in infinity
        for t in range(steps):
            g = problem.gradient(p)
            if clipping is not None:
                g = clip_gradients({"p": g}, clipping)["p"]
            p, b = rule(p, g, b, t)
            path.append(p)
    return np.array(path)
