"""Find the rule of a run: fit, then simulate. The simplest rule that explains every step to rounding is taken.

1. On some elements of the largest tensor, rules are fitted until one leaves nothing but rounding, and then those near
   it (`explore.py`). One tensor has one decay, so masks do not disturb; clipping reads the norms of all.
2. On elements of all tensors, the rules that passed are fitted with every kind of decay (`settle.py`).
3. On every element, the rule must leave nothing but rounding in any tensor at any step. Its constants are those of
   many elements, each weighted by the rounding that the run really has (`noise.py`).

A learning rate of its own at every step can explain away much: a rule whose rates follow a schedule is preferred to one
whose rates do not, by the number of constants that the schedule takes. Rules with as many constants are all kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from parity.identify.candidates import candidates
from parity.identify.clipping import clipped_schedule
from parity.identify.derivatives import along
from parity.identify.explore import Exploration
from parity.identify.fit import LIMIT, UNSEEN, Fit, constants_on, explaining, fit
from parity.identify.lion import beta_errors, follows_gradient, lion_betas
from parity.identify.masks import Decay
from parity.identify.noise import measured_noise
from parity.identify.replay import Observed, group_levels, nudged, replay, rounding_units
from parity.identify.rule import BY_NORM, DECAY, Rule
from parity.identify.run import Array, RecordedRun
from parity.identify.schedules import Schedule, name_schedule
from parity.identify.settle import settled
from parity.identify.simulate import clip_sizes

__all__ = ["LIMIT", "Found", "search"]

Elements = NDArray[np.intp]

SCREEN, LEAD, SETTLE, REFINE = 32, 160, 600, 3000
"""Elements that are looked at: in the first search, to confirm it, with all tensors, and for the final constants."""


@dataclass(frozen=True, eq=False)
class Found:
    """A rule that explains every step.

    Args:
        fit: on the elements of the last refinement.
        decay: which tensors decay.
        schedule: of its learning rates.
        lr: (updates,) as measured.
        lr_error: (updates,) standard errors, were the constants known.
        lr_pull: (updates,) what one standard error of the constants makes of them, in all steps together.
        level: the largest root mean square of any tensor in any step, in units of rounding; in the end of all elements.
        worst: the tensor and the update where that is.
        share: what is left there, as a share of the tensor's parameters.
    """

    fit: Fit
    decay: Decay
    schedule: Schedule
    lr: Array
    lr_error: Array
    lr_pull: Array
    level: float
    worst: tuple[str, int]
    share: float

    @property
    def rule(self) -> Rule:
        """Its form."""
        return self.fit.rule

    @property
    def complexity(self) -> int:
        """Constants, the schedule's among them."""
        return self.rule.complexity[0] + self.schedule.complexity


def search(run: RecordedRun, moving: Sequence[str]) -> tuple[list[Found], list[Found]]:
    """The rules that explain the run equally well and simply; if none does, each family's nearest, the best first.

    Args:
        run: as recorded.
        moving: the tensors that are trained.
    """
    trained = run.tensors(moving)
    observed = Observed(trained, rounding_units(trained))
    lead = observed.of(_largest_tensor(trained, LEAD))
    screen = observed.of(_largest_tensor(trained, SCREEN))
    settle = observed.of(_spread_elements(trained, SETTLE))
    signs = _explained([_lion(observed, lead)], observed, settle)
    if signs and follows_gradient(observed):  # as it does where every element is clipped
        alike = [rule for rule in candidates(False) if rule.scaling == "none"]
        for classes in Exploration(screen, lead, alike, None).neighbourhoods():
            signs += _explained(classes, observed, settle)
    simplest = _simplest(signs, observed)
    if _follow_schedules(simplest):
        return simplest, []
    linear, kept = _linearly(observed)
    tried: list[Fit] = []
    for kind in (True, False) if linear else (linear,):  # a denominator that hardly changes looks linear too
        exploration = Exploration(screen, lead, candidates(kind, every=run.every), kept if kind else None)
        for classes in exploration.neighbourhoods():
            found = [*simplest, *_explained(classes, observed, settle)]
            for clipped in [variant for each in found for variant in _clipped(each)]:
                around = exploration.around(clipped.rule, constants_on(clipped.fit, screen.run.names))
                found += [clipped, *_explained([around], observed, settle)]
            simplest = _simplest(found, observed)
            if _follow_schedules(simplest):
                return simplest, []
        tried += exploration.fits.values()
    if simplest:
        return simplest, []
    best: dict[str, Fit] = {}
    for each in sorted(tried, key=lambda each: each.information):
        best.setdefault(each.rule.scaling, each)
    return [], [_replayed(each, observed, None) for each in best.values()]


def _follow_schedules(found: Sequence[Found]) -> bool:
    """Whether rules were found, and the learning rates need not be taken as they come: another rule may do better."""
    return any(each.schedule.name != "free" for each in found)


def _explained(classes: Sequence[Sequence[Fit]], observed: Observed, settle: Observed) -> list[Found]:
    """Those that explain elements of every tensor; a class that takes more constants is not looked at."""
    found: list[Found] = []
    for passed in classes:
        least = min((each.complexity for each in found), default=None)
        if not passed or (least is not None and least < len(passed[0].rule.constants) + 1):
            break  # with the simplest of schedules these would take more
        finished = [_finished(each, decay, observed) for each, decay in settled(passed, settle)]
        found += [each for each in finished if each.level <= LIMIT]
    return found


def _simplest(found: Sequence[Found], observed: Observed) -> list[Found]:
    """Those with the fewest constants that explain every element of every tensor.

    A schedule in float64 comes before one that only float32's rounding makes fit.
    """
    orders = sorted({_order(each) for each in found})
    for order in orders:
        whole = [_replayed(each.fit, observed, each.decay) for each in found if _order(each) == order]
        fitting = [each for each in whole if each.level <= LIMIT]
        least = min(map(_order, fitting), default=order)
        if best := {each.rule: each for each in fitting if _order(each) == least}:
            return sorted(best.values(), key=lambda each: each.rule.complexity)
    return []


def _order(found: Found) -> tuple[int, bool]:
    return found.complexity, found.schedule.float32


def _lion(observed: Observed, lead: Observed) -> list[Fit]:
    """Lion, if every update is a sign times a length; no other rule's are."""
    betas = lion_betas(observed, lead)
    return [fit(Rule(scaling="lion"), betas, lead, evaluations=0, jacobian=False)] if betas is not None else []


def _largest_tensor(run: RecordedRun, count: int) -> Elements:
    """Elements of the tensor with most, those with a gradient at most steps; of all tensors where that has few."""
    counts = np.bincount(run.tensor, minlength=len(run.names))
    elements = np.flatnonzero(run.tensor == np.argmax(counts)) if counts.max() >= 48 else np.arange(len(run.tensor))
    return _liveliest(run, elements, count)


def _liveliest(run: RecordedRun, elements: Elements, count: int) -> Elements:
    """So many of these elements, drawn at random from those with a gradient at most steps."""
    alive = np.count_nonzero(run.gradients[:, elements], axis=0)
    draw = np.random.default_rng(0).random(len(elements))
    chosen: Elements = np.sort(elements[np.lexsort((draw, -alive))[:count]])
    return chosen


def _spread_elements(run: RecordedRun, count: int) -> Elements:
    """Elements of every tensor: equal numbers, as far as the small ones go, the rest from the large."""
    sizes = np.bincount(run.tensor, minlength=len(run.names))
    share = np.zeros_like(sizes)
    for left, number in enumerate(np.argsort(sizes)):
        share[number] = min(sizes[number], (count - share.sum()) // (len(sizes) - left))
    parts = [_liveliest(run, np.flatnonzero(run.tensor == n), max(share[n], 1)) for n in range(len(sizes))]
    return np.sort(np.concatenate(parts))


def _linearly(observed: Observed) -> tuple[bool | None, float | None]:
    """Whether each update is a linear combination of the last, two gradients and two states, as all of SGD's are.

    And, if so, what is typically kept of the last update: the momentum, but for the change of the learning rate. None
    where there are too few elements to tell.
    """
    run = observed.run
    elements = _largest_tensor(run, LEAD)
    if len(elements) < 40 or len(np.unique(run.tensor[elements])) > 1 or not run.active.all():
        return None, None
    u, g, p, units = observed.updates, run.gradients, run.parameters, observed.units
    levels, kept = [], []
    for t in range(1, run.steps):
        columns = np.stack([u[t - 1], g[t], g[t - 1], p[t], p[t - 1]])[:, elements] / units[t, elements]
        scale = np.maximum(np.abs(columns).max(axis=1, keepdims=True), 1e-300)
        solution = np.linalg.lstsq((columns / scale).T, u[t, elements] / units[t, elements], rcond=None)[0]
        left = u[t, elements] / units[t, elements] - (columns / scale).T @ solution
        levels.append(np.sqrt(np.mean(left**2)))
        kept.append(solution[0] / scale[0, 0])
    # The last update has its own rounding, which enters with a factor of order one.
    linear = bool(np.median(levels) < 16 * LIMIT)
    return linear, float(np.median(kept)) if linear else None


def _finished(found: Fit, decay: Decay, observed: Observed) -> Found:
    """The constants on many elements, and what they leave there."""
    many = observed.of(_spread_elements(observed.run, REFINE))
    refined = fit(found.rule, found.constants, many, groups=decay.groups, evaluations=6, jacobian=False)
    if refined.level <= LIMIT:
        refined = fit(found.rule, refined.constants, measured_noise(refined), groups=decay.groups, evaluations=6)
    else:
        refined = explaining(refined, decay.groups) or refined
    refined = _descending(refined)
    if found.rule.scaling == "lion":
        refined = beta_errors(refined, observed)
    return _replayed(refined, many, decay)


def _descending(found: Fit) -> Fit:
    """Negative learning rates are an ascent; what decays with them decays the other way."""
    rule = found.rule
    if found.replay.lr.sum() >= 0:
        return found
    constants = dict(found.constants)
    if rule.decay in ("coupled", "decoupled"):
        constants[DECAY] = -np.asarray(constants[DECAY])
    return replace(found, rule=replace(rule, ascent=True), constants=constants)


def _clipped(found: Found) -> list[Found]:
    """SGD whose rates follow no schedule, but would if clipping by norm is in them: with that clipping.

    Without a buffer, and in Keras' form, each gradient meets one rate alone, which takes up any factor.
    """
    rule, observed = found.rule, found.fit.observed
    run = observed.run
    absorbed = rule.buffer in ("none", "keras") and rule.decay in ("none", "constant")
    if found.schedule.name != "free" or rule.scaling != "none" or rule.clip != "none" or not absorbed:
        return []
    variants = []
    for clip in BY_NORM if run.every > 1 else BY_NORM[:2]:
        unit = replace(rule, clip=clip)
        clipping = clipped_schedule(found.lr, found.lr_error, unit, run)
        if clipping is not None:
            limit, error = clipping
            constants = {**found.fit.constants, "max_norm": limit}
            errors = {**found.fit.errors, "max_norm": error}
            held = replace(found.fit, rule=unit, constants=constants, errors=errors)
            variants.append(_replayed(held, observed, found.decay))
    return variants


def _pull(found: Fit) -> Array:
    """(steps,) how far the rates move with the constants, each of these by one of its errors."""

    def rates_at(name: str, value: Array) -> Array:
        return replay(found.rule, {**found.constants, name: value}, found.observed).lr

    squares = np.zeros(found.observed.run.steps)
    for name, error in found.errors.items():
        sigma = np.asarray(error, np.float64)
        known = np.where(sigma < UNSEEN, sigma, 0.0)
        if known.any():
            squares += np.square(along(partial(rates_at, name), np.asarray(found.constants[name]), known))
    return np.sqrt(squares)


def _bound_error(found: Fit, run: RecordedRun) -> Array:
    """(steps,) the relative error that the bound's own leaves in the rates of the steps that are clipped.

    A bound that the rates absorb has no error that means anything.
    """
    if found.rule.clip not in BY_NORM:
        return np.zeros(run.steps)
    limit = float(np.max(found.constants["max_norm"]))
    error = float(np.max(found.errors.get("max_norm", 0.0))) / limit
    return np.where(clip_sizes(found.rule, run) > limit, error if error < np.sqrt(run.eps) else 0.0, 0.0)


def _replayed(found: Fit, observed: Observed, decay: Decay | None) -> Found:
    """Hold a fit against these elements, and name the schedule of its rates."""
    run = observed.run
    constants = constants_on(found, run.names)
    whole, units = replay(found.rule, constants, observed), observed.units
    levels = group_levels(whole.residual, run.tensor, len(run.names))
    if levels.max() > LIMIT:
        wider = nudged(found.rule, constants, observed)
        whole, units = replay(found.rule, constants, wider), wider.units
        levels = group_levels(whole.residual, run.tensor, len(run.names))
    step, tensor = np.unravel_index(int(np.argmax(levels)), levels.shape)
    from_bound = np.abs(whole.lr) * _bound_error(found, run)
    error = np.hypot(whole.lr_error * max(float(np.sqrt(np.mean(np.square(whole.residual)))), 0.5), from_bound)
    schedule = name_schedule(whole.lr, np.hypot(whole.lr_error, from_bound), eps=run.eps)
    return Found(
        fit=replace(found, constants=constants, observed=observed),
        decay=decay or Decay.unknown(len(run.names)),
        schedule=schedule,
        lr=whole.lr,
        lr_error=error,
        lr_pull=_pull(found) if found.rule.scaling != "lion" else np.zeros(run.steps),
        level=float(levels.max()),
        worst=(run.names[tensor], int(step)),
        share=_share(whole.residual[step] * units[step], run.parameters[step + 1], run.tensor == tensor),
    )


def _share(left: Array, parameters: Array, of: NDArray[np.bool_]) -> float:
    """Root mean squares of a tensor: what is left, divided by the parameters; 0 of parameters that are 0."""
    size = float(np.sqrt(np.mean(np.square(parameters[of]))))
    return float(np.sqrt(np.mean(np.square(left[of])))) / size if size else 0.0
