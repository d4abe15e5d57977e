"""Hold a rule against a recorded run: every step is predicted from the recorded parameters and gradients before it.

    u_t = p_{t+1} - p_t = offset_t - lr_t direction_t + residual_t

Buffers are rebuilt from the recorded gradients, so that no error of one step enters the next. Whatever the schedule is,
lr_t is the least-squares solution of its own step (variable projection: Golub and Pereyra, 1973), and what is left is a
function of a handful of constants.

Residuals are in units of rounding. A parameter is rounded to its own last place, by half of it at most, and the update
that is added to it has been through some operations of relative error eps / 2 each, on quantities as large as the
largest update so far (what is in a buffer has its rounding):

    unit = eps / 2 |p_{t+1}| + OPERATIONS eps / 2 max_{s <= t} |u_s|
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from parity.identify.rule import BY_NORM, DECAY, Constants, Rule
from parity.identify.run import Array, RecordedRun
from parity.identify.simulate import clip_factors, clipped_values, decaying_sum, directions, number, scaled

__all__ = ["LOST", "OPERATIONS", "Observed", "Replay", "group_levels", "nudged", "replay", "rounding_units"]

OPERATIONS = 16
"""Roundings on the way to an update: a handful per step, and as many again from the steps before in the buffer."""


@dataclass(frozen=True, eq=False)
class Observed:
    """A run, and the rounding of its updates.

    Args:
        run: as recorded.
        units: (steps, elements), what rounding may do to each update.
    """

    run: RecordedRun
    units: Array

    @cached_property
    def updates(self) -> Array:
        """(steps, elements)."""
        return self.run.updates

    @cached_property
    def weights(self) -> Array:
        """(steps, elements): 1 / unit, 0 where there is no gradient."""
        skipped = self.run.skipped
        return 1 / self.units if skipped is None else np.where(skipped, 0.0, 1 / self.units)

    @cached_property
    def skipped(self) -> NDArray[np.bool_] | None:
        """Of the run."""
        return self.run.skipped

    def of(self, elements: NDArray[np.intp]) -> Observed:
        """Some elements alone."""
        return Observed(self.run.of(elements), np.ascontiguousarray(self.units[:, elements]))


def rounding_units(run: RecordedRun) -> Array:
    """(steps, elements): see above; last shares keep it above 0 where nothing ever moves, and its square too."""
    size = np.abs(run.updates)
    largest = np.maximum.accumulate(size, axis=0)
    typical = np.sqrt(np.mean(np.square(size), axis=1, keepdims=True))
    units: Array = run.eps / 2 * (np.abs(run.parameters[1:]) + OPERATIONS * largest + run.eps * typical) + _TINY
    return units


_TINY = 1e-140


@dataclass(frozen=True, eq=False)
class Replay:
    """What a rule makes of a run.

    Args:
        lr: (steps,) learning rates, 0 where a step says nothing of it.
        lr_error: (steps,) what one unit of rounding in every element makes of them, infinite where nothing is said.
        residual: (steps, elements), in units of rounding.
    """

    lr: Array
    lr_error: Array
    residual: Array

    @property
    def chi2(self) -> float:
        """The sum of squared residuals."""
        return float(np.sum(np.square(self.residual)))


def replay(
    rule: Rule, constants: Constants, observed: Observed, *, lr: Array | None = None, errors: Array | None = None
) -> Replay:
    """Predict every step.

    Args:
        rule: the form.
        constants: all of the rule's.
        observed: the run.
        lr: (steps,) learning rates; None for those that fit best.
        errors: (steps, elements) relative, of the mean square from which a centered variance is a difference.
    """
    weights = observed.weights
    with np.errstate(all="ignore"):  # constants that a search tries may overflow; what is not finite fits nothing
        q, decay = _entering(rule, constants, observed, errors)
        target = observed.updates + decay if rule.decay == "constant" else observed.updates
        if rule.buffer == "keras":
            rates, errors, left = _keras(rule, constants, observed, q, decay, target, lr)
        else:
            direction = _in_own_steps(lambda own: directions(rule, constants, own), q, observed)
            direction = direction + decay if rule.decay == "decoupled" else direction
            if rule.scaling == "lion":
                weights, direction = np.where(np.isnan(direction), 0.0, weights), np.nan_to_num(direction)
            rates, errors = _projected(target, direction, weights)
            rates = rates if lr is None else lr
            left = weights * (target + rates[:, None] * direction)
    return Replay(rates, errors, np.where(np.isfinite(left), left, LOST))


def _entering(rule: Rule, constants: Constants, observed: Observed, errors: Array | None) -> tuple[Array, Array]:
    """What enters the buffer, and each parameter times its decay."""
    run = observed.run
    g = run.gradients
    if rule.clip in BY_NORM:
        g = g * clip_factors(rule, constants, run)[:, None]
    elif rule.clip == "value":
        g = clipped_values(number(constants, "clip_value"), g)
    g = -g if rule.ascent else g
    decay = np.asarray(constants[DECAY])[run.tensor] * run.parameters[:-1] if rule.decay != "none" else np.zeros(0)
    g = g + decay if rule.decay == "coupled" else g
    return _in_own_steps(lambda own: scaled(rule, constants, own, errors), g, observed), decay


def _in_own_steps(part: Callable[[Array], Array], x: Array, observed: Observed) -> Array:
    """A recursion over the steps at which each element has a gradient; 0 at the others."""
    if observed.skipped is None:
        return part(x)
    order = np.argsort(observed.skipped, axis=0, kind="stable")
    own = part(np.take_along_axis(x, order, axis=0))
    placed = np.zeros_like(own)
    np.put_along_axis(placed, order, own, axis=0)
    return np.where(observed.skipped, 0.0, placed)


def _projected(target: Array, direction: Array, weights: Array) -> tuple[Array, Array]:
    """(steps,) the learning rates that fit best, and what one unit of rounding makes of them."""
    along = weights * direction
    # np.sum adds in pairs: a plain sum of 62,006 terms would lose more digits than a recording has.
    whole = np.sum(along * along, axis=1)
    part = np.sum(along * (weights * target), axis=1)
    said = np.real(whole) > 0
    rates = np.where(said, -part, 0.0) / np.where(said, whole, 1.0)
    return rates, np.divide(1.0, np.sqrt(np.real(whole)), out=np.full(len(whole), np.inf), where=said)


def _keras(  # noqa: PLR0917  what a replay has at hand
    rule: Rule, constants: Constants, observed: Observed, q: Array, decay: Array, target: Array, lr: Array | None
) -> tuple[Array, Array, Array]:
    """V = mu v - lr q; the step is v, with nesterov mu v - lr q: the buffer has the earlier learning rates in it.

    Each rate is fitted to its own step, given those before it: the rates solve a triangular system.
    """
    mu = number(constants, "momentum")
    own = (1 + mu) * q if rule.nesterov else q
    own = own + decay if rule.decay == "decoupled" else own
    rates, errors = _rates_in_buffer(rule, mu, observed, q, own, target)
    rates = rates if lr is None else lr
    entered = rates[:, None] * q
    moved = _in_own_steps(lambda steps: decaying_sum(mu, steps), entered, observed)
    step = mu * moved + entered if rule.nesterov else moved
    step = step + rates[:, None] * decay if rule.decay == "decoupled" else step
    return rates, errors, observed.weights * (target + step)


def _rates_in_buffer(  # noqa: PLR0917  likewise
    rule: Rule, mu: float, observed: Observed, q: Array, own: Array, target: Array
) -> tuple[Array, Array]:
    """(steps,) the rates and what one unit of rounding makes of them; `own` is what a step's own rate multiplies."""
    # Here and not at the top: SciPy takes long to import, and other commands do without it.
    from scipy.linalg import solve_triangular

    weighted = observed.weights**2 * own
    whole = np.sum(weighted * own, axis=1)
    said = np.real(whole) > 0
    system = np.zeros((len(q), len(q)))
    for elements, count in _counted(observed):
        lag = np.maximum(count[:, None] - count, 0)
        system = system + mu ** (lag + 1 if rule.nesterov else lag) * (weighted[:, elements] @ q[:, elements].T)
    system = np.where(said[:, None], np.tril(system, -1), 0.0) + np.diag(np.where(said, whole, 1.0))
    given = np.where(said, -np.sum(weighted * target, axis=1), 0.0)
    rates = solve_triangular(system, given, lower=True, check_finite=False)
    return rates, np.divide(1.0, np.sqrt(np.real(whole)), out=np.full(len(q), np.inf), where=said)


def _counted(observed: Observed) -> Iterator[tuple[NDArray[np.intp] | slice, Array]]:
    """Elements that have had their steps together, and (steps,) how many they have had."""
    run = observed.run
    if observed.skipped is None:
        yield slice(None), np.arange(1.0, run.steps + 1)
        return
    for tensor, active in enumerate(run.active.T):
        yield np.flatnonzero(run.tensor == tensor), np.cumsum(active).astype(np.float64)


LOST = 1e30
"""Stands for a residual that is not finite; its square still is."""


def group_levels(residual: Array, tensor: NDArray[np.intp], tensors: int) -> Array:
    """(steps, tensors): root mean squares of the residuals, so that a small tensor's fault cannot hide in a large."""
    counts = np.maximum(np.bincount(tensor, minlength=tensors), 1)
    return np.sqrt([np.bincount(tensor, weights=row * row, minlength=tensors) / counts for row in residual])


def nudged(rule: Rule, constants: Constants, observed: Observed, draws: int = 6) -> Observed:
    """The same with the units widened by the rule's own amplification of rounding.

    A rule that divides by a small difference (a centered RMSprop's variance, for example) amplifies the rounding of
    what it is made of. How much, a second replay shows, whose gradients are each moved by one unit in the last place,
    and the mean square of a centered one too: gradients that are all clipped alike do not move.
    """
    run = observed.run
    level = replay(rule, constants, observed)
    shift = np.zeros_like(observed.units)
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        signs = rng.choice([-1.0, 1.0], run.gradients.shape)
        moved = replace(run, gradients=run.gradients * (1 + run.eps * signs))
        errors = run.eps * signs[::-1]
        shaken = replay(rule, constants, Observed(moved, observed.units), lr=level.lr, errors=errors)
        moves = np.abs(shaken.residual - level.residual)
        shift = np.maximum(shift, np.where(moves < LOST, moves, 0.0))
    return Observed(run, observed.units * (1 + NUDGES * shift))


NUDGES = 4
"""How many ulps of error in a gradient, or of what is made of it, are rounding."""
