"""Schedules on the command line: `--schedule step:step_size=10,gamma=0.5 --per epoch`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import Field, fields, replace
from typing import Any

from parity.contract import InputError, LinearLR, Schedule, SequentialLR, nearest_name
from parity.contract.schedule import SCHEDULES
from parity.data import Loader
from parity.settings import Settings

__all__ = ["arguments_of", "kinds", "parse_schedule", "planned_steps", "scheduled"]

_NOT_WRITTEN = ("every", "taken")  # --per says the one, and a run begins at its beginning


def parse_schedule(text: str) -> Schedule:
    """The schedule of that text: KIND:NAME=VALUE,...; with + after a linear one, what follows its total_iters.

    Raises:
        InputError: it cannot be read, or a value is out of range.

    >>> parse_schedule("multistep:milestones=30,60,gamma=0.5").milestones
    (30, 60)
    >>> parse_schedule("linear:total_iters=500+cosine:T_max=1000").milestones
    (500,)
    """
    try:
        parts = [_parse_part(part) for part in re.split(r"\+(?=[a-z]+(?::|$))", text)]
        return parts[0] if len(parts) == 1 else _in_turn(parts)
    except InputError as error:  # of an argument, which is no option
        if error.argument == "schedule":
            raise
        problem = f"{error.argument} {error.value}: {error.problem}"
        raise InputError("schedule", text, problem, error.fix) from error


def _in_turn(parts: list[Schedule]) -> Schedule:
    lengths, end = [], 0
    for part in parts[:-1]:
        if not isinstance(part, LinearLR):
            raise InputError("schedule", part.kind, "it has no end, so that nothing can follow", "begin with linear")
        end += part.total_iters
        lengths.append(end)
    return SequentialLR(schedules=tuple(parts), milestones=tuple(lengths))


def _parse_part(text: str) -> Schedule:
    kind, _, rest = text.partition(":")
    if kind not in kinds():
        fix = nearest_name(kind, kinds(), f"give one of: {', '.join(kinds())}")
        raise InputError("schedule", text, f"there is no kind {kind!r}", fix)
    known = arguments_of(kind)
    given = {name: _parse_value(text, known, name, values) for name, values in _assignments(text, rest).items()}
    try:
        return SCHEDULES[kind](**given)
    except TypeError as error:  # an argument without a default is missing
        missing = [name for name in re.findall(r"'(\w+)'", str(error)) if name in known]
        raise InputError("schedule", text, f"{missing[0]} is missing", f"add {missing[0]}=...") from error


def kinds() -> tuple[str, ...]:
    """The kinds that can be written: a sequence is written with +."""
    return tuple(name for name in SCHEDULES if name != "sequence")


def arguments_of(kind: str) -> dict[str, Field[Any]]:
    """The arguments of a kind that can be written, by name."""
    return {field.name: field for field in fields(SCHEDULES[kind]) if field.init and field.name not in _NOT_WRITTEN}


def _assignments(text: str, rest: str) -> dict[str, list[str]]:
    """NAME=VALUE,VALUE,NAME=VALUE as lists of values by name."""
    given: dict[str, list[str]] = {}
    for piece in rest.split(",") if rest else ():
        name, equals, value = piece.rpartition("=")
        if equals and name in given:
            raise InputError("schedule", text, f"{name} is given twice", "give it once")
        if not equals and not given:
            raise InputError("schedule", text, f"{piece!r} is no NAME=VALUE", "write step:step_size=10, for example")
        given.setdefault(name if equals else list(given)[-1], []).append(value)
    return given


def _parse_value(text: str, known: dict[str, Field[Any]], name: str, values: list[str]) -> Any:
    if name not in known:
        fix = nearest_name(name, known, f"give some of: {', '.join(known)}")
        raise InputError("schedule", text, f"it has no argument {name!r}", fix)
    kind = str(known[name].type)
    try:
        if kind.startswith("tuple"):
            return tuple(map(int, values))
        (value,) = values
        return _TYPES[kind](value)
    except (ValueError, KeyError) as error:
        noun = "integers" if kind.startswith("tuple") else f"one {kind}"
        raise InputError("schedule", text, f"{name}={','.join(values)} is not {noun}", "give such a value") from error


_TYPES: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": {"true": True, "false": False}.__getitem__,
}


def planned_steps(settings: Settings, loader: Loader) -> int:
    """The steps of a whole run."""
    total = settings.epochs * loader.steps_per_epoch
    return min(settings.steps or total, total)


def scheduled(settings: Settings, loader: Loader, *, per: str, steps: int) -> Settings:
    """The settings with a schedule that changes per "step" or per "epoch", and lasts for so many steps.

    Raises:
        InputError: it ends before, there is none, or `per` is neither.
    """
    schedule = settings.sgd.schedule
    if per not in ("step", "epoch"):
        raise InputError("per", per, "unknown", nearest_name(per, ("step", "epoch"), "give step or epoch"))
    if schedule is None:
        if per == "epoch":
            raise InputError("per", per, "there is no schedule", "give --schedule too")
        return settings
    every = loader.steps_per_epoch if per == "epoch" else 1
    schedule = replace(schedule, every=every)
    schedule.count(steps - 1)
    return replace(settings, sgd=replace(settings.sgd, schedule=schedule))
