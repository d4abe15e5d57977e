"""What an explanation says: causes, in the order of the stages, or that there is none that fits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from parity.compare import Stage

__all__ = ["Cause", "Explanation", "Unknown"]


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One fault of one side, which predicts what the side computed to rounding.

    Args:
        key: its name in the catalogue of faults.
        side: the name of the side that has it.
        place: the first stage and tensor that show it.
        step: the first step that does, 0-based.
        sentence: what the side does, with the fitted constants, after the side's name: "decays weights after momentum
            (decoupled), by 0.01".
        residual: the largest relative difference that is left between what the fault predicts and what was recorded.
        before: the same without the fault.
        alike: other faults that nothing recorded here tells apart from it, as sentences.
        keys: of the fault and of those.
    """

    key: str
    side: str
    place: Stage
    step: int
    sentence: str
    residual: float
    before: float
    keys: tuple[str, ...]
    alike: tuple[str, ...] = ()

    def __str__(self) -> str:
        others = "".join(f", or {other}" for other in self.alike)
        return f"{self.side} {self.sentence}{others}"


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """A stage that deviates from the formula, and that no fault known here predicts.

    Args:
        side: the name of the side.
        place: the first stage and tensor.
        step: 0-based.
        difference: from the formula, relative.
        residual: what the best fit leaves of it.
        best: what that fit was; None where none came closer.
        why: why nothing could be fitted; "" where it could.
        alone: whether the side deviates by itself; if not, `side` names both, and `difference` is theirs.
        formula: what it deviates from, in words.
    """

    side: str
    place: Stage
    step: int
    difference: float
    residual: float
    best: str | None
    why: str = ""
    alone: bool = True
    formula: str = "the formula"

    def __str__(self) -> str:
        if self.why:
            return f"unknown: {self.side} cannot be held against the CNN's formulas, because {self.why}"
        if not self.alone:
            where = f"step {self.step}, {self.place}, {self.difference:.1e}"
            return f"unknown: {self.side} are apart at {where}, and neither leaves its formulas"
        left = f"; the best fit, {self.best}, leaves {self.residual:.1e}" if self.best else "; nothing fits"
        where = f"step {self.step}, {self.place}, {self.difference:.1e}"
        return f"unknown: {self.side} at {where} from {self.formula}{left}"


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why two sides differ.

    Args:
        causes: in the order of the stages; those of a later stage hold beside those before it.
        unknown: deviations without a cause.
    """

    causes: tuple[Cause, ...] = ()
    unknown: tuple[Unknown, ...] = ()

    @classmethod
    def of(cls, found: Iterable[Cause | Unknown | None]) -> Explanation:
        """What was found, in order."""
        known = list(found)
        return cls(
            causes=tuple(each for each in known if isinstance(each, Cause)),
            unknown=tuple(each for each in known if isinstance(each, Unknown)),
        )

    @property
    def line(self) -> str:
        """Everything in one line."""
        return "; then ".join(map(str, (*self.causes, *self.unknown))) or "unknown: no side deviates by itself"
