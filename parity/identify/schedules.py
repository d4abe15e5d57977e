"""Name a sequence of learning rates: which schedule has these values at steps 0, 1, 2, ... ?

    constant      lr
    step          lr gamma^(t // size)
    multi-step    lr gamma^(milestones <= t)
    exponential   lr gamma^t
    linear        from lr start to lr end over so many steps, then constant; "warm-up" where it rises
    cosine        end + (lr - end) (1 + cos(pi t / period)) / 2
    polynomial    lr (1 - t / total)^power, then 0
    one-cycle     a cosine up from initial to lr over `rise` steps, a cosine down to final at the last of `total`
    inverse time  lr / (1 + decay t)

Source: https://docs.pytorch.org/docs/stable/optim.html, the formulas of torch.optim.lr_scheduler. A warm-up may be
followed by any of the others. The first that fits to rounding is taken, in the order of how many constants they have;
a schedule that was computed in float32 (as optax's are where they divide a step count) fits to float32's rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from parity.identify.derivatives import jacobian
from parity.identify.run import Array

__all__ = ["Schedule", "name_schedule"]

SIGMAS = 8
"""How many of its errors a rate may lie from its schedule; the errors are those of one unit of rounding."""
ULPS = 64
"""Roundings of a schedule's own arithmetic, in eps of float64; torch's recursive forms gather one or two a step."""
FLOAT32_ULPS = 8

ROUGH = 1e-4
"""A schedule that leaves more than this share of the largest rate at a minimum, roughly found, is not looked at
further; float32's rounding leaves a thousandth of that."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A schedule by its name and constants.

    Args:
        name: as above; "free" where none fits.
        constants: by name.
        float32: whether it fits only to float32's rounding.
        rates: (steps,) what it says; the measured rates for "free".
    """

    name: str
    constants: Mapping[str, float | tuple[int, ...]]
    float32: bool = False
    rates: Array = field(repr=False)

    @property
    def complexity(self) -> int:
        """Constants that it takes."""
        if self.name == "free":
            return len(self.rates)
        return sum(len(value) if isinstance(value, tuple) else 1 for value in self.constants.values())


@dataclass(frozen=True, eq=False)
class _Measured:
    """Rates with what they may be off by, and which of them are known."""

    rates: Array
    allowed: Array
    known: Array

    def fits(self, values: Array) -> bool:
        off = np.abs(values - self.rates) <= self.allowed
        return bool(np.all(off | (self.known == 0)))

    @property
    def steps(self) -> Array:
        return np.arange(len(self.rates), dtype=np.float64)


_Constants = dict[str, float | tuple[int, ...]]
_Candidate = tuple[str, _Constants, Array]


def name_schedule(rates: Array, errors: Array, *, eps: float) -> Schedule:
    """The simplest schedule with these rates.

    Args:
        rates: (steps,).
        errors: (steps,) of one unit of rounding each; infinite where a rate is not known.
        eps: of the dtype that the run was computed in: rates are rounded to it.
    """
    known = np.isfinite(errors)
    if not known.any():
        return Schedule(name="free", constants={}, rates=rates)
    size = float(np.abs(rates[known]).max(initial=0.0))
    safe = np.where(known, errors, 0.0)
    exact = SIGMAS * safe + (ULPS * np.finfo(np.float64).eps + (eps if eps > 1e-10 else 0)) * size
    single = SIGMAS * safe + FLOAT32_ULPS * float(np.finfo(np.float32).eps) * size
    for allowed, float32 in ((exact, False), (single, True)):
        measured = _Measured(rates, allowed, known.astype(np.float64))
        if found := _simplest(measured):
            name, constants, values = found
            return Schedule(name=name, constants=constants, float32=float32, rates=values)
        if eps > 1e-10:
            break
    return Schedule(name="free", constants={}, rates=rates)


def _simplest(measured: _Measured) -> _Candidate | None:
    """The first that fits."""
    for plain in _plain(measured):
        if measured.fits(plain[2]):
            return plain
        if plain[0] == "constant" and _is_rough(measured):
            return None
    for warm in _warmed_up(measured):
        if measured.fits(warm[2]):
            return warm
    return None


def _is_rough(measured: _Measured) -> bool:
    """Whether the rates change as noise does: from one step to the next by less than the change changes.

    Along a smooth curve, or stairs, the typical second difference is smaller than the typical first one, or both are
    rounding.
    """
    rates, triples = measured.rates, measured.known[2:] * measured.known[1:-1] * measured.known[:-2] > 0
    if triples.sum() < 6:
        return False
    first, second = np.abs(np.diff(rates))[1:][triples], np.abs(np.diff(rates, 2))[triples]
    allowed = 4 * np.median(measured.allowed[1:-1][triples])
    return bool(np.median(second) > max(allowed, float(np.median(first))))


def _plain(measured: _Measured) -> Iterator[_Candidate]:
    for family in (_constant, _exponential, _inverse_time, _linear, _cosine, _polynomial, _steps, _one_cycle):
        yield from family(measured)


def _points(measured: _Measured) -> tuple[Array, Array, Array]:
    """Step, rate and weight of those that are known."""
    known = measured.known > 0
    return measured.steps[known], measured.rates[known], 1 / np.maximum(measured.allowed[known], 1e-300)


def _constant(measured: _Measured) -> Iterator[_Candidate]:
    _, rates, weights = _points(measured)
    lr = float(np.sum(rates * weights**2) / np.sum(weights**2)) if np.isfinite(np.sum(weights**2)) else float(rates[0])
    yield "constant", {"lr": lr}, np.full(len(measured.rates), lr)


def _refined(
    measured: _Measured, formula: Callable[[Array, Array], Array], start: Sequence[float], minimum: int = 1
) -> tuple[Array, Array] | None:
    """Constants and values of a formula of (steps, constants), by least squares; None with too few rates."""
    from scipy.optimize import least_squares

    t, rates, weights = _points(measured)
    if len(t) < len(start) + minimum or not np.isfinite(start).all():
        return None
    weights = weights / weights.max() / np.abs(rates).max()

    def residual(x: Array) -> Array:
        left = (formula(t, x) - rates) * weights
        return np.where(np.isfinite(left), left, 1e3)

    point = np.asarray(start, np.float64)
    with np.errstate(all="ignore"):
        for tolerance, evaluations in ((1e-4, 15), (1e-15, 80)):
            solved = least_squares(
                residual,
                point,
                jac=partial(jacobian, residual),
                method="lm",
                x_scale="jac",
                ftol=tolerance,
                xtol=1e-15,
                gtol=1e-15,
                max_nfev=evaluations,
            )
            point = solved.x
            if np.sqrt(np.mean(np.square(solved.fun))) > (ROUGH if solved.status > 0 else 1.0):
                return None
        return point, formula(measured.steps, point)


def _named(
    measured: _Measured,
    name: str,
    names: Sequence[str],
    formula: Callable[[Array, Array], Array],
    start: Sequence[float],
) -> Iterator[_Candidate]:
    if found := _refined(measured, formula, start):
        yield name, dict(zip(names, map(float, found[0]), strict=True)), found[1]


def _exponential(measured: _Measured) -> Iterator[_Candidate]:
    t, rates, _ = _points(measured)
    if len(t) > 1 and rates[0] * rates[-1] > 0:
        gamma = (rates[-1] / rates[0]) ** (1 / (t[-1] - t[0]))
        start = (rates[0] / gamma ** t[0], gamma)
        yield from _named(measured, "exponential", ("lr", "gamma"), lambda t, x: x[0] * x[1] ** t, start)


def _inverse_time(measured: _Measured) -> Iterator[_Candidate]:
    t, rates, _ = _points(measured)
    if len(t) > 1 and rates[0] > rates[-1] > 0:
        decay = (rates[0] / rates[-1] - 1) / (t[-1] - t[0])
        yield from _named(
            measured, "inverse time", ("lr", "decay"), lambda t, x: x[0] / (1 + x[1] * t), (rates[0], decay)
        )


def _linear(measured: _Measured) -> Iterator[_Candidate]:
    """A ramp from the first rate, then constant: from the first that no longer moves, or one not known before it."""
    t, rates, _ = _points(measured)
    moving = np.flatnonzero(np.abs(rates - rates[-1]) > measured.allowed[measured.known > 0])
    if not len(moving) or len(t) < 4:
        return
    still, ends = moving[-1], moving[-1] + 1 < len(t) - 1

    def ramp(t: Array, x: Array, length: float) -> Array:
        values: Array = x[0] + (x[1] - x[0]) * np.minimum(t / length, 1.0)
        return values

    for length in np.arange(t[still] + 1, t[still + 1] + 1) if ends else t[-1:]:
        if found := _refined(measured, partial(ramp, length=length), (rates[0], rates[-1])):
            first, last = map(float, found[0])
            name = "warm-up" if abs(last) > abs(first) else "linear"
            constants: _Constants = {"start": first, "end": last}
            yield name, constants | ({"steps": float(length)} if ends else {"steps at least": float(length)}), found[1]


def _cosine(measured: _Measured) -> Iterator[_Candidate]:
    _, rates, _ = _points(measured)
    names = ("lr", "end", "period")

    def cosine(t: Array, x: Array) -> Array:
        values: Array = x[1] + (x[0] - x[1]) * (1 + np.cos(np.pi * t / x[2])) / 2
        return values

    for share in (1.0, 0.7, 1.5, 0.4, 2.5):
        for end in (0.0, rates.min()):
            yield from _named(measured, "cosine", names, cosine, (rates[0], end, share * len(measured.rates)))


def _polynomial(measured: _Measured) -> Iterator[_Candidate]:
    t, rates, _ = _points(measured)
    if not rates[0]:
        return
    names = ("lr", "power", "total")

    def polynomial(t: Array, x: Array, total: float | None = None) -> Array:
        left = 1 - t / (x[2] if total is None else total)
        values: Array = np.where(np.real(left) > 0, x[0] * np.where(np.real(left) > 0, left, 1.0) ** x[1], 0.0)
        return values

    zero = np.flatnonzero(np.abs(rates) <= measured.allowed[measured.known > 0])
    for total in (t[zero[0]],) if len(zero) else (t[-1] + 1, t[-1] + 5, 1.5 * t[-1] + 1, 3 * t[-1]):
        for power in (1.0, 2.0, 0.5):
            if not len(zero):
                yield from _named(measured, "polynomial", names, polynomial, (rates[0], power, total))
            elif found := _refined(measured, partial(polynomial, total=float(total)), (rates[0], power)):
                constants: _Constants = dict(zip(names, [*map(float, found[0]), float(total)], strict=True))
                yield "polynomial", constants, found[1]


def _steps(measured: _Measured) -> Iterator[_Candidate]:
    """Constant pieces, each gamma times the one before; milestones at equal distances are a step schedule."""
    t, rates, _ = _points(measured)
    jumps = np.flatnonzero(np.abs(np.diff(rates)) > 2 * measured.allowed[measured.known > 0][1:]) + 1
    if not 0 < len(jumps) <= len(t) / 3 or not rates.all():
        return
    milestones = t[jumps]
    pieces = np.array([np.mean(piece) for piece in np.split(rates, jumps)])
    if np.any(pieces[1:] / pieces[:-1] <= 0):
        return

    def stairs(t: Array, x: Array) -> Array:
        values: Array = x[0] * x[1] ** np.searchsorted(milestones, t, side="right")
        return values

    if found := _refined(measured, stairs, (pieces[0], pieces[1] / pieces[0])):
        lr, gamma = map(float, found[0])
        even = np.allclose(milestones, milestones[0] * np.arange(1, len(milestones) + 1)) and (
            2 * milestones[-1] > t[-1] or len(milestones) > 1
        )
        size = float(milestones[0])
        if even and milestones[0] * (len(milestones) + 1) > t[-1]:
            yield "step", {"lr": lr, "gamma": gamma, "size": size}, found[1]
        else:
            places = tuple(int(value) for value in milestones)
            yield "multi-step", {"lr": lr, "gamma": gamma, "milestones": places}, found[1]


def _one_cycle(measured: _Measured) -> Iterator[_Candidate]:
    t, rates, _ = _points(measured)
    top = int(np.argmax(np.abs(rates)))
    if not 0 < top < len(t) - 1:
        return
    names = ("initial", "lr", "final", "rise", "total")

    def cycle(t: Array, x: Array) -> Array:
        up = x[1] + (x[0] - x[1]) * (1 + np.cos(np.pi * t / x[3])) / 2
        down = x[2] + (x[1] - x[2]) * (1 + np.cos(np.pi * (t - x[3]) / (x[4] - 1 - x[3]))) / 2
        return np.where(t <= np.real(x[3]), np.asarray(up), np.asarray(down))

    for total in (t[-1] + 1, 1.5 * t[-1], 2.5 * t[-1]):
        for rise in (t[top], t[top] - 0.4, t[top] + 0.4):
            yield from _named(measured, "one-cycle", names, cycle, (rates[0], rates[top], rates[-1] / 2, rise, total))


def _warmed_up(measured: _Measured) -> Iterator[_Candidate]:
    """A straight rise over the first steps, then any other schedule, counted from its end; rates may be missing."""
    t, rates, _ = _points(measured)
    number = int(np.argmax(np.abs(rates)))
    top, before, after = (int(t[min(max(each, 0), len(t) - 1)]) for each in (number, number - 1, number + 1))
    for rise in sorted(range(before, after + 1), key=lambda step: abs(step - top)):
        early = np.flatnonzero(t < rise)
        if len(early) < 2 or len(t) - len(early) <= 6:
            continue
        first, last = early[0], early[-1]
        slope = (rates[last] - rates[first]) / (t[last] - t[first])
        ramp = rates[first] + slope * (measured.steps[:rise] - t[first])
        tail = _Measured(measured.rates[rise:], measured.allowed[rise:], measured.known[rise:])
        for name, constants, values in _plain(tail):
            if tail.fits(values):
                warm: dict[str, float | tuple[int, ...]] = {
                    "warm-up from": float(ramp[0]),
                    "warm-up steps": float(rise),
                }
                # The tail's own steps begin at its end.
                yield f"warm-up, then {name}", warm | constants, np.concatenate([ramp, values])
                break
