"""The parts of an update rule, each as its defining recursion, for all steps at once.

Sources: torch.optim, optax 0.2.8, Keras 3.

A scaling turns the gradients g into q, a buffer turns q into directions: p_{t+1} = p_t - lr_t direction_t. Keras' form,
which has the earlier learning rates in its buffer, is `replay.py`'s.

All arrays are (steps, elements); an element's steps are those at which it has a gradient: where it has none, its state
stays and its count does not grow (torch's rule).

Constants may be complex: every part is then the analytic function of them that it is for real ones (comparisons look at
the real parts), so that a fit has its derivatives from a step along the imaginary axis, without cancellation (Squire
and Trapp, 1998).
"""

from __future__ import annotations

from typing import cast

import numpy as np

from parity.identify.rule import Constants, Rule
from parity.identify.run import Array, RecordedRun

__all__ = ["clip_factors", "clip_sizes", "clipped_values", "decaying_sum", "directions", "number", "scaled"]

CLIP_EPS = 1e-6
"""Added to the norm by torch.nn.utils.clip_grad_norm_."""

SIGN_EPS = 1e-5
"""Lion's sign is compared where its argument is larger than this share of its terms: 80 eps of float32."""


def clip_sizes(rule: Rule, run: RecordedRun) -> Array:
    """(steps,): what a bound is divided by.

    norm   |g| + 1e-6: torch
    exact  |g|: optax
    sum    |g| + 1e-6 / k: torch, where k gradients are summed and g is their mean
    """
    added = {"norm": CLIP_EPS, "exact": 0.0, "sum": CLIP_EPS / run.every}[rule.clip]
    return run.norms + added


def clip_factors(rule: Rule, constants: Constants, run: RecordedRun) -> Array:
    """(steps,): what each step's gradient is multiplied by, min(1, max_norm / size)."""
    sizes, limit = clip_sizes(rule, run), number(constants, "max_norm")
    return np.where(sizes > np.real(limit), limit / np.where(sizes > 0, sizes, 1.0), 1.0)


def clipped_values(limit: float, g: Array) -> Array:
    """Each element within the limit, with its own sign."""
    return np.where(np.abs(g) > np.real(limit), np.sign(g) * limit, g)


def scaled(rule: Rule, constants: Constants, g: Array, errors: Array | None = None) -> Array:
    """What enters the buffer: q. Relative errors (steps, elements) of a centered variance's first term, if given."""
    if rule.scaling == "rms":
        return _rms(rule, constants, g, errors)
    scaling = {"adam": _adam, "adagrad": _adagrad, "lion": _lion}.get(rule.scaling)
    return scaling(rule, constants, g) if scaling else g


def _adam(rule: Rule, constants: Constants, g: Array) -> Array:  # noqa: ARG001
    """M = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; q = m^ / (sqrt(v^ + eps_root) + eps), both debiased."""
    b1, b2, ones = number(constants, "b1"), number(constants, "b2"), np.ones((len(g), 1))
    # (1 - b^t) / (1 - b) as the sum that it is: without cancellation where b is nearly 1.
    mean = decaying_sum(b1, g) / decaying_sum(b1, ones)
    square = decaying_sum(b2, g * g) / decaying_sum(b2, ones)
    return _quotient(mean, square, constants)


def _rms(rule: Rule, constants: Constants, g: Array, errors: Array | None) -> Array:
    """V = alpha v + (1 - alpha) g^2; q = g / (sqrt(v + eps_root) + eps); centered: v less the squared mean of g."""
    alpha = number(constants, "alpha")
    square = decaying_sum(alpha, (1 - alpha) * g * g)
    if rule.centered:
        square = square if errors is None else square * (1 + errors)
        variance = square - np.square(decaying_sum(alpha, (1 - alpha) * g))
        square = np.where(np.real(variance) > 0, variance, 0.0)
    return _quotient(g, square, constants)


def _adagrad(rule: Rule, constants: Constants, g: Array) -> Array:  # noqa: ARG001
    """S = s + g^2, from the initial accumulator; q = g / (sqrt(s + eps_root) + eps)."""
    return _quotient(g, number(constants, "initial_accumulator") + np.cumsum(g * g, axis=0), constants)


def _lion(rule: Rule, constants: Constants, g: Array) -> Array:  # noqa: ARG001
    """Q = sign(b1 m + (1 - b1) g); then m = b2 m + (1 - b2) g.

    A blend that cancels to rounding has no sign that anyone agrees on: NaN marks it as not to be compared.
    """
    b1, b2 = number(constants, "b1"), number(constants, "b2")
    mean = decaying_sum(b2, (1 - b2) * g)
    before = np.concatenate([np.zeros_like(g[:1]), mean[:-1]])
    blend, size = b1 * before + (1 - b1) * g, np.abs(b1 * before) + np.abs((1 - b1) * g)
    return np.where((np.abs(blend) <= SIGN_EPS * size) & (size > 0), np.nan, np.sign(blend))


def directions(rule: Rule, constants: Constants, q: Array) -> Array:
    """B = mu b + (1 - dampening) q, on the first step b = q; the direction is b, with nesterov q + mu b.

    Debiased: times (1 - mu) / (1 - mu^t).
    """
    if rule.buffer == "none":
        return q
    mu = number(constants, "momentum")
    entering = q
    if rule.dampened:
        entering = np.concatenate([q[:1], (1 - number(constants, "dampening")) * q[1:]])
    b = decaying_sum(mu, entering)
    if rule.buffer == "debiased":
        return b / decaying_sum(mu, np.ones((len(q), 1)))
    return q + mu * b if rule.nesterov else b


def decaying_sum(rate: float, x: Array) -> Array:
    """y_t = rate y_{t-1} + x_t, from 0: some steps at a time, as one product with the powers of the rate."""
    y = np.empty(x.shape, np.result_type(rate, x))
    powers = np.asarray(rate) ** np.arange(BLOCK + 1)
    matrix = np.where(_LAGS >= 0, powers[_LAGS], 0.0)
    for begin in range(0, len(x), BLOCK):
        block = x[begin : begin + BLOCK]
        count = len(block)
        y[begin : begin + count] = matrix[:count, :count] @ block
        if begin:
            y[begin : begin + count] += powers[1 : count + 1, None] * y[begin - 1]
    return y


BLOCK = 64
_LAGS = np.subtract.outer(np.arange(BLOCK), np.arange(BLOCK))


def number(constants: Constants, name: str) -> float:
    """A constant; 0 where the rule has none of this name."""
    return cast(float, constants.get(name, 0.0))


def _quotient(a: Array, square: Array, constants: Constants) -> Array:
    """A / (sqrt(square + eps_root) + eps); 0 where the denominator is: no gradient yet, no step."""
    denominator = np.sqrt(square + number(constants, "eps_root")) + number(constants, "eps")
    there = np.real(denominator) > 0
    return np.where(there, a, 0.0) / np.where(there, denominator, 1.0)
