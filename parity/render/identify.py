"""An identified update rule as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from parity.identify import Identification, Member

__all__ = ["identification_lines"]

_WIDTH = 80


def identification_lines(found: Identification) -> Iterator[str]:
    """What was recorded, every rule that explains it, and what to record to tell more."""
    tensors = f"{found.tensors} tensors" if found.tensors > 1 else "1 tensor"
    yield f"{found.dtype}, {found.steps:,} steps, {tensors}"
    if found.every > 1:
        yield f"an update every {found.every} steps: gradients are accumulated"
    if found.frozen:
        yield f"frozen, although they have gradients: {', '.join(found.frozen)}"
    if not found.known:
        yield from _unknown(found)
    elif len(found.members) > 1:
        yield f"rule: one of {len(found.members)} that this run cannot tell apart"
    for member in found.members:
        yield f"rule: {member.name}"
        yield from _member(member)
    for title, lines in (("note", found.notes), ("to tell more", found.advice)):
        for line in lines:
            yield from textwrap.wrap(f"{title}: {line}", width=_WIDTH, subsequent_indent="  ")


def _unknown(found: Identification) -> Iterator[str]:
    yield "rule: unknown; no rule that was tried leaves nothing but rounding"
    if found.nearest and found.nearest_place:
        tensor, update = found.nearest_place
        yield f"  nearest, and not an answer: {found.nearest.name}"
        left = f"{found.nearest.residual:.1e} units of rounding, {found.nearest.residual_share:.1e} of the parameters"
        yield f"  it leaves {left}, in {tensor} at update {update:,}"
    tried = [f"{family} (the nearest leaves {residual:.1e})" for family, residual in found.tried.items()]
    line = f"tried: {', '.join([*tried, 'Lion (the updates are no signs)'])}"
    yield from (f"  {each}" for each in textwrap.wrap(line, width=_WIDTH - 2, subsequent_indent="  "))


def _member(member: Member) -> Iterator[str]:
    for line in member.equation:
        yield f"    {line}"
    for name, value in member.constants.items():
        if not name.startswith("schedule."):
            yield f"  {name} = {_number(value, member.errors.get(name))}"
    if member.undecided:
        yield f"  undecided whether they decay: {', '.join(member.undecided)}"
    if len(set(member.decays.values())) > 1:
        yield f"  weight_decay by tensor: {', '.join(f'{name} {value:.6g}' for name, value in member.decays.items())}"
    yield from _schedule(member)
    left = f"{member.residual:.2f} units of rounding at most, {member.residual_share:.0e} of the parameters"
    yield f"  residual: {left}, root mean square of a tensor in a step"
    yield f"  torch: {member.torch}"
    if member.torch_steps and member.torch_steps != ("optimizer.step()",):
        yield "    at each step, the gradients in p.grad:"
        yield from (f"      {line}" for line in member.torch_steps)
    yield f"  optax: {member.optax}"


def _schedule(member: Member) -> Iterator[str]:
    if member.schedule == "constant":
        yield f"  lr = {_number(member.constants['schedule.lr'], member.errors.get('schedule.lr'))}"
        return
    constants = ", ".join(f"{name} {_constant(value)}" for name, value in member.schedule_constants.items())
    name = (
        "follows no schedule that was tried"
        if member.schedule == "free"
        else f"schedule: {member.schedule}, {constants}"
    )
    yield f"  lr {name}"
    rates = member.lr
    shown = [f"{rate:.6g}" for rate in (rates if len(rates) <= 8 else (*rates[:4], *rates[-3:]))]
    yield f"  lr by update: {', '.join([*shown[:4], '...', *shown[4:]] if len(rates) > 8 else shown)}"


def _constant(value: float | tuple[int, ...]) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "/".join(map(str, value))


def _number(value: float, error: float | None) -> str:
    """A constant with its standard error, and the digits that it supports."""
    if error is None:
        return f"{value:.6g} (undetermined)"
    digits = 12 if error == 0 or abs(value) / error > 1e12 else 8 if abs(value) / error > 1e8 else 6
    return f"{value:.{digits}g} +- {error:.1e}"
