"""What an optimizer does, where it is no variant of the rule that is meant: identified from its own steps."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

import numpy as np

from parity.compare.formula import EPS
from parity.contract import InputError, StepTrace, Tensors
from parity.explain.cause import Cause, Unknown
from parity.explain.fit import Deviation
from parity.identify import Identification, Member, identify
from parity.identify.run import RecordedRun, recorded_run
from parity.oracle.layers import Array

__all__ = ["described", "identified", "other_rule", "recorded"]


def identified(traces: Sequence[StepTrace]) -> Identification | None:
    """How consecutive steps' gradients become their updates; None where no rule known here does it.

    Of several rules that explain every step the first is meant: they cannot be told apart here, or are the same in
    other words.
    """
    if not traces:
        return None
    try:
        found = identify(*_tensors(traces))
    except (
        InputError,
        ImportError,
    ):  # too few steps, or elements, to tell; or no scipy, where only traces are compared
        return None
    return found if found.members else None


def recorded(traces: Sequence[StepTrace]) -> RecordedRun | None:
    """What `identified` reads of them; None where they are too few."""
    try:
        return recorded_run(*_tensors(traces)) if traces else None
    except InputError:
        return None


def _tensors(traces: Sequence[StepTrace]) -> tuple[list[dict[str, Array]], list[dict[str, Array]]]:
    """Parameters before the first step and after each, and gradients; of the tensors that are trained."""
    trained = {name for trace in traces for name in trace.gradients}
    states = [_some(each, trained) for each in (traces[0].weights, *(trace.parameters for trace in traces))]
    return states, [_some(trace.gradients, trained) for trace in traces]


FEW = 400


def _some(tensors: Tensors, names: Set[str]) -> dict[str, Array]:
    """As many elements of each tensor as tell a rule, spread over it: a rule takes each element alike."""
    flat = {name: np.asarray(value, np.float64).ravel() for name, value in tensors.items() if name in names}
    return {name: value[:: max(1, value.size // FEW)] for name, value in flat.items()}


def described(rule: Member) -> str:
    """The rule and its constants in one clause: "AdamW (lr 0.001, b1 0.9, ...)"."""
    constants = {name.removeprefix("schedule."): value for name, value in rule.constants.items()}
    listed = ", ".join(f"{name} {value:.6g}" for name, value in sorted(constants.items()))
    return f"{rule.name} ({listed})" if listed else rule.name


def other_rule(unknown: Unknown, traces: Sequence[StepTrace], meant: str) -> Cause | Unknown:
    """The cause of an optimizer of another kind; of SGD with buffers that nothing explains it is still unknown."""
    found = identified(traces)
    if found is None:
        return unknown
    rule = found.members[0]
    if rule.name.startswith("SGD"):
        return replace(unknown, best=f"its updates alone are those of {described(rule)}", residual=unknown.difference)
    key = rule.name.partition(",")[0].lower().replace(" ", "-")
    deviation = Deviation(side=unknown.side, step=unknown.step, place=unknown.place, difference=unknown.difference)
    sentence = f"updates by {described(rule)}, where {meant} is meant"
    return deviation.cause(key=key, sentence=sentence, residual=rule.residual * EPS)
