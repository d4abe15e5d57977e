"""The constants of a rule: least squares on what a replay leaves, by Levenberg-Marquardt.

The learning rates are solved for inside every replay (variable projection), so that only the rule's own constants are
searched. Decay rates mu are searched as log(1 - mu) and scales (epsilons, clipping) as logarithms: both are then of
order one, and no step leads out of their range. What may be 0 is searched with a hundredth added to it, because the
first step of MINPACK is limited to a multiple of where it begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from parity.identify.replay import Observed, Replay, group_levels, replay
from parity.identify.rule import DECAY, Constants, Rule
from parity.identify.run import Array

__all__ = ["Fit", "fit"]

DIFFERENCE = 1e-7
"""Step of the Jacobian's differences: about the root of eps, relative to variables of order one."""

OFFSET = 1e-2

_RATES = ("momentum", "b1", "b2", "alpha")
_LINEAR = ("dampening", DECAY)


@dataclass(frozen=True, eq=False)
class Fit:
    """A rule with its constants.

    Args:
        rule: the form.
        constants: by name.
        errors: one standard error each, from the Jacobian and the level of the residuals; infinite where the run says
            nothing of a constant.
        replay: of the elements that were fitted.
        observed: these elements.
        converged: whether the search ended at a minimum, not for its length.
    """

    rule: Rule
    constants: Constants
    errors: Constants
    replay: Replay
    observed: Observed
    converged: bool = True

    @property
    def chi2(self) -> float:
        """Sum of squared residuals."""
        return self.replay.chi2

    @property
    def level(self) -> float:
        """The largest root mean square of any tensor in any step, in units of rounding."""
        return float(_levels(self).max(initial=0.0))


def _levels(found: Fit) -> Array:
    """(steps, tensors): root mean squares of the residuals."""
    run = found.observed.run
    return group_levels(found.replay.residual, run.tensor, len(run.names))


def fit(
    rule: Rule,
    start: Constants,
    observed: Observed,
    *,
    groups: Array | None = None,
    evaluations: int = 30,
    tolerance: float = 1e-6,
    jacobian: bool = True,
) -> Fit:
    """The constants that leave the least.

    Args:
        rule: the form.
        start: where to begin; all constants of the rule.
        observed: the run.
        groups: (tensors, decays): what each searched decay adds to each tensor's; None for one of its own for each.
        evaluations: of the Jacobian, at most.
        tolerance: relative, of the sum of squares: towards rounding it falls by orders in every step.
        jacobian: whether the standard errors are wanted.
    """
    # Here and not at the top: SciPy takes a fifth of a second to import, and other commands do without it.
    from scipy.optimize import least_squares

    groups = np.eye(len(observed.run.names)) if groups is None else groups
    point = _packed(rule, start, groups)

    def unpacked(x: Array) -> Constants:
        return {**start, **_unpacked(rule, x, groups)}

    def residual(x: Array) -> Array:
        return replay(rule, unpacked(x), observed).residual.ravel()

    converged = True
    if len(point) and evaluations:
        with np.errstate(all="ignore"):
            solved = least_squares(
                residual,
                point,
                jac=lambda x: _jacobian(residual, x),
                method="lm",
                x_scale="jac",
                ftol=tolerance,
                xtol=1e-15,
                gtol=1e-15,
                max_nfev=evaluations,
            )
        point, converged = solved.x, solved.status > 0
    constants = unpacked(point)
    found = Fit(rule, constants, {}, replay(rule, constants, observed), observed, converged)
    return replace(found, errors=_errors(found, residual, point, groups)) if jacobian else found


def _jacobian(residual: Callable[[Array], Array], x: Array) -> Array:
    """Forward differences; a column that cannot be had is 0."""
    base = residual(x)
    columns = np.empty((len(base), len(x)))
    for number, value in enumerate(x):
        step = DIFFERENCE * max(abs(value), 1e-2)
        moved = x.copy()
        moved[number] = value + step
        columns[:, number] = (residual(moved) - base) / step
    return np.where(np.isfinite(columns), columns, 0.0)


def _errors(found: Fit, residual: Callable[[Array], Array], x: Array, groups: Array) -> Constants:
    """One standard error of each constant: the residual's level times the root of the inverse normal matrix."""
    if not len(x):
        return {}
    columns = _jacobian(residual, x)
    scale = np.sqrt(np.sum(np.square(columns), axis=0))
    seen = scale > 0
    variance = np.full(len(x), np.inf)
    if seen.any():
        normal = (columns[:, seen] / scale[seen]).T @ (columns[:, seen] / scale[seen])
        inverse = np.linalg.pinv(normal, rcond=1e-14, hermitian=True)
        # Rounding is no noise of ever smaller mean: its level is taken to be half a unit at least.
        level = max(found.chi2 / max(found.replay.residual.size - len(x), 1), 0.25)
        variance[seen] = level * np.diag(inverse) / scale[seen] ** 2
    variance = np.where(np.isfinite(variance), variance, 1e300)
    return _spread(found.rule, x, np.sqrt(np.maximum(variance, 0)), groups)


def _searched(rule: Rule) -> tuple[str, ...]:
    """The constants that a small step of changes the residuals; Lion's rates are seen through signs alone."""
    return tuple(name for name in rule.constants if rule.scaling != "lion" or name == DECAY)


def _packed(rule: Rule, constants: Constants, groups: Array) -> Array:
    parts = []
    for name in _searched(rule):
        value = np.asarray(constants[name], np.float64)
        if name == DECAY:
            full = np.broadcast_to(value, len(groups))
            parts.append(OFFSET + groups.T @ full / np.maximum(groups.sum(axis=0), 1))
        elif name in _RATES:
            parts.append(np.atleast_1d(np.log1p(-np.minimum(value, 1 - 1e-12))))
        else:
            parts.append(np.atleast_1d(OFFSET + value if name in _LINEAR else np.log(np.maximum(value, 1e-300))))
    return np.concatenate([np.zeros(0), *parts])


def _unpacked(rule: Rule, x: Array, groups: Array) -> Constants:
    constants: dict[str, float | Array] = {}
    place = 0
    for name in _searched(rule):
        if name == DECAY:
            constants[name] = groups @ (x[place:] - OFFSET)
            continue
        value = float(x[place])
        place += 1
        if name in _RATES:
            constants[name] = float(-np.expm1(min(value, 0.6)))
        else:
            constants[name] = value - OFFSET if name in _LINEAR else float(np.exp(min(value, 300.0)))
    return constants


def _spread(rule: Rule, x: Array, errors: Array, groups: Array) -> Constants:
    """Errors of the searched variables as errors of the constants."""
    constants: dict[str, float | Array] = {}
    place = 0
    for name in _searched(rule):
        if name == DECAY:
            constants[name] = np.where(
                groups.any(axis=1), np.abs(groups) @ np.nan_to_num(errors[place:], posinf=1e300), 0
            )
            continue
        slope = 1.0 if name in _LINEAR else float(np.exp(min(x[place], 300.0)))
        constants[name] = float(errors[place] * slope)
        place += 1
    return constants
