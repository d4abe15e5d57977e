"""Candidates for an update rule: the rule that is meant, with the constants that a side's steps are fitted by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from parity.compare.measure import frobenius
from parity.explain.fit import factor_of
from parity.explain.rates import clipped_rates, decaying_rates
from parity.explain.relayout import FORMATS, format_key
from parity.explain.rule import Rule, Step
from parity.oracle.layers import Array

__all__ = ["SAME", "Candidate", "buffer_candidates", "named_rates", "update_candidates"]

SAME = 1e-9
"""Fitted constants that are so close to one another are the same; a candidate still has to predict to rounding."""


NO_DECAY = 1e-12
"""A decay below it could not be seen beside the gradients of float64."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A fault: its key, what to say of it, and what it changes in a rule."""

    key: str
    sentence: str
    change: Callable[[Rule], Rule]


def _fitted(found: Sequence[Array], columns: Sequence[Sequence[Array]]) -> Array:
    """The coefficients of found = sum_k c_k column_k, by least squares over all tensors and steps given."""
    matrix = np.stack([np.concatenate([part.ravel() for part in column]) for column in columns], axis=1)
    scale = np.sqrt(np.sum(matrix**2, axis=0))
    scale[scale == 0] = 1.0
    right = np.concatenate([part.ravel() for part in found])
    coefficients: Array = np.linalg.lstsq(matrix / scale, right, rcond=None)[0] / scale
    return coefficients


def buffer_candidates(rule: Rule, steps: Sequence[Step]) -> Iterator[Candidate]:
    """What may be another constant in b = m b + s (g + wd p)."""
    later = [step for step in steps if step.before is not None and not rule.idle(step)]
    kept = any(np.any(value) for step in steps for value in step.buffers.values())
    unknown = (rule.momenta[0] if kept else 0.0, rule.gain, rule.gain * rule.decay)
    m, s, v = _buffer_fit(rule, later) if later else unknown
    first = next((step for step in steps if step.before is None), None)
    first_gain, first_decay = _first_fit(rule, first) if first else (rule.first_gain, rule.decay)
    decay = v / s if later and s else first_decay
    yield from _momentum_candidates(rule, m)
    yield from _gain_candidates(rule, s, first_gain)
    yield from _decay_candidates(rule, decay)
    yield from _mask_candidates(rule, steps)
    for inside in (1.0, -1.0):
        sentence = "keeps the learning rate inside the momentum buffer (Keras' form); torch's stays outside"
        yield Candidate(key="lr-inside-buffer", sentence=sentence, change=_set(inside=inside))
    changing = [n for n in range(1, len(steps)) if rule.rates[n] != rule.rates[n - 1] and rule.rates[n]]
    if changing:
        ratios = [1.0, *(rule.rates[n - 1] / rule.rates[n] if rule.rates[n] else 1.0 for n in range(1, len(steps)))]
        scaled = tuple(m * ratio for m, ratio in zip(rule.momenta, ratios, strict=True))
        yield Candidate(key="lr-inside-buffer", sentence=sentence, change=_set(momenta=scaled))
    for name, bits in FORMATS.items():
        key = f"momentum-in-{format_key(name)}"
        yield Candidate(key=key, sentence=f"keeps the momentum in {name}", change=_set(bits=bits))
    yield from _accumulation(steps)
    yield _sign(rule)


def _accumulation(steps: Sequence[Step]) -> Iterator[Candidate]:
    for number in (2, 3, 4, 8):
        if number <= len(steps):
            sentence = f"updates every {number} steps, with the mean of their gradients (accumulation)"
            yield Candidate(key="gradient-accumulation", sentence=sentence, change=_set(accumulated=number))


def _set(**changes: object) -> Callable[[Rule], Rule]:
    return lambda rule: replace(rule, **changes)  # type: ignore[arg-type]


def _sign(rule: Rule) -> Candidate:
    verb = "climbs: it adds the gradient" if rule.sign > 0 else "descends where it should climb"
    return Candidate(key="ascent", sentence=verb, change=_set(sign=-rule.sign))


def _buffer_fit(rule: Rule, later: Sequence[Step]) -> tuple[float, float, float]:
    """m, s and v of b_t = m b_(t-1) + s g_t + v p_t."""
    names = list(later[0].gradients)
    pairs = [(step, name) for step in later for name in names if step.before is not None]
    zeros = {name: np.zeros_like(later[0].parameters[name]) for name in names}
    found = [step.buffers.get(name, zeros[name]) for step, name in pairs]
    before = [(step.before or {}).get(name, zeros[name]) for step, name in pairs]
    plain = replace(rule, decay=0.0)
    columns = [
        before,
        [plain.gradient(name, step) for step, name in pairs],
        [step.parameters[name] for step, name in pairs],
    ]
    m, s, v = _fitted(found, columns)
    return float(m), float(s), float(v)


def _gain_and_decay(rule: Rule, step: Step, found: Callable[[str], Array]) -> tuple[float, float]:
    """What a step multiplies its gradient with, in the buffer or the update that is found; and its decay."""
    names = list(step.gradients)
    plain = replace(rule, decay=0.0)
    columns = [[plain.gradient(name, step) for name in names], [step.parameters[name] for name in names]]
    s, v = _fitted([found(name) for name in names], columns)
    return float(s), float(v / s) if s else 0.0


def _first_fit(rule: Rule, first: Step) -> tuple[float, float]:
    gain, decay = _gain_and_decay(
        rule, first, lambda name: first.buffers.get(name, np.zeros_like(first.parameters[name]))
    )
    return gain, decay if gain else rule.decay


def _momentum_candidates(rule: Rule, m: float) -> Iterator[Candidate]:
    meant = rule.momenta[0]
    momenta = (m,) * len(rule.rates)
    if abs(m) <= SAME:
        none = (0.0,) * len(rule.rates)
        for key, sentence in (
            ("no-momentum", f"has no momentum, where {meant:.6g} is meant"),
            ("momentum-state-lost", "loses its momentum buffer after each step"),
        ):
            yield Candidate(key=key, sentence=sentence, change=_set(momenta=none, gain=1.0))
        yield Candidate(
            key="no-momentum",
            sentence=f"has no momentum, where {meant:.6g} is meant",
            change=_set(has_buffer=False, nesterov=False),
        )
    else:
        sentence = f"has a momentum of {m:.6g}, not {meant:.6g}"
        yield Candidate(key="other-momentum", sentence=sentence, change=_set(momenta=momenta, has_buffer=True))


def _gain_candidates(rule: Rule, s: float, first: float) -> Iterator[Candidate]:
    """Dampening, in torch's sense, in the first step too, or as an average."""
    m, meant = rule.momenta[0], 1 - rule.gain
    ignored = abs(s - 1) <= SAME
    key = "dampening-ignored" if ignored else "other-dampening" if meant else "dampening-added"
    sentence = "ignores the dampening" if ignored else f"has a dampening of {1 - s:.6g}, not {meant:.6g}"
    yield Candidate(key=key, sentence=sentence, change=_set(gain=s))
    if abs(first) > SAME:
        sentence = f"dampens the first step too, by {1 - first:.6g}"
        yield Candidate(key="dampened-first-step", sentence=sentence, change=_set(first_gain=first))
    if abs(s - (1 - m)) <= SAME and abs(first - s) <= SAME:
        sentence = f"averages gradients: the gradient enters the buffer times 1 - {m:.6g}"
        yield Candidate(key="averaged-momentum", sentence=sentence, change=_set(gain=1 - m, first_gain=1 - m))


def _decay_candidates(rule: Rule, decay: float) -> Iterator[Candidate]:
    if abs(decay) <= NO_DECAY:
        sentence = f"has no weight decay before the momentum, where {rule.decay:.6g} is meant"
        yield Candidate(key="weight-decay-lost", sentence=sentence, change=_set(decay=0.0))
    else:
        key = "other-weight-decay" if rule.decay else "weight-decay-added"
        sentence = f"decays weights by {decay:.6g}, not {rule.decay:.6g}"
        yield Candidate(key=key, sentence=sentence, change=_set(decay=decay))


def _mask_candidates(rule: Rule, steps: Sequence[Step]) -> Iterator[Candidate]:
    """Another set of tensors decays: biases too, only biases, or some."""
    decays = {name: _own_decay(rule, steps[0], name) for name in steps[0].gradients}
    largest = max(decays.values(), key=abs, default=0.0)
    masked = frozenset(name for name, value in decays.items() if abs(value) > abs(largest) / 2)
    if not largest or masked == rule.decays:
        return
    value = rule.decay or float(np.median([decays[name] for name in masked]))
    key, which = _mask_named(masked, decays.keys())
    yield Candidate(key=key, sentence=f"decays {which}, by {value:.6g}", change=_set(decays=masked, decay=value))


def _mask_named(masked: Set[str], every: Set[str]) -> tuple[str, str]:
    biases = {name for name in every if name.endswith("bias")}
    if masked == biases:
        return "decay-on-biases-only", "biases only"
    if masked == every:
        return "decay-on-biases", "all parameters, biases too"
    if masked == every - biases:
        return "decay-not-on-biases", "weights only, not biases"
    return "decay-mask", ", ".join(sorted(masked))


def _own_decay(rule: Rule, step: Step, name: str) -> float:
    """The decay of one tensor alone in one step, in the buffer or where there is none in the update."""
    plain = replace(rule, decay=0.0)
    g, p = plain.gradient(name, step), step.parameters[name]
    if rule.has_buffer and name in step.buffers:
        known = np.zeros_like(p) if step.before is None else rule.momenta[step.number] * step.before[name]
        gain = rule.first_gain if step.before is None else rule.gain
        rest = (step.buffers[name] - known) / gain - g if gain else np.zeros_like(p)
    else:
        rate = rule.rates[step.number]
        rest = -step.update(name) / rate - g if rate else np.zeros_like(p)
    return factor_of([rest], [p])


def update_candidates(rule: Rule, steps: Sequence[Step]) -> Iterator[Candidate]:
    """What may be another constant in p <- p - lr d."""
    yield Candidate(
        key="nesterov-lost" if rule.nesterov else "nesterov",
        sentence="takes no nesterov step" if rule.nesterov else "takes nesterov's step",
        change=_set(nesterov=not rule.nesterov),
    )
    yield from _rate_candidates(rule, steps)
    yield from _limit_candidates(rule, steps)
    yield from _decoupled_candidates(rule, steps)
    yield from _factor_candidates(rule, steps)
    if not rule.has_buffer:
        yield from _decay_candidates(rule, _gain_and_decay(rule, steps[0], steps[0].update)[1])
        yield from _mask_candidates(rule, steps)
        yield _sign(rule)
    else:
        yield Candidate(
            key="buffer-unused",
            sentence="updates by the gradient alone: the momentum buffer is kept, and not used",
            change=_set(has_buffer=False),
        )
    yield from _accumulation(steps)


def fitted_rates(rule: Rule, steps: Sequence[Step]) -> list[float]:
    """The learning rate of each step by itself, along the rule's direction and beside its decoupled decay."""
    rates = []
    for step in steps:
        names = [name for name in step.gradients if rule.factors.get(name, 1.0)]
        rates.append(-factor_of(map(step.update, names), [rule.direction(name, step) for name in names]))
    return rates


def _rate_candidates(rule: Rule, steps: Sequence[Step]) -> Iterator[Candidate]:
    """The learning rate: another one, or at another time."""
    found, meant = np.array(fitted_rates(rule, steps)), np.array(rule.rates)
    norms = [_norm(rule, step) for step in steps]
    for key, sentence, rates in named_rates(found, meant, first=rule.first, others=rule.other_rates, norms=norms):
        yield Candidate(key=key, sentence=sentence, change=_set(rates=tuple(map(float, rates))))


def named_rates(
    found: Array,
    meant: Array,
    *,
    first: int = 0,
    others: Sequence[tuple[str, str, tuple[float, ...]]] = (),
    norms: Sequence[float] | None = None,
) -> Iterator[tuple[str, str, Array]]:
    """Laws by which the rates of single steps follow from those that are meant; the rates themselves where none does.

    Args:
        found: (steps,) fitted.
        meant: (steps,).
        first: the number of the first step.
        others: rates by which ports get the schedule wrong: key, sentence, and one for each step.
        norms: (steps,) of the updates that are meant; None where they are not known.
    """
    named = [*_named_rates(found, meant, others), *decaying_rates(first, found, meant)]
    named += list(clipped_rates(found, meant, norms)) if norms is not None else []
    yield from named
    if named or not found.any():
        return  # where nothing is updated, that is no learning rate
    if changed := _changed_rates(found, meant, first):
        yield changed
        return
    listed, due = (", ".join(f"{value:.6g}" for value in values) for values in (found, meant))
    when = f"in step {first}" if len(found) == 1 else f"in steps {first} to {first + len(found) - 1}"
    sentence = f"updates {when} by rates of {listed}, where {due} are meant"
    yield "other-lr", f"{sentence} (a learning rate, or another scale of updates)", found


def _changed_rates(found: Array, meant: Array, first: int) -> tuple[str, str, Array] | None:
    """The rates that are meant up to a step, and from there on a multiple of them."""
    if not meant.all():
        return None
    shares = found / meant
    step = int(np.argmax(np.abs(shares - 1) > SAME))
    factor = float(shares[step])
    law = meant * np.where(np.arange(len(meant)) < step, 1.0, factor)
    predicted = len(meant) - step - 1  # steps beside the one that the factor is fitted to
    if not step or not predicted or abs(factor) <= SAME or not np.allclose(found, law, rtol=SAME, atol=0):
        return None
    number = first + step
    sentence = (
        f"has a learning rate of {found[step]:.6g} from step {number} on, {factor:.6g} times the {meant[step]:.6g}"
    )
    return "other-lr", f"{sentence} that is meant", law


def _norm(rule: Rule, step: Step) -> float:
    """Of all parameters' updates together."""
    return math.hypot(*(frobenius(rule.update(name, step)) for name in step.gradients))


def _limit_candidates(rule: Rule, steps: Sequence[Step]) -> Iterator[Candidate]:
    """Updates whose elements are cut at one size: after the learning rate, or before it."""
    updates = ([step.update(name) for name in step.gradients] for step in steps)
    largest = np.array([max(float(np.abs(u).max(initial=0.0)) for u in each) for each in updates])
    rates = np.abs(np.array(rule.rates))
    if not (largest.any() and rates.all()):
        return
    bound = float(largest.max())
    sentence = f"clips each element of the update, after momentum and learning rate, at {bound:.6g}"
    yield Candidate(key="update-value-clipped", sentence=sentence, change=_set(limits=(bound,) * len(steps)))
    if not np.allclose(rates, rates[0], rtol=1e-12, atol=0):
        inside = float((largest / rates).max())
        sentence = f"clips each element of the update, after momentum and before the learning rate, at {inside:.6g}"
        limits = tuple(map(float, inside * rates))
        yield Candidate(key="update-value-clipped", sentence=sentence, change=_set(limits=limits))


def _named_rates(
    found: Array, meant: Array, others: Sequence[tuple[str, str, tuple[float, ...]]]
) -> Iterator[tuple[str, str, Array]]:
    """Patterns by which the rates that were found follow from those that are meant."""

    def same(x: Array, y: Array) -> bool:
        return x.shape == y.shape and bool(np.allclose(x, y, rtol=SAME, atol=0))

    changes = not same(meant, np.full_like(meant, meant[0]))
    single = meant.astype(np.float32).astype(np.float64)
    if same(found, meant):
        return
    if np.allclose(found, single, rtol=1e-12, atol=0):
        yield "lr-in-float32", "computes the learning rate in float32", single
        return
    rounded = found.astype(np.float32).astype(np.float64)
    if changes and np.allclose(found, meant, rtol=1e-5, atol=0) and np.allclose(found, rounded, rtol=1e-12, atol=0):
        worst = float(np.max(np.abs(found[meant != 0] / meant[meant != 0] - 1)))
        yield (
            "float32-schedule",
            f"computes the schedule in float32: the learning rate is off by up to {worst:.1e}",
            found,
        )
        return
    factor = float(found[0] / meant[0]) if meant[0] else 0.0
    if same(found, factor * meant):
        if abs(factor + 1) <= SAME:
            yield "ascent", "climbs: it adds what it should subtract", -meant
        elif abs(factor) > SAME:
            text = f"has a learning rate of {found[0]:.6g}, {factor:.6g} times the {meant[0]:.6g} that is meant"
            yield "other-lr", text, factor * meant
        if abs(factor - 2) <= SAME:
            yield "update-twice", "applies each update twice", factor * meant
    if changes and same(found[1:], meant[:-1]) and same(found[:1], meant[:1]):
        yield "lr-late", "changes the learning rate one step late", found
    if changes and same(found[:-1], meant[1:]):
        yield "lr-early", "changes the learning rate one step early", found
    for key, sentence, rates in others:
        if same(found, np.array(rates)) and not same(meant, np.array(rates)):
            yield key, sentence, np.array(rates)
    if changes and same(found, np.full_like(meant, meant[0])):
        yield "lr-baked", f"keeps the learning rate at {meant[0]:.6g}: the schedule has no effect", found


def _decoupled_candidates(rule: Rule, steps: Sequence[Step]) -> Iterator[Candidate]:
    """A decay beside the update: p <- p - lr d - c p."""
    shares = []
    for step in steps:
        names = [name for name in step.gradients if name in rule.decays]
        rest = [rule.update(name, step) - step.update(name) for name in names]
        shares.append(factor_of(rest, [step.parameters[name] for name in names]))
    rates = np.array(rule.rates)
    if not all(rates):
        return
    factors = np.array(shares) / rates
    decay = float(np.median(factors))
    sentence = f"decays weights after the momentum (decoupled), by the learning rate times {decay:.6g}"
    meant = f", where {rule.decay:.6g} before it (L2) is meant" if rule.decay else ", where no decay is meant"
    yield Candidate(
        key="decoupled-decay", sentence=sentence + meant, change=_set(decoupled=tuple(map(float, decay * rates)))
    )
    constant = float(np.median(shares))
    if not np.allclose(rates, rates[0], rtol=1e-12, atol=0):
        sentence = f"decays weights after the momentum (decoupled), by {constant:.6g} whatever the learning rate is"
        yield Candidate(key="decoupled-decay", sentence=sentence, change=_set(decoupled=(constant,) * len(rates)))


def _factor_candidates(rule: Rule, steps: Sequence[Step]) -> Iterator[Candidate]:
    """Tensors that are not updated, or with a learning rate of their own."""
    factors = _factors(rule, steps[0] if not rule.idle(steps[0]) else steps[-1])
    frozen = sorted(name for name, value in factors.items() if not value)
    if frozen:
        which = "the parameters at all" if len(frozen) == len(factors) else ", ".join(frozen)
        sentence = f"does not update {which}"
        change = _set(factors=dict.fromkeys(frozen, 0.0))
        yield Candidate(key="tensor-not-stepped", sentence=sentence, change=change)
    own = {name: value for name, value in factors.items() if abs(value - 1) > SAME}
    if 0 < len(own) < len(factors) and len(own) > len(frozen):
        listed = ", ".join(f"{name} times {value:.6g}" for name, value in own.items())
        sentence = f"has learning rates of their own for some tensors: {listed}"
        yield Candidate(key="lr-per-tensor", sentence=sentence, change=_set(factors=own))


def _factors(rule: Rule, step: Step) -> Mapping[str, float]:
    """Each tensor's update along the rule's, exactly 0 where nothing was updated."""
    factors = {}
    for name in step.gradients:
        meant, found = rule.update(name, step), step.update(name)
        if meant.any():
            factors[name] = factor_of([found], [meant])
    return factors
