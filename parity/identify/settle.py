"""From rules that explain elements of one tensor to rules that explain all tensors.

Each is fitted with every kind of decay, each tensor with its own; a constant stays if leaving it out makes the fit
worse, a tensor decays if its decay is not 0. A bound that clips every step that the few elements show may not do so in
the other tensors: then other bounds are tried, and with them all constants that grow with the gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from parity.identify.candidates import decayed
from parity.identify.fit import Fit, constants_on, explaining, fit
from parity.identify.masks import Decay, decaying, settle_decay
from parity.identify.replay import Observed, replay
from parity.identify.rule import BY_NORM, DECAY, Constants, Rule
from parity.identify.run import Array
from parity.identify.variables import always_clipped, at_bound

__all__ = ["settled"]

SIGNIFICANT = 60.0
"""A constant stays if without it the sum of squares grows by so many times its level: 8 standard errors."""


VISIBLE = 0.1
"""... and by so much of a unit, root mean square: below it systematic rounding could be the cause."""


BOUNDS_TRIED = 3
"""Bounds that a fit on all tensors sets out from, those that leave least, where a few elements show none."""


def settled(passed: Sequence[Fit], observed: Observed) -> list[tuple[Fit, Decay]]:
    """The rules that passed, with every kind of decay, on all tensors: those that fit as well as the best."""
    found: list[tuple[Fit, Decay]] = []
    for rule in dict.fromkeys(variant for each in passed for variant in decayed(each.rule)):
        sources = [each for each in passed if rule in decayed(each.rule)]
        source = next((each for each in sources if each.rule == rule), sources[0])
        tried = _on_all(rule, source, observed)
        if tried is not None:
            found.append(tried)
    best = min((each.chi2 for each, _ in found), default=0.0)
    return [(each, decay) for each, decay in found if _as_good(each, best)]


def _on_all(rule: Rule, source: Fit, observed: Observed) -> tuple[Fit, Decay] | None:
    """The decays first, for which the problem is nearly linear, then all constants; None if it does not explain all."""
    tried = _from_source(rule, source, observed)
    if tried is None:
        return None
    explained = explaining(tried)
    if explained is None and rule.clip in BY_NORM and _unbounded(source):
        starts = sorted(_other_bounds(rule, source, observed), key=lambda each: replay(rule, each, observed).chi2)
        fits = (explaining(fit(rule, each, observed, evaluations=30)) for each in starts[:BOUNDS_TRIED])
        explained = next((each for each in fits if each is not None), None)
    return settle_decay(explained) if explained is not None else None


def _from_source(rule: Rule, source: Fit, observed: Observed) -> Fit | None:
    """From the constants that explain some elements; None if the rule has a decay and no tensor decays."""
    start: dict[str, float | Array] = {name: source.constants.get(name, 0.0) for name in rule.constants}
    if rule.decay != "none":
        start[DECAY] = np.zeros(len(observed.run.names))
        if source.rule.decay == rule.decay:
            start[DECAY] = _likely_decays(rule, start, source, observed)
        begin = fit(rule, start, observed, only=(DECAY,), evaluations=2)
        explained = explaining(begin) if source.rule.decay == "none" else None
        if explained is not None and not decaying(explained).any():
            return None
        start = dict(begin.constants)
    tried = fit(rule, start, observed, evaluations=12, jacobian=rule.decay != "none")
    if explaining(tried, jacobian=False) is None:
        tried = fit(rule, tried.constants, observed, evaluations=30, jacobian=rule.decay != "none")
    return tried


def _unbounded(source: Fit) -> bool:
    """Whether the elements that were fitted show no step that is not clipped; others may."""
    return always_clipped(source.rule, source.constants, source.observed.run)


def _other_bounds(rule: Rule, source: Fit, observed: Observed) -> Iterator[Constants]:
    """The same rule where it always clips, with other bounds, and all constants that grow with the gradients."""
    for bound in np.quantile(observed.run.norms[observed.run.norms > 0], np.linspace(0, 1, 26)[1:-1]):
        scaled = at_bound(rule, source.constants, bound)
        start: dict[str, float | Array] = {name: scaled.get(name, 0.0) for name in rule.constants}
        if rule.decay != "none":
            start[DECAY] = np.zeros(len(observed.run.names))
            if source.rule.decay == rule.decay:
                start[DECAY] = _likely_decays(rule, start, replace(source, constants=scaled), observed)
        yield start


def _likely_decays(rule: Rule, start: Constants, source: Fit, observed: Observed) -> Array:
    """(tensors,) the decays that were fitted to some; of the other tensors the same or none, as fits each better."""
    names, run = observed.run.names, observed.run
    on = np.asarray(constants_on(source, names)[DECAY])
    off = np.where(np.isin(names, source.observed.run.names), on, 0.0)
    left = [replay(rule, {**start, DECAY: decays}, observed, lr=source.replay.lr).residual for decays in (on, off)]
    sums = [np.bincount(run.tensor, weights=np.sum(each**2, axis=0), minlength=len(names)) for each in left]
    return np.where(sums[0] <= sums[1], on, off)


def _as_good(found: Fit, best: float) -> bool:
    """Whether what this leaves more than the best does is no more than chance and systematic rounding."""
    size = found.replay.residual.size
    level = max(best / size, 0.01)
    return found.chi2 - best <= max(SIGNIFICANT * level, VISIBLE**2 * size)
