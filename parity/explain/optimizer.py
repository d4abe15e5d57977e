"""Which update rule a side's optimizer follows, from what it recorded: gradients, momentum, parameters.

A step of the family that is meant is linear in what was there before it,

    b_t = m b_(t-1) + s g_t + v p_t          m the momentum, s = 1 - dampening, v = s times the weight decay
    p_(t+1) = p_t - lr_t d_t                 d the direction: b, or with nesterov g + wd p + m b

so its constants are a least-squares problem with few columns, and as many rows as there are parameters. What is fitted
gives candidates: the rule that is meant with one constant (or two) as fitted. One is a cause if it predicts every
tensor of every step to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.compare import Stage
from parity.compare.formula import EPS
from parity.compare.measure import frobenius
from parity.contract import StepTrace
from parity.explain.cause import Cause, Unknown
from parity.explain.constants import Candidate, buffer_candidates, update_candidates
from parity.explain.evidence import Evidence
from parity.explain.fit import ALLOWED, Deviation, Fit, far, settle
from parity.explain.identified import other_rule
from parity.explain.rule import DOUBLE, Rule, Step, meant_rule, steps_of

__all__ = ["Updates", "explain_optimizer", "explain_updates", "follows"]

CANDIDATES = {"momentum": buffer_candidates, "update": update_candidates}

COUPLED, DECOUPLED = "weight-decay-lost", "decoupled-decay"


@dataclass(frozen=True, kw_only=True)
class Updates:
    """What one side's optimizer did, and what it is held against.

    Args:
        side: its name.
        traces: its steps as recorded.
        steps: the same, as the optimizer saw them.
        meant: the rule that is asked for.
        asked: that rule in words.
        first_step: the number of the first of these steps in the run.
        others: whether other kinds of rules are tried where none of SGD's faults fits.
    """

    side: str
    traces: Sequence[StepTrace]
    steps: Sequence[Step]
    meant: Rule
    asked: str
    first_step: int = 0
    others: bool = True


def explain_optimizer(evidence: Evidence) -> list[Cause | Unknown]:
    """The causes of the momentum, then those of the update."""
    sgd = evidence.sgd
    return explain_updates(
        Updates(
            side=evidence.side,
            traces=evidence.traces,
            steps=steps_of(evidence),
            meant=meant_rule(evidence),
            asked=f"SGD (lr {sgd.lr:.6g}, momentum {sgd.momentum:.6g})",
            first_step=evidence.first_step,
        )
    )


def explain_updates(updates: Updates) -> list[Cause | Unknown]:
    """Likewise, of any optimizer that is asked to follow SGD's rule."""
    rule = meant = updates.meant
    steps = updates.steps
    found: list[Cause | Unknown] = []
    for stage in ("momentum", "update"):
        if deviation := _first(updates, stage, rule):
            causes, rule = _settled(deviation, list(CANDIDATES[stage](rule, steps)), rule, steps)
            if stage == "momentum" and _first(updates, "update", rule):
                before = replace(rule, fresh=True)  # a buffer may be rounded after its use
                rule = rule if rule.bits == DOUBLE or _first(updates, "update", before) else before
            found += causes
            if any(isinstance(cause, Unknown) for cause in causes):
                if stage == "momentum" and not _first(updates, "update", meant):
                    return found  # the buffer is what the update is made with, as asked: no other kind of rule
                # An update cannot be judged by a rule that is not known; but another rule may explain all of it.
                last = next(cause for cause in causes if isinstance(cause, Unknown))
                if not updates.others or (_recorded(updates) and _of_sgd(steps[0])):
                    return found
                first = found[0]
                whole = replace(last, place=first.place, step=first.step)
                other = other_rule(whole, updates.traces, updates.asked)
                if isinstance(other, Cause):
                    return [other]
                # Buffers that were only not recorded are no fault.
                hidden = meant.has_buffer and not rule.has_buffer
                return [*([] if hidden else found[:-1]), replace(other, place=last.place, step=last.step)]
    return _coupled(found, rule, meant.decay)


def _recorded(updates: Updates) -> bool:
    """Whether the buffers are, where there have to be any."""
    return not updates.meant.has_buffer or any(step.buffers for step in updates.steps)


TELLING = 4
"""Elements of a tensor: fewer are a sum of three tensors' multiples whatever the rule is."""


def _of_sgd(step: Step) -> bool:
    """Whether some tensor's update is made of multiples of its gradient, its parameter and its buffer, to rounding.

    That is SGD's alone: all other kinds of rules divide each element of the gradient by a size of its own. A search
    among them finds nothing then, and takes minutes to end.
    """
    for name, g in step.gradients.items():
        u, p = step.update(name), step.parameters[name]
        before = np.zeros_like(p) if step.before is None else step.before.get(name, np.zeros_like(p))
        columns = [part.ravel() for part in (g, p, before) if part.any()]
        if g.size <= TELLING or not g.any() or not u.any() or np.ptp(np.abs(g)) == 0:
            continue
        matrix = np.stack(columns, axis=1)
        matrix = matrix / np.sqrt(np.sum(matrix**2, axis=0))
        left = u.ravel() - matrix @ np.linalg.lstsq(matrix, u.ravel(), rcond=None)[0]
        if frobenius(left) <= ALLOWED * frobenius(u) + 4 * EPS * frobenius(p):
            return True
    return False


def follows(updates: Updates) -> bool:
    """Whether every buffer and every update is the rule's, to rounding."""
    return not any(_first(updates, stage, updates.meant) for stage in CANDIDATES)


def _settled(
    deviation: Deviation, candidates: Sequence[Candidate], rule: Rule, steps: Sequence[Step]
) -> tuple[list[Cause | Unknown], Rule]:
    """The single faults that fit; where none does, two of them together."""
    stage = deviation.place.stage
    fits = [
        Fit(key=each.key, sentence=each.sentence, residual=_left(stage, each.change(rule), steps))
        for each in candidates
    ]
    settled = settle(deviation, fits)
    if isinstance(settled, Cause):
        chosen = next(n for n, fit in enumerate(fits) if fit.residual <= deviation.allowed)
        return [settled], candidates[chosen].change(rule)
    return _two(deviation, candidates, rule, steps) or ([settled], rule)


def _two(
    deviation: Deviation, candidates: Sequence[Candidate], rule: Rule, steps: Sequence[Step]
) -> tuple[list[Cause | Unknown], Rule] | None:
    """Two faults of one stage: the constants of the second are fitted beside the first."""
    stage = deviation.place.stage
    for first in candidates:
        partly = first.change(rule)
        for second in CANDIDATES[stage](partly, steps):
            both = second.change(partly)
            residual = _left(stage, both, steps)
            if second.key != first.key and residual <= ALLOWED:
                pair = [Fit(key=each.key, sentence=each.sentence, residual=residual) for each in (first, second)]
                return [settle(deviation, [fit]) for fit in pair], both
    return None


def _coupled(causes: list[Cause | Unknown], rule: Rule, meant: float) -> list[Cause | Unknown]:
    """One cause for a decay that has moved from the gradient to the parameter."""
    keys = [cause.key if isinstance(cause, Cause) else "" for cause in causes]
    if COUPLED not in keys or DECOUPLED not in keys or rule.decay:
        return causes
    lost, moved = causes[keys.index(COUPLED)], causes[keys.index(DECOUPLED)]
    assert isinstance(lost, Cause) and isinstance(moved, Cause)  # noqa: S101, PT018  their keys say so
    sentence = moved.sentence.replace("where no decay is meant", f"where {meant:.6g} before it (L2) is meant")
    one = replace(moved, place=lost.place, step=lost.step, before=lost.before, sentence=sentence)
    return [one if cause is lost else cause for cause in causes if cause is not moved]


def _first(updates: Updates, stage: str, rule: Rule) -> Deviation | None:
    """Where the side first leaves the rule."""
    for step in updates.steps:
        for name in step.gradients:
            distance, allowed = _distance(stage, rule, name, step)
            if not distance <= allowed:
                return Deviation(
                    side=updates.side,
                    step=updates.first_step + step.number,
                    place=Stage(stage=stage, tensor=name),
                    difference=distance,
                    allowed=allowed,
                )
    return None


def _distance(stage: str, rule: Rule, name: str, step: Step) -> tuple[float, float]:
    """One tensor's relative distance from the rule, and what is rounding of it."""
    if stage == "momentum":
        return _buffer_distance(rule, name, step), ALLOWED
    expected, found = rule.update(name, step), step.update(name)
    scale = max(frobenius(expected), frobenius(found))
    # An update is the difference of two parameters, each rounded to its own last place.
    return far(found, expected), ALLOWED + (4 * EPS * frobenius(step.parameters[name]) / scale if scale else 0.0)


def _buffer_distance(rule: Rule, name: str, step: Step) -> float:
    found = step.buffers.get(name)
    if not rule.has_buffer:
        return 0.0 if found is None or not found.any() else float("inf")
    expected = rule.kept(name, step)
    # A buffer that a side does not keep stands at zero.
    return far(np.zeros_like(expected) if found is None else found, expected)


def _left(stage: str, rule: Rule, steps: Sequence[Step]) -> float:
    """The worst tensor of all steps, as a multiple of what is allowed there; in units of `ALLOWED`."""
    pairs = (_distance(stage, rule, name, step) for step in steps for name in step.gradients)
    return max((distance / allowed for distance, allowed in pairs), default=0.0) * ALLOWED
