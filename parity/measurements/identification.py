"""How often `parity identify` is right: on runs whose rule and constants were drawn, in both precisions.

A rule is right where the rule that was drawn is among the members of the class that is named, every tensor's decay and
every frozen tensor included. A part of it that the run does not show (an epsilon far below every root, a bound that no
gradient reaches) may be missing, if the drawn rule without it gives the recorded parameters too: that is tried, step by
step, by the benchmark's own optimizer; or if what was found instead gives them, its other constants being what makes up
for the part. Members are told apart in the terms that a run can show: averaged momentum and
dampening on every step are torch's form under another learning rate.

A constant is precise where it is within the bound of what was drawn. No recorded number may hold it to that bound: that
is so where its standard error is as large as the bound, to within SIGMAS of which it must then be right; and where it
makes up for a part that the run does not show. Both are counted, as "held by no run", and the bar is asked of the rest.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from parity.identify import Identification, Member, identify
from parity.measurements.optimizers import Optimizer, Truth
from parity.measurements.part import Bench, Conclusion, Part, Trial
from parity.measurements.recorded import KnownRun, draw_run

__all__ = ["PARTS"]

COUNT = 500
SIGMAS = 5
"""Standard errors that an imprecise constant may be off by: the run does not hold more of it, and that is told."""

ULPS = 16
"""A rule without one of its parts still explains a run if it gives every parameter to so many units in the last place
of the largest of its tensor: a few for the parameter, a few for what has gathered in a buffer."""

NEAREST = 2
"""... and with constants that were fitted to the run, to so many: a rounding of the parameter, a few of the update."""


def _measure(dtype: str, bench: Bench, number: int) -> Trial:
    run = draw_run(number, dtype, bench.dataset)
    begin = time.perf_counter()
    found = identify(run.parameters, run.gradients)
    seconds = time.perf_counter() - begin
    judged = _judged(run, found, dtype)
    return {
        "problem": run.problem,
        "drawn": _drawn(run),
        "found": [member.name for member in found.members] or ["unknown"],
        "schedule": [run.schedule, found.members[0].schedule if found.members else "unknown"],
        "seconds": round(seconds, 2),
        **judged,
    }


def _drawn(run: KnownRun) -> dict[str, Any]:
    truth = run.truth
    shown = {
        name: getattr(truth, name)
        for name in ("family", "form", "decay", "clip", "nesterov", "maximize", "centered", "every", "summed")
    }
    plain = {name: value for name, value in shown.items() if value != "none" and value is not False}
    return plain | {name: round(value, 12) for name, value in truth.constants.items()}


def _judged(run: KnownRun, found: Identification, dtype: str) -> dict[str, Any]:
    """Whether the rule is right, which parts are not visible, and how far its constants are off."""
    truth = run.truth
    if found.every != truth.every or set(found.frozen) != set(truth.frozen):
        return {"right": False, "why": f"every {found.every}, frozen {list(found.frozen)}"}
    reasons = []
    for member in found.members:
        missing = _missing(member, truth)
        if missing is None:
            reasons.append("another form")
        elif any(not _explains(_less(truth, part), run.rates, run, dtype) for part in missing) and not (
            missing and _made_up_for(member, missing, run, dtype)
        ):
            reasons.append(f"without {', '.join(missing)}, which shows")
        elif wrong := _decay_faults(member, run):
            reasons.append(wrong)
        else:
            errors = _constant_errors(member, run)
            within = {key: value for key, value in errors.items() if key not in _BY_SIGNS or truth.family != "lion"}
            worst = max(within, key=within.__getitem__, default="")
            return {
                "right": True,
                "invisible": missing,
                "worst": within.get(worst, 0.0),
                "worst_constant": worst,
                "worst_told": _told(member, worst),
                "makes_up": bool(missing) and _made_up_for(member, missing, run, dtype),
                "signs": all(_inside(member, truth, name) for name in _BY_SIGNS) if truth.family == "lion" else None,
            }
    return {"right": False, "why": "; ".join(reasons) or "unknown"}


def _told(member: Member, constant: str) -> float | None:
    """The standard error that the identification gives, relative."""
    error = member.errors.get(constant)
    return abs(error / member.constants[constant]) if error is not None else None


_BY_SIGNS = ("b1", "b2")


def _inside(member: Member, truth: Truth, name: str) -> bool:
    """Whether Lion's rate is in the interval that the signs leave, and as much again on either side."""
    error = member.errors[name]
    return error is not None and abs(member.constants[name] - truth[name]) <= 2 * error


def _missing(member: Member, truth: Truth) -> list[str] | None:
    """Parts of the drawn rule that the member is without; None if it is another form, or has parts beyond it."""
    form = member.form
    buffer = {"averaged": "torch", "scaled": "torch"}.get(truth.form, truth.form)
    scaling = {"sgd": "none", "rmsprop": "rms"}.get(truth.family, truth.family)
    dampened = truth.form == "torch" and truth["dampening"] > 0
    exact = {
        "scaling": scaling,
        "buffer": buffer,
        "nesterov": truth.nesterov,
        "centered": truth.centered,
        "ascent": truth.maximize,
        "dampened": dampened,
    }
    if any(form[name] != value for name, value in exact.items()):
        return None
    drawn = {
        "decay": truth.decay,
        "clip": truth.clip,
        "eps": "eps" in truth.constants,
        "eps_root": "eps_root" in truth.constants,
        "initial_accumulator": "initial_accumulator" in truth.constants,
    }
    has = {
        "decay": form["decay"],
        "clip": "norm" if form["clip"] == "sum" and truth.summed else form["clip"],
        "eps": form["epsilon"] in ("outside", "both"),
        "eps_root": form["epsilon"] in ("inside", "both"),
        "initial_accumulator": form["initial"],
    }
    if truth.family == "adagrad" and drawn["eps_root"]:  # known only by its sum with the initial accumulator
        drawn["eps_root"] = drawn["initial_accumulator"] = False
        has["eps_root"] = has["initial_accumulator"] = False
    absent = [name for name in drawn if has[name] in ("none", False) and drawn[name] not in ("none", False)]
    return None if any(has[name] != drawn[name] for name in drawn if name not in absent) else absent


def _less(truth: Truth, part: str) -> Truth:
    if part == "decay":
        return replace(truth, decay="none")
    if part == "clip":
        return replace(truth, clip="none")
    return replace(truth, constants={name: value for name, value in truth.constants.items() if name != part})


def _made_up_for(member: Member, missing: Sequence[str], run: KnownRun, dtype: str) -> bool:
    """Whether the member's own constants, on a schedule, explain the run without parts of the drawn rule."""
    truth = run.truth
    expected = _expected(truth)
    scales = {name: member.constants[name] / value for name, value in expected.items() if name in member.constants}
    if {"eps_root", "initial_accumulator"} <= expected.keys():  # of which a member has either
        floor = next(iter(scales.keys() & {"eps_root", "initial_accumulator"}))
        scales |= dict.fromkeys(("eps_root", "initial_accumulator"), scales[floor])
    constants = {name: value * scales.get(name, 1.0) for name, value in truth.constants.items()}
    fitted = replace(truth, constants=constants)
    for part in missing:
        fitted = _less(fitted, part)
    rates = np.array(member.lr) / _rate_factor(truth)
    return member.schedule != "free" and _explains(fitted, rates.tolist(), run, dtype, ulps=NEAREST)


def _explains(truth: Truth, rates: Sequence[float], run: KnownRun, dtype: str, *, ulps: float = ULPS) -> bool:
    """Whether a rule gives every recorded state from the one before it."""
    optimizer = Optimizer(truth, lambda update: float(rates[update]))
    eps = float(np.finfo(dtype).eps)
    for before, after, step in zip(run.parameters, run.parameters[1:], run.gradients, strict=False):
        for name, value in optimizer.step(before, step).items():
            size = np.abs(after[name]).max(initial=0.0)
            if np.abs(value.astype(np.float64) - after[name]).max(initial=0.0) > ulps * eps * size:
                return False
    return True


def _decay_faults(member: Member, run: KnownRun) -> str:
    """Tensors that are said to decay and do not, or the other way round; the undecided are neither."""
    truth = run.truth
    if member.form["decay"] == "none":
        return ""
    wrong = [
        name
        for name in run.parameters[0]
        if name not in truth.frozen
        and name not in member.undecided
        and (name in member.decays) != (name not in truth.undecayed)
    ]
    return f"decay of {', '.join(wrong)}" if wrong else ""


def _constant_errors(member: Member, run: KnownRun) -> dict[str, float]:
    """Relative errors of all constants, and of the learning rates relative to the largest."""
    truth = run.truth
    expected = _expected(truth)
    rates = np.array(run.rates) * _rate_factor(truth)
    if "max_norm" in expected and member.errors.get("max_norm", 0.0) is None:
        # Every step is clipped: a multiple of the bound is the same rule with other constants.
        factor = member.constants["max_norm"] / expected["max_norm"]
        expected = {name: value * factor ** _POWERS.get(name, 0) for name, value in expected.items()}
        if truth.decay == "coupled":
            expected["weight_decay"] *= factor
        if truth.decay == "decoupled" and truth.family == "sgd":
            expected["weight_decay"] *= factor
        rates = rates / factor if truth.family == "sgd" else rates
    errors = {
        name: abs(member.constants[name] / value - 1) for name, value in expected.items() if name in member.constants
    }
    known = np.array([error is not None for error in member.lr_errors])
    off = np.abs(np.array(member.lr) - rates[: len(member.lr)])[known]
    return errors | {"lr": float(off.max(initial=0.0) / np.abs(rates).max())}


_POWERS = {"eps": 1, "eps_root": 2, "initial_accumulator": 2, "max_norm": 1, "clip_value": 1}
"""How constants grow with the gradients."""


def _expected(truth: Truth) -> Mapping[str, float]:
    """The constants in the terms of means of gradients."""
    k = truth.every if truth.summed else 1
    expected = {name: value / k ** _POWERS.get(name, 0) for name, value in truth.constants.items()}
    if truth.form in ("scaled", "averaged", "debiased"):
        expected.pop("dampening", None)
    if truth.decay == "coupled":
        expected["weight_decay"] /= k
    if truth.decay == "decoupled":
        expected["weight_decay"] /= _rate_factor(truth)
    if truth.family == "adagrad" and "eps_root" in expected:
        total = expected.pop("eps_root") + expected.pop("initial_accumulator", 0.0)
        expected |= {"eps_root": total, "initial_accumulator": total}
    return expected


def _rate_factor(truth: Truth) -> float:
    """What the drawn learning rate is multiplied by in torch's form."""
    factor = {"averaged": 1 - truth["momentum"], "scaled": 1 - truth["dampening"]}.get(truth.form, 1.0)
    return factor * (truth.every if truth.summed and truth.family == "sgd" else 1)


def _conclude(share: float, bound: float, trials: Sequence[Trial]) -> Conclusion:
    right = [trial for trial in trials if trial["right"]]
    precise = [trial for trial in right if trial["worst"] <= bound]
    imprecise = [trial for trial in right if trial["worst"] > bound]
    unheld = [trial for trial in imprecise if trial["makes_up"] or _as_told(trial, bound)]
    signs = [trial["signs"] for trial in right if trial["signs"] is not None]
    summary = {
        "traces": len(trials),
        "rule_right": len(right),
        "share_right": len(right) / len(trials),
        "constants_within_bound": len(precise),
        "bound": bound,
        "share_precise": len(precise) / max(len(right), 1),
        "lion_intervals_right": f"{sum(signs)} of {len(signs)}",
        "schedules_named_right": sum(trial["schedule"][0] == trial["schedule"][1] for trial in trials),
        "with_something_invisible": sum(bool(trial["invisible"]) for trial in right),
        "classes_of_several": sum(len(trial["found"]) > 1 for trial in trials),
        "median_seconds": float(np.median([trial["seconds"] for trial in trials])),
        "largest_seconds": max(trial["seconds"] for trial in trials),
        "missed": [trial["number"] for trial in trials if not trial["right"]],
        "imprecise": [trial["number"] for trial in imprecise],
        "held_by_no_run": [trial["number"] for trial in unheld],
        "share_precise_of_what_is_held": len(precise) / max(len(right) - len(unheld), 1),
    }
    met = len(right) >= share * len(trials) and len(precise) >= share * (len(right) - len(unheld))
    return Conclusion(met=met, summary=summary)


def _as_told(trial: Trial, bound: float) -> bool:
    """Whether the run does not hold the constant to the bound, by its standard error, and it is right to that error."""
    told = trial["worst_told"]
    return told is not None and SIGMAS * told > bound and trial["worst"] <= SIGMAS * told


def _part(dtype: str, share: float, bound: float) -> Part:
    return Part(
        name=f"identify-{dtype}",
        bar=f"{dtype}: the rule right in {100 * share:.0f} % of random traces, constants to {bound:.0e} relative",
        count=COUNT,
        quick=range(1, 9),
        reads=(),
        measure=lambda bench, number: _measure(dtype, bench, number),
        conclude=lambda trials: _conclude(share, bound, trials),
    )


PARTS: tuple[Part, ...] = (_part("float64", 1.0, 1e-6), _part("float32", 0.95, 1e-3))
