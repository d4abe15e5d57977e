"""What an optimizer does, where it is no variant of the rule that is meant: identified from its own steps."""

from __future__ import annotations

from collections.abc import Sequence

from parity.compare.formula import EPS
from parity.contract import InputError, StepTrace
from parity.explain.cause import Cause
from parity.explain.fit import Deviation
from parity.identify import Member, identify

__all__ = ["described", "identified_rule", "other_rule"]


def identified_rule(traces: Sequence[StepTrace]) -> Member | None:
    """The rule by which consecutive steps' gradients become their updates; None where no rule known here does.

    Of several that explain every step the first: they are the same rule under other names, or cannot be told apart here.
    """
    if not traces:
        return None
    try:
        found = identify([traces[0].weights, *(trace.parameters for trace in traces)], [t.gradients for t in traces])
    except InputError:  # too few steps, or elements, to tell
        return None
    return found.members[0] if found.members else None


def described(rule: Member) -> str:
    """The rule and its constants in one clause: "AdamW (lr 0.001, b1 0.9, ...)"."""
    constants = {name.removeprefix("schedule."): value for name, value in rule.constants.items()}
    listed = ", ".join(f"{name} {value:.6g}" for name, value in sorted(constants.items()))
    return f"{rule.name} ({listed})" if listed else rule.name


def other_rule(deviation: Deviation, traces: Sequence[StepTrace], meant: str) -> Cause | None:
    """The cause of an optimizer that is another one."""
    rule = identified_rule(traces)
    if rule is None:
        return None
    key = rule.name.partition(",")[0].lower().replace(" ", "-")
    return Cause(
        key=key,
        side=deviation.side,
        place=deviation.place,
        step=deviation.step,
        sentence=f"updates by {described(rule)}, where {meant} is meant",
        residual=rule.residual * EPS,
        before=deviation.difference,
        keys=(key,),
    )
