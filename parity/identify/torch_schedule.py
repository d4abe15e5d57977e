"""A sequence of learning rates as one of torch.optim.lr_scheduler, or, where no class has exactly these, one by one.

A scheduler is written down only where its own formula gives the run's rates to rounding: its arguments are whole
numbers where torch wants such, and the fitted constants are as near to them as their errors let one tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np

from parity.identify.run import Array
from parity.identify.schedules import ULPS, Schedule

__all__ = ["torch_schedule"]

_Numbers = Mapping[str, float]
_Written = tuple[float, str, Array]
"""The optimizer's lr, the scheduler, and the rates that both give."""

SINGLE_ULPS = 8
"""Roundings to float32 that a rate of such a run, and so a schedule's constant, may be off by."""


def torch_schedule(schedule: Schedule, *, single: bool) -> tuple[float, str]:
    """The optimizer's lr, and the expression of its scheduler; none for a rate that is constant.

    Args:
        schedule: of the updates.
        single: whether the rates were measured in float32.
    """
    rates = schedule.rates
    if schedule.name == "constant":
        return float(rates[0]), ""
    size = float(np.abs(rates).max(initial=0.0))
    ulps = SINGLE_ULPS * np.finfo(np.float32).eps if single or schedule.float32 else ULPS * np.finfo(np.float64).eps
    for lr, text, values in _written(schedule):
        if lr >= 0 and np.all(np.abs(values - rates) <= ulps * size):
            return lr, text
    shown = ", ".join(map(repr, rates.tolist()))
    return 1.0, f"{_L}LambdaLR(optimizer, lambda t, rates=[{shown}]: rates[min(t, {len(rates) - 1})])"


_L = "torch.optim.lr_scheduler."


def _written(schedule: Schedule) -> list[_Written]:
    """The scheduler of this name, if its constants are in its range."""
    if schedule.name.startswith("warm-up, then "):
        return _warmed_up(schedule)
    family = _FAMILIES.get(schedule.name)
    t = np.arange(len(schedule.rates), dtype=np.float64)
    with np.errstate(all="ignore"):
        return family(_numbers(schedule), t) if family else []


def _numbers(schedule: Schedule) -> dict[str, float]:
    """The constants; milestones are what their family asks for itself."""
    return cast(dict[str, float], dict(schedule.constants))


def _whole(value: float) -> int:
    return max(round(value), 1)


def _exponential(c: _Numbers, t: Array) -> list[_Written]:
    gamma = c["gamma"]
    return [(c["lr"], f"{_L}ExponentialLR(optimizer, gamma={gamma!r})", c["lr"] * gamma**t)]


def _inverse_time(c: _Numbers, t: Array) -> list[_Written]:
    decay = c["decay"]
    return [(c["lr"], f"{_L}LambdaLR(optimizer, lambda t: 1 / (1 + {decay!r} * t))", c["lr"] / (1 + decay * t))]


def _linear(c: _Numbers, t: Array) -> list[_Written]:
    """Factors are shares of the larger rate, which torch wants to be 1 at most, and the first of them above 0."""
    base, steps = max(c["start"], c["end"]), _whole(c.get("steps", c.get("steps at least", 1.0)))
    return _ramp(base, c["start"], c["end"], steps, t)


def _ramp(base: float, start: float, end: float, steps: int, t: Array) -> list[_Written]:
    if not (0 < start <= base and 0 <= end <= base):
        return []
    first, last = start / base, end / base
    text = f"{_L}LinearLR(optimizer, start_factor={first!r}, end_factor={last!r}, total_iters={steps})"
    return [(base, text, base * (first + (last - first) * np.minimum(t / steps, 1)))]


def _cosine(c: _Numbers, t: Array) -> list[_Written]:
    """With a period that is no whole number torch's recursion divides by nearly nothing where it turns."""
    lr, end, share = c["lr"], c["end"], c["end"] / c["lr"]
    whole = _whole(c["period"])

    def values(end: float, period: float) -> Array:
        rates: Array = end + (lr - end) * (1 + np.cos(np.pi * t / period)) / 2
        return rates

    free = f"lambda t: {share!r} + {1 - share!r} * (1 + math.cos(math.pi * t / {c['period']!r})) / 2"
    return [
        (lr, f"{_L}CosineAnnealingLR(optimizer, T_max={whole})", values(0.0, whole)),
        (lr, f"{_L}CosineAnnealingLR(optimizer, T_max={whole}, eta_min={end!r})", values(end, whole)),
        (lr, f"{_L}LambdaLR(optimizer, {free})", values(end, c["period"])),
    ]


def _polynomial(c: _Numbers, t: Array) -> list[_Written]:
    """Behind a total that is no whole number torch's stays where it is, above 0."""
    lr, power, whole = c["lr"], c["power"], _whole(c["total"])

    def values(total: float) -> Array:
        rates: Array = lr * np.maximum(1 - t / total, 0) ** power
        return rates

    free = f"lambda t: max(1 - t / {c['total']!r}, 0) ** {power!r}"
    return [
        (lr, f"{_L}PolynomialLR(optimizer, total_iters={whole}, power={power!r})", values(whole)),
        (lr, f"{_L}LambdaLR(optimizer, {free})", values(c["total"])),
    ]


def _step(c: _Numbers, t: Array) -> list[_Written]:
    size = _whole(c["size"])
    text = f"{_L}StepLR(optimizer, step_size={size}, gamma={c['gamma']!r})"
    return [(c["lr"], text, c["lr"] * c["gamma"] ** (t // size))]


def _multi_step(c: _Numbers, t: Array) -> list[_Written]:
    milestones = list(cast(tuple[int, ...], c["milestones"]))
    text = f"{_L}MultiStepLR(optimizer, milestones={milestones}, gamma={c['gamma']!r})"
    passed = np.searchsorted(milestones, t, side="right").astype(np.float64)
    values: Array = c["lr"] * c["gamma"] ** passed
    return [(c["lr"], text, values)]


def _one_cycle(c: _Numbers, t: Array) -> list[_Written]:
    """Without `cycle_momentum=False` the momentum would cycle as well."""
    total, top = _whole(c["total"]), c["lr"]
    if min(c["initial"], c["final"], c["rise"]) <= 0 or c["rise"] >= total - 1 or len(t) > total:
        return []
    shares = (c["rise"] + 1) / total, top / c["initial"], c["initial"] / c["final"]
    names = ("pct_start", "div_factor", "final_div_factor")
    text = ", ".join(f"{name}={value!r}" for name, value in zip(names, shares, strict=True))
    up = top + (c["initial"] - top) * (1 + np.cos(np.pi * t / c["rise"])) / 2
    down = c["final"] + (top - c["final"]) * (1 + np.cos(np.pi * (t - c["rise"]) / (total - 1 - c["rise"]))) / 2
    scheduler = f"{_L}OneCycleLR(optimizer, {top!r}, total_steps={total}, {text}, cycle_momentum=False)"
    return [(c["initial"], scheduler, np.where(t <= c["rise"], up, down))]


_FAMILIES: Mapping[str, Callable[[_Numbers, Array], list[_Written]]] = {
    "exponential": _exponential,
    "inverse time": _inverse_time,
    "linear": _linear,
    "warm-up": _linear,
    "cosine": _cosine,
    "polynomial": _polynomial,
    "step": _step,
    "multi-step": _multi_step,
    "one-cycle": _one_cycle,
}


def _warmed_up(schedule: Schedule) -> list[_Written]:
    """The rise and what follows it, one scheduler each; the second counts from its own first update."""
    c = _numbers(schedule)
    rise, begin = _whole(c["warm-up steps"]), c["warm-up from"]
    slope = (schedule.rates[rise - 1] - schedule.rates[0]) / (rise - 1)
    tail = np.arange(len(schedule.rates) - rise, dtype=np.float64)
    written = []
    for lr, text, values in _plain(schedule.name.removeprefix("warm-up, then "), c, tail):
        reached = min(begin + slope * rise, lr) if begin + slope * rise < lr * (1 + _NEAR) else np.inf
        for _, ramp, ramped in _ramp(lr, begin, float(reached), rise, np.arange(rise, dtype=np.float64)):
            both = f"{_L}SequentialLR(optimizer, [{ramp}, {text}], milestones=[{rise}])"
            written.append((lr, both, np.concatenate([ramped, values])))
    return written


_NEAR = 1e-9
"""A rise that ends above the rate that follows it by less does so by rounding."""


def _plain(name: str, c: _Numbers, t: Array) -> list[_Written]:
    """Of those that torch can put behind another one: one-cycle writes its own lr into the optimizer."""
    if name == "constant":
        return [(c["lr"], f"{_L}ConstantLR(optimizer, factor=1.0)", np.full(len(t), c["lr"]))]
    return _FAMILIES[name](c, t) if name != "one-cycle" else []
