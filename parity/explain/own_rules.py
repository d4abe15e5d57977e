"""What the second of two programs' optimizers does otherwise than the first one's, each judged by its own gradients.

The first side's rule is identified from its steps, and the second side's steps are predicted by it. What came before
the optimizer, another loss for example, changes the gradients that both are predicted from, and nothing else: so a
second fault has a step and a size of its own, corrected for the first.

Of SGD in torch's form, every fault that the CNN's optimizers are searched for is fitted (`optimizer.py`), in the same
words. Of other rules, the learning rates are fitted step by step, and then the constants of both sides are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from parity.compare import Stage
from parity.compare.formula import EPS
from parity.contract import StepTrace
from parity.explain.cause import Cause, Unknown
from parity.explain.constants import SAME, named_rates
from parity.explain.fit import ALLOWED, Deviation, Fit, settle
from parity.explain.identified import described, identified, recorded
from parity.explain.optimizer import Updates, explain_updates, follows
from parity.explain.rule import Rule, steps_from
from parity.identify import Identification, Member
from parity.identify.accumulation import accumulated
from parity.identify.fit import LIMIT
from parity.identify.replay import Observed, group_levels, nudged, replay, rounding_units
from parity.identify.rule import DECAY
from parity.identify.rule import Rule as Form
from parity.oracle.layers import Array

__all__ = ["compared_rules", "identified_sgd", "sgd_of"]

CERTAIN = 6
"""Standard errors by which two fitted constants have to differ."""

DIGITS = 12
"""Significant ones of an identified constant; a constant that was meant has fewer, and rounding is below them."""


def compared_rules(
    names: tuple[str, str], traces: tuple[Sequence[StepTrace], Sequence[StepTrace]]
) -> list[Cause | Unknown]:
    """The causes; [] where the second side follows the first one's rule, or where no side's rule is identified.

    Args:
        names: the sides'.
        traces: both sides' steps, from the first on.
    """
    first = identified(traces[0])
    if first is None:
        return _the_other_way(names, traces)
    (rule, *_), every = first.members, first.every
    asked = f"{described(rule)}, as {names[0]} does it,"
    meant = sgd_of(first, traces[0])
    partly: list[Cause | Unknown] = []
    if meant is not None:
        steps = steps_from(traces[1])
        partly = explain_updates(
            Updates(side=names[1], traces=traces[1], steps=steps, meant=meant, asked=asked, others=False)
        )
        if not any(isinstance(each, Unknown) for each in partly):
            return partly
    left = _left(rule, every, traces[1])
    if left is None or left.place is None:
        return partly
    deviation = Deviation(side=names[1], step=left.step, place=left.place, difference=left.difference)
    if left.rates is not None:
        fits = list(_rate_fits(np.array(left.rates), np.array(rule.lr[: len(left.rates)]), left.rest))
        return [settle(deviation, fits)]
    second = identified(traces[1])
    if second is not None and second.members:
        return _otherwise(deviation, names, (first, second)) or partly
    formula = f"{described(rule)}, by which {names[0]} updates"
    return partly or [_unknown(deviation, formula)]


def _the_other_way(
    names: tuple[str, str], traces: tuple[Sequence[StepTrace], Sequence[StepTrace]]
) -> list[Cause | Unknown]:
    """The first side's rule is not known; the second one's may be, and then the first leaves it or not."""
    second = identified(traces[1])
    left = _left(second.members[0], second.every, traces[0]) if second else None
    if second is None or left is None or left.place is None:
        return []
    deviation = Deviation(side=names[0], step=left.step, place=left.place, difference=left.difference)
    formula = f"{described(second.members[0])}, by which {names[1]} updates"
    return [_unknown(deviation, formula)]


def _unknown(deviation: Deviation, formula: str) -> Unknown:
    """A side that leaves the other one's rule, and follows none that is known here."""
    return Unknown(
        side=deviation.side,
        place=deviation.place,
        step=deviation.step,
        difference=deviation.difference,
        residual=deviation.difference,
        best=None,
        formula=formula,
    )


def _otherwise(
    deviation: Deviation, names: tuple[str, str], found: tuple[Identification, Identification]
) -> list[Cause | Unknown]:
    """Both rules with their constants, where these are not the same."""
    a, b = (each.members[0] for each in found)
    texts = [f"{described(each.members[0])}{_gathered(each.every)}" for each in found]
    constant = _first_constant(a, b)
    if texts[0] == texts[1] or (a.name == b.name and constant is None and found[0].every == found[1].every):
        return []
    key = "other-optimizer" if a.name != b.name or constant is None else f"other-{constant}"
    sentence = f"updates by {texts[1]}, where {names[0]} updates by {texts[0]}"
    return [deviation.cause(key=key, sentence=sentence, residual=max(a.residual, b.residual) * EPS)]


def _gathered(every: int) -> str:
    return f", every {every} steps" if every > 1 else ""


def _first_constant(a: Member, b: Member) -> str | None:
    """The first constant that is another on the second side."""
    for name, value in a.constants.items():
        other, errors = b.constants.get(name), (a.errors.get(name, 0.0), b.errors.get(name, 0.0))
        if other is None:
            return name.removeprefix("schedule.")
        if None in errors:
            continue  # a run that says nothing of a constant says nothing of its difference
        uncertain = CERTAIN * math.hypot(*(error or 0.0 for error in errors))
        if abs(other - value) > max(uncertain, SAME * max(abs(value), abs(other))):
            return name.removeprefix("schedule.")
    if a.schedule == b.schedule == "free" and not np.allclose(a.lr, b.lr, rtol=SAME, atol=0):
        return "lr"
    return None


@dataclass(frozen=True, kw_only=True)
class _Left:
    """What a rule leaves of a side's updates.

    Args:
        place: the first tensor that it does not predict; None where it predicts all.
        step: in which that is.
        difference: relative, there.
        rates: (updates,) the learning rates with which it predicts all of them; None where there are none.
        rest: what is left with those, relative: the worst tensor of all steps.
    """

    place: Stage | None
    step: int
    difference: float
    rates: tuple[float, ...] | None
    rest: float


def _left(rule: Member, every: int, traces: Sequence[StepTrace]) -> _Left | None:
    """The rule, with its constants and learning rates, held against a side's own gradients; None for too few steps."""
    run = recorded(traces[: len(rule.lr) * every])
    if run is None or run.steps < every:
        return None
    used = accumulated(run, every)
    form, constants = Form(**rule.form), _constants(rule, used.names)  # type: ignore[arg-type] # its own fields
    observed = Observed(used, rounding_units(used))
    observed = nudged(form, constants, observed)
    rates = np.array(rule.lr[: used.steps])
    far = _distances(replay(form, constants, observed, lr=rates).residual, observed)
    free = replay(form, constants, observed)
    rest = float(_distances(free.residual, observed).max(initial=0.0))
    updates, tensors = np.nonzero(far)
    if not len(updates):
        return _Left(place=None, step=0, difference=0.0, rates=None, rest=0.0)
    tensor = int(tensors[0])
    return _Left(
        place=Stage(stage="update", tensor=used.names[tensor]),
        step=int(updates[0] + 1) * every - 1,
        difference=float(far[updates[0], tensor]),
        rates=None if rest else tuple(map(float, free.lr)),
        rest=rest,
    )


def _constants(rule: Member, names: Sequence[str]) -> dict[str, float | Array]:
    constants: dict[str, float | Array] = {
        name: value for name, value in rule.constants.items() if not name.startswith("schedule.") and name != DECAY
    }
    return {**constants, DECAY: np.array([rule.decays.get(name, 0.0) for name in names])}


def _distances(residual: Array, observed: Observed) -> Array:
    """(updates, tensors) relative to the updates; 0 where it is rounding, or what the constants are not known to."""
    run = observed.run
    count = len(run.names)
    levels = group_levels(residual, run.tensor, count)
    sizes = group_levels(observed.updates, run.tensor, count)
    sizes = np.where(sizes > 0, sizes, np.max(sizes, axis=0, initial=0.0))
    left = group_levels(residual * observed.units, run.tensor, count)
    distances = np.divide(left, sizes, out=np.zeros_like(left), where=sizes > 0)
    distances[(levels <= LIMIT) | (distances <= SAME)] = 0.0
    return distances


def _rate_fits(found: Array, meant: Array, residual: float) -> Iterator[Fit]:
    """The first side's rule with other learning rates, by their law."""
    for key, sentence, _ in named_rates(found, meant):
        yield Fit(key=key, sentence=sentence, residual=min(residual, ALLOWED))


def sgd_of(found: Identification, traces: Sequence[StepTrace]) -> Rule | None:
    """SGD in torch's form with the constants that were identified; None where the steps are not those of one."""
    rule, every = found.members[0], found.every
    form = Form(**rule.form)  # type: ignore[arg-type] # its own fields
    decays = set(rule.decays.values())
    if form.scaling != "none" or form.buffer not in ("none", "torch") or form.clip != "none" or len(decays) > 1:
        return None
    decay = _rounded(next(iter(decays), 0.0))
    lr = [_rounded(rule.constants["schedule.lr"])] * len(rule.lr) if rule.schedule == "constant" else rule.lr
    rates = tuple(_rounded(lr[min(step // every, len(lr) - 1)]) for step in range(len(traces)))
    gain = 1 - _rounded(rule.constants.get("dampening", 0.0))
    shares = {"decoupled": tuple(decay * rate for rate in rates), "constant": (decay,) * len(rates)}
    meant = Rule(
        rates=rates,
        momenta=(_rounded(rule.constants.get("momentum", 0.0)),) * len(rates),
        gain=gain,
        decay=decay if form.decay == "coupled" else 0.0,
        decays=frozenset(rule.decays or traces[0].gradients),
        decoupled=shares.get(form.decay, ()),
        nesterov=form.nesterov,
        sign=-1.0 if form.ascent else 1.0,
        has_buffer=form.buffer == "torch",
        accumulated=every,
    )
    own = Updates(side="", traces=traces, steps=steps_from(traces), meant=meant, asked="")
    return meant if follows(own) else None


def _rounded(value: float) -> float:
    """To the digits that are known."""
    return float(f"{value:.{DIGITS}g}")


def identified_sgd(traces: Sequence[StepTrace]) -> Rule | None:
    """SGD in torch's form with its constants, where all of a program's steps, from the first on, are its; else None."""
    found = identified(traces)
    return sgd_of(found, traces) if found else None
