"""Which forms explain a few elements? The plain rules are fitted first; then the best fit yet grows, a part at a time.

A rule is a base (SGD, Adam, RMSprop, Adagrad, with its buffer) and parts: a decay, a clipping, an epsilon, dampening,
an initial accumulator. A part that is missing mostly leaves a small share of the updates, and a wrong base a large one,
so the best fit is nearly always a part of the right rule. Every rule is reached in the end if none explains the run.

What explains it has its neighbours tried too: with a part less, another kind of one, another base, or a part more. What
a run cannot tell apart is found there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count, groupby, islice

import numpy as np

from parity.identify.candidates import alike, base, clippings, richer, simpler, starts
from parity.identify.fit import LIMIT, Fit, constants_on, explaining, fit
from parity.identify.replay import Observed, replay
from parity.identify.rule import Constants, Rule
from parity.identify.run import Array
from parity.identify.variables import always_clipped, in_range, released
from parity.progress import Progress, tell

__all__ = ["RULES", "Exploration"]

RULES = "rules tried"
"""What is told of the search: a run that none explains takes all of them, some more than once."""

PROMISING = 1e-2
"""A fit that leaves more of the updates than this share after a few iterations is not continued, nor one at a
minimum."""

TRIES = 3
"""How many points of a grid a search sets out from, those that leave least."""

CLIPPED = 0.1
"""A fit that clips every step, and leaves less than this share, may owe what it leaves to the few that are not."""

CLOSE = 1e-5
"""A fit that leaves less than this share is continued even where it hardly improves: valleys can be long."""


class Exploration:
    """Rules on a few elements of a run, in the order of promise.

    Args:
        few: the elements that rules are fitted to.
        more: those that confirm a rule that explains the few.
        rules: that are tried.
        kept: what seems to be kept of each update, if that is known: where to look for a momentum.
    """

    def __init__(self, few: Observed, more: Observed, rules: Sequence[Rule], kept: float | None) -> None:
        self.few, self.more = few, more
        self.rules = dict.fromkeys(rules)
        self.kept = kept
        self.fits: dict[Rule, Fit] = {}
        self.confirmed: dict[Rule, Fit] = {}
        self._whole = float(np.sum(np.square(few.updates * few.weights)))

    def neighbourhoods(self) -> Iterator[list[list[Fit]]]:
        """Rules that explain the run, one neighbourhood after the other, none twice.

        In each, those with equally many constants are together, those with the fewest first.
        """
        seen: set[Rule] = set()
        for found in self._passing():
            around = [each for each in self._neighbourhood(found) if each.rule not in seen]
            seen |= {each.rule for each in around}
            yield [list(group) for _, group in groupby(sorted(around, key=_constants), key=_constants)]

    def around(self, rule: Rule, constants: Constants) -> list[Fit]:
        """Rules like one that is known to explain the run, and as well as that; itself among them."""
        self.fits[rule] = fit(rule, constants, self.few, evaluations=0, jacobian=False)
        self.confirmed.pop(rule, None)
        if not self._confirm(rule):
            return []
        return list(self._reached({rule: self.confirmed[rule]}, lambda known: alike(known, self.rules)).values())

    def _passing(self) -> Iterator[Fit]:
        """Rules that explain the run, one at a time."""
        waiting: list[tuple[float, int, Rule]] = []
        plain = [rule for rule in self.rules if base(rule) == rule]
        grow = {child for rule in self.rules for child in richer(rule)}
        others = [rule for rule in self.rules if rule not in plain and (len(rule.constants) <= 1 or rule not in grow)]
        children: Iterable[tuple[Rule, Fit | None]] = [(rule, None) for rule in plain + others]
        expanded: dict[Rule, float] = {}
        order = count()  # of equals the earlier first
        while True:
            for child, parent in children:
                if not self._improves(child, parent):
                    continue
                tried = self.fits[child]
                heappush(waiting, (tried.chi2, next(order), child))
                if self._confirm(child):
                    yield self.confirmed[child]
            while waiting and expanded.get(waiting[0][2], np.inf) <= waiting[0][0]:
                heappop(waiting)
            if not waiting:
                return
            level, _, rule = heappop(waiting)
            expanded[rule] = level
            children = [(child, self.fits[rule]) for child in richer(rule) if child in self.rules]

    def _neighbourhood(self, found: Fit) -> list[Fit]:
        """What explains the run around a rule that does: simpler, alike, and with one part more."""
        reached = self._reached({found.rule: found}, lambda rule: (*simpler(rule), *alike(rule, self.rules)))
        fewest = min(len(rule.constants) for rule in reached)
        few = {rule: each for rule, each in reached.items() if len(rule.constants) == fewest}
        more = {rule: each for rule, each in reached.items() if len(rule.constants) == fewest + 1}
        more |= self._reached(few, lambda rule: (kind for more in richer(rule) for kind in clippings(more)), once=True)
        return list((few | more).values())

    def _reached(
        self, known: Mapping[Rule, Fit], step: Callable[[Rule], Iterable[Rule]], *, once: bool = False
    ) -> dict[Rule, Fit]:
        """What explains the run, from these on, a step to a rule that does not being none; or one step alone."""
        reached, edge = dict(known), list(known)
        while edge:
            rule = edge.pop()
            for other in step(rule):
                if other in self.rules and other not in reached:
                    self._improves(other, self.fits[rule])
                    if self._confirm(other):
                        reached[other] = self.confirmed[other]
                        edge += [] if once else [other]
        return reached

    def _improves(self, rule: Rule, parent: Fit | None) -> bool:
        """Fit a rule from another's constants, and, the first time, from a grid; whether it is better than before."""
        before = self.fits.get(rule)
        known = in_range(parent.constants) if parent else {}
        sources = [
            starts(rule, self.few.run, {name: known[name] for name in rule.constants if name in known}, self.kept)
        ]
        if before is None and parent is not None and base(parent.rule) == parent.rule:
            sources.append(starts(rule, self.few.run, {}, self.kept))
        best = before
        for points in sources:
            levels = np.array([replay(rule, point, self.few).chi2 for point in points])
            if before is not None and levels.min() >= before.chi2:
                continue
            for place in self._promising(rule, points, levels):
                tried = self._refined(rule, points[place])
                best = tried if best is None or tried.chi2 < best.chi2 else best
                if best.level <= LIMIT:
                    break
        assert best is not None  # noqa: S101  there is always a start; for the type checker
        self.fits[rule] = best
        tell(Progress(what=RULES, done=min(len(self.fits), len(self.rules) - 1), total=len(self.rules), unit="rules"))
        return best is not before

    def _promising(self, rule: Rule, points: Sequence[Constants], levels: Array) -> list[int]:
        """The points that leave least, and of the others the best that clips every step, if there is one.

        Bounds below the smallest gradient are all one rule: a valley of its own, which few points lie in.
        """
        order = [int(place) for place in np.argsort(levels)]
        clipped = (place for place in order[TRIES:] if always_clipped(rule, points[place], self.few.run))
        return [*order[:TRIES], *islice(clipped, 1)]

    def _refined(self, rule: Rule, start: Constants) -> Fit:
        """A fit, and one with a larger bound where the first one clips every step: nothing leads back from there."""
        tried = self._fitted(rule, start)
        if (
            tried.level <= LIMIT
            or not self._leaves(tried, CLIPPED)
            or not always_clipped(rule, tried.constants, self.few.run)
        ):
            return tried
        larger = released(rule, tried.constants, self.few.run)
        if not all(np.isfinite(value).all() for value in larger.values()):
            return tried
        return min(tried, self._fitted(rule, larger), key=lambda each: each.chi2)

    def _fitted(self, rule: Rule, start: Constants) -> Fit:
        """A short fit, and a long one where the short one explains nearly all of the updates."""
        tried = fit(rule, start, self.few, evaluations=8, jacobian=False)
        close = self._leaves(tried, CLOSE)
        if tried.level > LIMIT and (close or (not tried.converged and self._leaves(tried, PROMISING))):
            return fit(
                rule, tried.constants, self.few, evaluations=40, tolerance=1e-12 if close else 1e-6, jacobian=False
            )
        return tried

    def _leaves(self, found: Fit, share: float) -> bool:
        """Whether the fit leaves less than this share of the updates."""
        return found.chi2 < share**2 * self._whole

    def _confirm(self, rule: Rule) -> bool:
        """Whether a rule explains the few elements, and more of them."""
        found = self.fits[rule]
        if rule in self.confirmed:
            return True
        explained = explaining(found, jacobian=False)
        if explained is None:
            return False
        start = constants_on(explained, self.more.run.names)
        wider = fit(rule, start, self.more, evaluations=20, tolerance=1e-9, jacobian=False)
        confirmed = explaining(wider, jacobian=False)
        if confirmed is None:
            return False
        self.confirmed[rule] = confirmed
        return True


def _constants(found: Fit) -> int:
    return len(found.rule.constants)
