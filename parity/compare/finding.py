"""Where two sides part, and which of them is off, in one line."""

from __future__ import annotations

import math
from dataclasses import dataclass

from parity.compare.formula import EPS, Rung
from parity.compare.rounding import CAP, Rounding
from parity.compare.stages import Stage

__all__ = ["Blame", "Finding", "formula_finding", "precision_finding", "vacuous_finding"]


@dataclass(frozen=True, kw_only=True)
class Blame:
    """Each side's distance to the oracle at the place where they part, and the distance that is still rounding."""

    names: tuple[str, str]
    distances: tuple[float, float]
    allowed: float

    @property
    def off(self) -> tuple[str, ...]:
        """The sides that are further from the oracle than rounding explains."""
        pairs = zip(self.names, self.distances, strict=True)
        return tuple(name for name, distance in pairs if not distance <= self.allowed)

    def __str__(self) -> str:
        distances = ", ".join(f"{name} {value:.1e}" for name, value in zip(self.names, self.distances, strict=True))
        who = {0: "neither side is", 1: f"{self.off[0]} is" if self.off else "", 2: "both sides are"}[len(self.off)]
        return f"{who} off (from the oracle: {distances})"


_VERBS = {
    "formula": "differs in formula",
    "precision": "differs in precision",
    "unknown": "differs",
    "undecided": "undecided",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The first difference.

    Args:
        kind: "formula", "precision", "unknown" where it may be either, or "undecided" where the comparison proves
            nothing.
        step: 0-based; None where all steps show it alike.
        phase: "" for the ordinary steps, or what else was computed ("tie probe", "fast path").
        place: stage and tensor.
        difference: relative, in the Frobenius norm; for a precision the larger of the two sides' errors.
        allowed: the largest that is rounding.
        local: the difference when both sides take the step from the same state; None where that is not known.
        off: the names of the sides that are wrong, where that is known.
        detail: what was found, after the place.
    """

    kind: str
    step: int | None
    phase: str
    place: Stage
    difference: float
    allowed: float
    local: float | None
    off: tuple[str, ...]
    detail: str

    @property
    def line(self) -> str:
        """The verdict line: "differs in formula at step 2, momentum, fc1.weight: ..."."""
        where = [self.phase] if self.phase else []
        where += [f"step {self.step}"] if self.step is not None else []
        verb = _VERBS[self.kind]
        return f"{verb} at {', '.join([*where, str(self.place)])}: {self.detail}"


def formula_finding(
    rung: Rung, *, local: float | None = None, blame: Blame | None = None, phase: str = "", eps: float = EPS
) -> Finding:
    """The finding for a rung that is broken or vacuous; `eps` is that of the dtype it was computed in."""
    if rung.problem:
        detail = rung.problem
    else:
        found, allowed = rung.difference / eps, rung.allowed / eps
        detail = f"relative difference {rung.difference:.1e}, {found:.1e} ulp where {allowed:,.0f} are rounding"
    if local is not None and not rung.vacuous and rung.difference < float("inf"):
        detail += f", {local:.1e} in this step alone"
    return Finding(
        kind="undecided" if rung.vacuous else "formula",
        step=rung.step,
        phase=phase,
        place=rung.place,
        difference=rung.difference,
        allowed=rung.allowed,
        local=local,
        off=blame.off if blame else (),
        detail=f"{detail}; {blame}" if blame else detail,
    )


def vacuous_finding(stage: str, detail: str, *, phase: str = "") -> Finding:
    """The finding where nothing of a whole stage could be compared, so that there is no match either."""
    return Finding(
        kind="undecided",
        step=None,
        phase=phase,
        place=Stage(stage=stage, tensor=stage),
        difference=0.0,
        allowed=0.0,
        local=None,
        off=(),
        detail=detail,
    )


def precision_finding(rounding: Rounding, names: tuple[str, str]) -> Finding:
    """The finding for a tensor that one side computes with less precision."""
    errors = dict(zip(names, (rounding.errors.a, rounding.errors.b), strict=True))
    worse, better = sorted(names, key=lambda name: -errors[name])
    # Significant bits p round by up to 2^-p of a value.
    bits = f"about {_bits(errors[worse])} significant bits (float32 has 24, TF32 11, bfloat16 8)"
    detail = (
        f"{worse} is off: its error {errors[worse]:.1e} is {rounding.excess:,.1f} times {better}'s "
        f"({errors[better]:.1e}, floor {rounding.errors.floor:.1e}); {bits}"
    )
    return Finding(
        kind="precision",
        step=None,
        phase="",
        place=rounding.place,
        difference=errors[worse],
        allowed=CAP * max(errors[better], rounding.errors.floor),
        local=errors[worse],
        off=(worse,),
        detail=detail,
    )


def _bits(error: float) -> int:
    """The significant bits of a format whose rounding errs by so much: TF32 rounds by up to 2^-11, and has 11."""
    return max(math.floor(-math.log2(error)), 0) if 0 < error < 1 else 0
