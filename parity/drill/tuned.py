"""Faults in the optimizer of a program that brings its own: its rule is identified, and one constant changed.

Where the program's steps are those of SGD in torch's form, to rounding, a copy can take them with other constants: the
program computes gradients, and the oracle's rule makes the updates of them (`updating.Optimized`). Other optimizers
have no place for these faults: what a copy of them keeps between steps is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from parity.contract import SGD, AnyImplementation, StepTrace, Weights
from parity.drill.fault import Host, Mutation
from parity.drill.updating import Optimized, Rule, clipped, sgd_rule
from parity.drill.wrapped import Inapplicable, State
from parity.explain import identified_sgd

__all__ = ["decaying", "plain", "tune", "with_lookahead", "with_momentum"]


class Tuned(Optimized):
    """A program that trains by its own optimizer's rule, with these constants."""

    def __init__(self, inner: AnyImplementation, sgd: SGD, rule: Rule) -> None:
        super().__init__(inner, clipped, rule)
        self.sgd = sgd

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """The hyper-parameters are the program's own, whatever is given."""
        return replace(super().start(weights, sgd, dtype=dtype, device=device), sgd=self.sgd)


@dataclass(frozen=True)
class _Program:
    """One and the same program is identified once, whatever is planted in it."""

    implementation: Any
    host: Host = field(compare=False)


def _own_sgd(host: Host) -> SGD:
    found = _identified(_Program(host.implementation, host))
    if isinstance(found, str):
        raise Inapplicable(found)
    return found


@lru_cache(maxsize=4)
def _identified(program: _Program) -> SGD | str:
    """The constants of its optimizer, or why there are none that could be changed."""
    host, traces = program.host, []
    inner = host.implementation
    state = inner.start(host.problem.weights, host.settings.sgd, dtype="float64", device=inner.devices()[0])
    data = inner.place(state, *host.problem.train)
    for rows in host.batches:
        state, trace = inner.observe(state, data, rows)
        traces.append(trace)
    if set(inner.weights(state)) != set(traces[0].gradients):
        return "it keeps tensors beside those that it trains (running statistics), which no update rule moves"
    return _constants(traces)


def _constants(traces: list[StepTrace]) -> SGD | str:
    rule = identified_sgd(traces)
    if rule is None:
        return "its optimizer is not SGD in torch's form, so its constants cannot be changed from outside"
    biases = {name for name, value in traces[0].weights.items() if value.ndim <= 1}
    every = frozenset(traces[0].gradients)
    constant = len(set(rule.rates)) == 1 and rule.accumulated == 1 and not rule.decoupled and rule.sign > 0
    if not constant or rule.decays not in (every, every - biases):
        return "its optimizer is SGD with a schedule, a mask or a decay of its own, which a copy does not have"
    return SGD(
        lr=rule.rates[0],
        momentum=rule.momenta[0],
        dampening=1 - rule.gain,
        nesterov=rule.nesterov,
        weight_decay=rule.decay,
        decay_biases=rule.decays == every,
    )


def tune(
    change: Callable[[SGD], SGD] = lambda sgd: sgd,
    *,
    rule: Rule = sgd_rule,
    needs: Callable[[SGD], str | None] = lambda _: None,
) -> Mutation:
    """The mutation.

    Args:
        change: from the program's own constants to the wrong ones.
        rule: what is done with them.
        needs: why an optimizer with these constants has no place for the fault; None where it has.
    """

    def plant(host: Host) -> AnyImplementation:
        sgd = _own_sgd(host)
        if reason := needs(sgd):
            raise Inapplicable(reason)
        return Tuned(host.implementation, change(sgd), rule)

    return plant


def with_momentum(sgd: SGD) -> str | None:
    """For faults that the buffer shows."""
    return None if sgd.momentum else "its optimizer has no momentum"


def plain(sgd: SGD) -> str | None:
    """For faults that add a term which must not be there yet."""
    if sgd.dampening or sgd.nesterov or sgd.weight_decay:
        return with_momentum(sgd) or "its optimizer has dampening, nesterov's step or a weight decay already"
    return with_momentum(sgd)


def with_lookahead(sgd: SGD) -> str | None:
    """For a step that does not look ahead any more."""
    return None if sgd.nesterov else "its optimizer does not look ahead (nesterov)"


def decaying(sgd: SGD) -> str | None:
    """For a decay that is left out, or moved."""
    return with_momentum(sgd) or (None if sgd.weight_decay else "its optimizer has no weight decay")
