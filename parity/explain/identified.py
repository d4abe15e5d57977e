"""What an optimizer does, where it is no variant of the rule that is meant: identified from its own steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from parity.compare.formula import EPS
from parity.contract import InputError, StepTrace, Tensors
from parity.explain.cause import Cause, Unknown
from parity.explain.fit import Deviation
from parity.identify import Member, identify
from parity.oracle.layers import Array

__all__ = ["described", "identified_rule", "other_rule"]


def identified_rule(traces: Sequence[StepTrace]) -> Member | None:
    """The rule by which consecutive steps' gradients become their updates; None where no rule known here does.

    Of several that explain every step the first: they cannot be told apart here, or are the same in other words.
    """
    if not traces:
        return None
    parameters = [traces[0].weights, *(trace.parameters for trace in traces)]
    try:
        found = identify([_some(each) for each in parameters], [_some(trace.gradients) for trace in traces])
    except (
        InputError,
        ImportError,
    ):  # too few steps, or elements, to tell; or no scipy, where only traces are compared
        return None
    return found.members[0] if found.members else None


FEW = 400


def _some(tensors: Tensors) -> dict[str, Array]:
    """As many elements of each tensor as tell a rule, spread over it: a rule takes each element alike."""
    flat = {name: np.asarray(value, np.float64).ravel() for name, value in tensors.items()}
    return {name: value[:: max(1, value.size // FEW)] for name, value in flat.items()}


def described(rule: Member) -> str:
    """The rule and its constants in one clause: "AdamW (lr 0.001, b1 0.9, ...)"."""
    constants = {name.removeprefix("schedule."): value for name, value in rule.constants.items()}
    listed = ", ".join(f"{name} {value:.6g}" for name, value in sorted(constants.items()))
    return f"{rule.name} ({listed})" if listed else rule.name


def other_rule(unknown: Unknown, traces: Sequence[StepTrace], meant: str) -> Cause | Unknown:
    """The cause of an optimizer of another kind; of SGD with buffers that nothing explains it is still unknown."""
    rule = identified_rule(traces)
    if rule is None:
        return unknown
    if rule.name.startswith("SGD"):
        return replace(unknown, best=f"its updates alone are those of {described(rule)}", residual=unknown.difference)
    key = rule.name.partition(",")[0].lower().replace(" ", "-")
    deviation = Deviation(side=unknown.side, step=unknown.step, place=unknown.place, difference=unknown.difference)
    sentence = f"updates by {described(rule)}, where {meant} is meant"
    return deviation.cause(key=key, sentence=sentence, residual=rule.residual * EPS)
