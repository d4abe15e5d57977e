"""What experiments showed, and what they were made with."""

from __future__ import annotations

from dataclasses import dataclass

from parity.environment import Environment
from parity.result import shown
from parity.study.experiment import Experiment, Outcome

__all__ = ["Studied", "StudyReport"]


@dataclass(frozen=True, kw_only=True)
class Studied:
    """An experiment, what it shows, and how long it took, in seconds."""

    experiment: Experiment
    outcome: Outcome
    seconds: float


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """Experiments of one command.

    Args:
        command: as it was given.
        environment: versions and hardware.
        data: one line on the images; None where no experiment needed them.
        names: of the two implementations that trained on them.
        seed: of their weights and batches.
        quick: whether they took fewer steps and runs.
        studied: at least one, in the order in which they were run.
    """

    command: tuple[str, ...]
    environment: Environment
    data: str | None
    names: tuple[str, str]
    seed: int
    quick: bool
    studied: tuple[Studied, ...]

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return shown(self)
