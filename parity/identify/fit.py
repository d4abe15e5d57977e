"""The constants of a rule: least squares on what a replay leaves, by Levenberg-Marquardt.

The learning rates are solved for inside every replay (variable projection), so that only the rule's own constants are
searched, as the variables of `variables.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.identify.derivatives import jacobian
from parity.identify.replay import LOST, Observed, Replay, group_levels, nudged, replay
from parity.identify.rule import BY_NORM, DECAY, Constants, Rule
from parity.identify.run import Array, RecordedRun
from parity.identify.variables import Variables, clips_always, settled_bound

__all__ = ["LIMIT", "UNSEEN", "Fit", "constants_on", "explaining", "fit"]

LIMIT = 2.0
"""The largest root mean square of a tensor's residuals in a step, in units of rounding, that is rounding. A unit is a
bound on one rounding of the parameter and several of the update, so that honest rules stay below 1."""

INVISIBLE = 0.3
"""A variable of order one that moves the residuals by less, root mean square, has a derivative that is mostly rounding:
what the learning rates absorb to 16 digits of residuals of 1e14 units."""

_HOPELESS = 1e6
"""Units that no amplification of rounding explains."""

NOTICED = 2.0
"""Units that rounding widens less, in every element, do not bring what is above the limit below it."""

_TINY = 1e-300
"""No residual at all has a logarithm too."""

UNSEEN = 1e100
"""A larger error stands for none at all: the run says nothing of the constant."""


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

    @property
    def information(self) -> float:
        """Schwarz's criterion, of residuals whose size is not known: a constant too many seldom makes it smaller.

        What explains the run leaves rounding, and there the simplest is taken. What does not leaves residuals of any
        size, and every further constant takes some of them away, in a rule that is as wrong as before.
        """
        count = np.count_nonzero(self.observed.weights)
        constants = sum(np.size(value) for value in self.constants.values())
        return float(count * np.log(max(self.chi2, _TINY)) + constants * np.log(count))

    def bound_is_free(self, run: RecordedRun) -> bool:
        """Whether no step of the run is clearly not clipped by norm, so that the bound is known only up to a factor."""
        if self.rule.clip not in BY_NORM:
            return False
        bound, error = float(np.max(self.constants["max_norm"])), float(np.max(self.errors.get("max_norm", 0.0)))
        return clips_always(self.rule, bound, run, error=error)


def _levels(found: Fit) -> Array:
    """(steps, tensors): root mean squares of the residuals."""
    run = found.observed.run
    return group_levels(found.replay.residual, run.tensor, len(run.names))


def constants_on(found: Fit, names: Sequence[str]) -> dict[str, float | Array]:
    """The constants for these tensors: their own decays, the mean of all for one that was not there."""
    constants = dict(found.constants)
    if DECAY in constants:
        given = np.atleast_1d(constants[DECAY])
        known = dict(zip(found.observed.run.names, given, strict=True))
        constants[DECAY] = np.array([known.get(name, np.mean(given)) for name in names])
    return constants


def explaining(found: Fit, groups: Array | None = None, *, jacobian: bool = True) -> Fit | None:
    """The fit if what it leaves is rounding, the rule's own amplification of it included; else None.

    Where rounding is amplified, least squares in units that know nothing of it fits the constants to it: then they are
    fitted again in units that do.
    """
    if found.level <= LIMIT:
        return found
    if found.level > _HOPELESS:
        return None
    wider = nudged(found.rule, found.constants, found.observed)
    if np.max(wider.units / found.observed.units) < NOTICED:
        return None
    weighted = fit(found.rule, found.constants, wider, groups=groups, evaluations=12, tolerance=1e-9, jacobian=jacobian)
    return weighted if weighted.level <= LIMIT else None


def fit(
    rule: Rule,
    start: Constants,
    observed: Observed,
    *,
    groups: Array | None = None,
    only: Collection[str] | None = None,
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
        only: the constants that are searched; None for all.
        evaluations: of the Jacobian, at most.
        tolerance: relative, of the sum of squares: towards rounding it falls by orders in every step.
        jacobian: whether the standard errors are wanted.
    """
    # Here and not at the top: SciPy takes a fifth of a second to import, and other commands do without it.
    from scipy.optimize import least_squares

    start = settled_bound(rule, start, observed.run)
    variables = Variables.of(rule, observed.run, start, groups, only)
    begin = variables.pack(start)

    def unpacked(x: Array) -> Constants:
        return {**start, **variables.unpack(begin + x)}

    def residual(x: Array) -> Array:
        return replay(rule, unpacked(x), observed).residual.ravel()

    latest: list[tuple[Array, Array]] = []

    def slopes(x: Array) -> Array:
        if not latest or not np.array_equal(latest[-1][0], x):
            latest[:] = [(x.copy(), _jacobian(residual, x))]
        return latest[-1][1]

    converged, moved = True, np.zeros_like(begin)
    if len(begin) and evaluations:
        with np.errstate(all="ignore"):
            # The first step may be so long that each constant would move the residuals by a multiple of their size.
            scale = np.linalg.norm(residual(moved)) / np.maximum(np.linalg.norm(slopes(moved), axis=0), 1e-300)
            solved = least_squares(
                residual,
                moved,
                jac=slopes,
                method="lm",
                x_scale=np.clip(scale, 1e-100, 1e6),
                ftol=tolerance,
                xtol=1e-15,
                gtol=1e-15,
                max_nfev=evaluations,
            )
        moved, converged = solved.x, solved.status > 0
    constants = unpacked(moved)
    found = Fit(rule, constants, {}, replay(rule, constants, observed), observed, converged)
    if not jacobian:
        return found
    known = Variables.of(rule, observed.run, constants, groups)  # the search may have ended where every step is clipped
    return replace(found, errors=_errors(found, known))


def _jacobian(residual: Callable[[Array], Array], x: Array) -> Array:
    """Derivatives by complex steps, exact to rounding; 0 where they cannot be had, or are nothing but rounding.

    Differences would drown: a constant that is hardly seen moves the residuals by less than their rounding.
    """
    columns = jacobian(residual, x)
    columns = np.where(np.isfinite(columns) & (np.abs(columns) < LOST), columns, 0.0)
    return np.where(np.sqrt(np.mean(np.square(columns), axis=0)) > INVISIBLE, columns, 0.0)


def _errors(found: Fit, variables: Variables) -> Constants:
    """One standard error of each constant: the residual's level times the root of the inverse normal matrix."""
    x = variables.pack(found.constants)

    def residual(x: Array) -> Array:
        return replay(found.rule, {**found.constants, **variables.unpack(x)}, found.observed).residual.ravel()

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
    return variables.errors(x, np.sqrt(np.maximum(variance, 0)))
