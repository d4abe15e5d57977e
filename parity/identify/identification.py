"""What was identified, and `identify` itself: the whole way from a recorded run to an equation with constants."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from parity.contract import InputError
from parity.identify.accumulation import accumulated, steps_to_an_update
from parity.identify.advice import advice, notes
from parity.identify.constructors import Made
from parity.identify.equation import equation
from parity.identify.explore import RULES
from parity.identify.fit import UNSEEN
from parity.identify.optax_code import optax_code
from parity.identify.rule import DECAY, FAMILIES
from parity.identify.run import RecordedRun, recorded_run
from parity.identify.search import Found, search
from parity.identify.torch_code import torch_code, torch_steps
from parity.progress import Progress, tell

__all__ = ["FORMAT", "Identification", "Member", "identify"]

FORMAT = "parity.identification/1"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One rule that explains the run.

    Args:
        name: in the field's terms.
        form: the fields of `parity.identify.rule.Rule`.
        equation: one step, line by line.
        constants: by name, the schedule's as "schedule.lr" and so on.
        errors: one standard error each; None where the run says nothing of a constant.
        decays: the tensors that decay; where they do so differently, with their decays.
        undecided: tensors of which the run does not show whether they decay.
        schedule: name of the learning rate's schedule, "free" where no schedule fits.
        lr: one learning rate for each update; one standard error each in `lr_errors`, None where it is not known.
        residual: the largest root mean square of any tensor in any step, in units of rounding.
        residual_share: the same as a share of that tensor's parameters.
        torch: one line that makes `optimizer` in torch from a dictionary `params` of all tensors, and `scheduler` where
            lr changes; or why there is none.
        torch_steps: what a step does with the gradients in `p.grad`, line by line.
        optax: the transformation in optax, or why there is none.
    """

    name: str
    form: Mapping[str, object]
    equation: tuple[str, ...]
    constants: Mapping[str, float]
    errors: Mapping[str, float | None]
    decays: Mapping[str, float]
    undecided: tuple[str, ...]
    schedule: str
    schedule_constants: Mapping[str, float | tuple[int, ...]]
    lr: tuple[float, ...]
    lr_errors: tuple[float | None, ...]
    residual: float
    residual_share: float
    torch: str
    torch_steps: tuple[str, ...]
    optax: str


@dataclass(frozen=True, kw_only=True)
class Identification:
    """What a run shows of its update rule.

    Args:
        steps: recorded.
        dtype: that the run was computed in.
        tensors: how many; `frozen` are those that have gradients and never move.
        every: steps to an update; above 1 the members' gradients are means of so many.
        members: rules that explain every step to rounding, and take equally many constants: the run cannot tell them
            apart. Empty if none does: the rule is unknown.
        nearest: where it is unknown, the rule that leaves least for the constants it takes; it is not an answer.
        nearest_place: where that leaves most: tensor and update.
        tried: where it is unknown, the families that were fitted, the nearest first, with the residual of each.
        notes: what holds for all members, and forms that are the same rule under other constants.
        advice: what to record to tell more.
    """

    steps: int
    dtype: str
    tensors: int
    frozen: tuple[str, ...]
    every: int
    members: tuple[Member, ...]
    nearest: Member | None
    nearest_place: tuple[str, int] | None
    tried: Mapping[str, float]
    notes: tuple[str, ...]
    advice: tuple[str, ...]

    @property
    def known(self) -> bool:
        """Whether any rule explains the run."""
        return bool(self.members)

    @property
    def rule(self) -> str:
        """The rule's name, of a class the first's; "unknown" if none explains the run."""
        return self.members[0].name if self.members else "unknown"

    def to_json(self) -> str:
        """A JSON object with a `format` key."""
        return json.dumps({"format": FORMAT, "rule": self.rule, **asdict(self)}, indent=1, allow_nan=False) + "\n"


def identify(
    parameters: Sequence[Mapping[str, ArrayLike]],
    gradients: Sequence[Mapping[str, ArrayLike | None]],
    *,
    dtype: str | None = None,
    steps: Sequence[int] | None = None,
) -> Identification:
    """Recover the update rule and its constants from a recorded run alone.

    Args:
        parameters: (steps + 1) mappings of name -> floating array: before the first step and after each. The run's
            first step is the recording's first: an optimizer's buffers are empty before it.
        gradients: (steps) mappings likewise, the gradients that each step was given, before any clipping; None or a
            missing name is no gradient.
        dtype: that the run was computed in, "float32" or "float64"; None for the parameters' own.
        steps: numbers of the steps, to be checked: 0, 1, 2, ...

    Raises:
        InputError: nothing can be identified from it: too short, not consecutive, without gradients, with NaN,
            ill-shaped; the line says which tensor and step.
    """
    run = recorded_run(parameters, gradients, dtype=dtype, steps=steps)
    every = steps_to_an_update(run)
    used = accumulated(run, every)
    moving, frozen = _moving(used)
    _require_elements(used)
    found, nearest = search(used, moving)
    tell(Progress(what=RULES, done=1, total=1, unit="rules"))
    members = tuple(_member(each, used) for each in found)
    return Identification(
        steps=run.steps,
        dtype="float32" if run.eps > np.finfo(np.float64).eps else "float64",
        tensors=len(run.names),
        frozen=frozen,
        every=every,
        members=members,
        nearest=_member(nearest[0], used) if nearest else None,
        nearest_place=nearest[0].worst if nearest else None,
        tried={FAMILIES[each.rule.scaling]: each.level for each in nearest},
        notes=notes(found, used),
        advice=advice(found, used),
    )


def _moving(run: RecordedRun) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tensors that any step moves, and those that none does although they have gradients."""
    moves = np.any(np.diff(run.parameters, axis=0) != 0, axis=0)
    gradients = np.any(run.gradients != 0, axis=0)
    moving = [bool(moves[run.tensor == number].any()) for number in range(len(run.names))]
    learning = [bool(gradients[run.tensor == number].any()) for number in range(len(run.names))]
    frozen = (name for name, moves, learns in zip(run.names, moving, learning, strict=True) if learns and not moves)
    return tuple(name for name, moves in zip(run.names, moving, strict=True) if moves), tuple(frozen)


MIN_ELEMENTS = 4


def _require_elements(run: RecordedRun) -> None:
    """A learning rate of its own at every step explains anything that one number does."""
    count = int((np.diff(run.parameters, axis=0) != 0).any(axis=0).sum())
    if count < MIN_ELEMENTS:
        problem = "too few to tell a rule from a learning rate of its own at every step"
        raise InputError("parameters", f"{count} elements that move", problem, f"record {MIN_ELEMENTS} at least")


def _member(found: Found, run: RecordedRun) -> Member:
    rule, fit, schedule = found.rule, found.fit, found.schedule
    names = fit.observed.run.names
    constants = {name: float(value) for name, value in fit.constants.items() if name != DECAY}
    errors = {
        name: _error(float(np.max(value)), constants[name], run.eps)
        for name, value in fit.errors.items()
        if name != DECAY
    }
    if found.fit.bound_is_free(run):
        errors["max_norm"] = None  # every step is clipped: it is known only together with the constants it scales
    decays, undecided = _decays(found, names)
    if decays:
        constants[DECAY] = next(iter(decays.values()))
        error = float(np.max(np.asarray(fit.errors.get(DECAY, np.inf))))
        errors[DECAY] = _error(error, constants[DECAY], run.eps)
    constants |= {f"schedule.{name}": value for name, value in schedule.constants.items() if isinstance(value, float)}
    own = np.hypot(found.lr_error, run.eps * np.abs(found.lr))
    lr_error = np.where(np.isfinite(own), np.hypot(own, found.lr_pull), np.inf)
    if schedule.name == "constant":
        told = 1 / np.maximum(own, 1e-300) ** 2
        # Each step tells of the rate by itself; what the constants' errors make of it is the same in all.
        precise = np.hypot(1 / np.sqrt(np.sum(told)), np.sum(told * found.lr_pull) / np.sum(told))
        errors["schedule.lr"] = _error(float(precise), schedule.rates[0], run.eps)
    text, made = equation(rule, decays, names), Made(found, run)
    return Member(
        name=rule.name,
        form=asdict(rule),
        equation=text,
        constants=constants,
        errors=errors,
        decays=decays,
        undecided=undecided,
        schedule=schedule.name,
        schedule_constants=schedule.constants,
        lr=tuple(map(float, found.lr)),
        lr_errors=tuple(float(value) if np.isfinite(value) else None for value in lr_error),
        residual=found.level,
        residual_share=found.share,
        torch=torch_code(made),
        torch_steps=torch_steps(made),
        optax=optax_code(made),
    )


def _error(error: float, value: float, eps: float) -> float | None:
    """With the rounding of the constant itself, which a run's dtype stores."""
    return float(np.hypot(error, eps * abs(value))) if error < UNSEEN else None


def _decays(found: Found, names: Sequence[str]) -> tuple[dict[str, float], tuple[str, ...]]:
    if found.rule.decay == "none":
        return {}, ()
    values = np.broadcast_to(np.asarray(found.fit.constants[DECAY]), len(names))
    unsure = found.decay.undecided
    decays = {name: float(value) for name, value in zip(names, values, strict=True) if value}
    return decays, tuple(name for name, undecided in zip(names, unsure, strict=True) if undecided)
