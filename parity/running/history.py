"""What happens in a run and what comes of it: events while it goes on, and the record at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from parity.compare import Finding, Spread, StateGap, accuracy, accuracy_per_class, agreement, loss_differences
from parity.contract import NonFiniteLossError, Weights
from parity.running.replay import Parting
from parity.running.watch import Outside

__all__ = [
    "EnsembleRun",
    "EpochResult",
    "NonFiniteLossError",
    "Run",
    "SideRun",
    "Silent",
    "Watcher",
    "Window",
    "epoch_result",
    "window",
]


@dataclass(frozen=True, kw_only=True)
class Window:
    """The running mean of each side's loss over the steps since the last window; epoch and step count from 1.

    `largest_gap` is the largest relative difference of the first two sides' losses in one of those steps, None for one
    side: means that agree prove little.
    """

    epoch: int
    step: int
    losses: tuple[float, ...]
    largest_gap: float | None


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """The test set after an epoch, counted from 1: each side's accuracy, 0 to 1, overall and for each class.

    `agreement` is the share of images on which the first two sides predict the same class; None for one side.
    """

    epoch: int
    accuracies: tuple[float, ...]
    accuracies_per_class: tuple[tuple[float | None, ...], ...]
    agreement: float | None


class Watcher(Protocol):
    """Is told what happens while it happens."""

    def started(self, descriptions: tuple[str, ...]) -> None:
        """Every side is ready; one line each on how it computes."""

    def window(self, window: Window) -> None:
        """A window's mean losses are known."""

    def epoch(self, result: EpochResult) -> None:
        """An epoch has ended and the test set was evaluated."""


class Silent:
    """A watcher that says nothing."""

    def started(self, descriptions: tuple[str, ...]) -> None:
        """Ignore."""

    def window(self, window: Window) -> None:
        """Ignore."""

    def epoch(self, result: EpochResult) -> None:
        """Ignore."""


@dataclass(frozen=True, kw_only=True)
class SideRun:
    """What one side did.

    `losses` is (steps,); `logits` is (test images, classes), or None when the run did not get that far; `seconds` is
    the time spent in training calls, compilation included. `tail` are the losses of the chunk in which one stopped
    being finite, up to there: its states were not kept, so that its steps are not among those completed.
    """

    name: str
    description: str
    losses: NDArray[np.floating]
    weights: Weights
    momentum: Weights
    logits: NDArray[np.floating] | None
    seconds: float
    tail: NDArray[np.floating] = field(default_factory=lambda: np.empty(0))

    @property
    def all_losses(self) -> NDArray[np.floating]:
        """The losses, and the tail."""
        return np.concatenate([self.losses, self.tail])


@dataclass(frozen=True, kw_only=True)
class EnsembleRun:
    """Runs of one side from weights one unit in the last place away.

    `side` is the number of that side, `spreads` how far the members were from its own run after each chunk, `logits`
    each member's outputs for the test set at the end; empty when the run did not get that far.
    """

    side: int
    spreads: tuple[Spread, ...]
    logits: tuple[NDArray[np.floating], ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all sides did; a complete run has no failure.

    `gaps` compares the first two sides after each chunk; `parting` is the step at which they part, `outside` where they
    leave the ensemble's envelope without a cause that explains it, `late` another formula in a step after a flip has
    parted them; None where they do not.
    """

    sides: tuple[SideRun, ...]
    windows: tuple[Window, ...]
    epochs: tuple[EpochResult, ...]
    gaps: tuple[StateGap, ...]
    ensemble: EnsembleRun | None
    parting: Parting | None
    outside: Outside | None
    late: Finding | None
    interrupted: bool
    failure: NonFiniteLossError | None

    @property
    def steps(self) -> int:
        """Steps that every side completed."""
        return len(self.sides[0].losses)


def window(epoch: int, step: int, losses: Sequence[NDArray[np.floating]]) -> Window:
    """The window that ends after `step` steps of the epoch; `losses` are each side's since the last one."""
    return Window(
        epoch=epoch,
        step=step,
        losses=tuple(float(side.mean(dtype=np.float64)) for side in losses),
        largest_gap=float(loss_differences(*losses[:2]).max()) if len(losses) > 1 else None,
    )


def epoch_result(epoch: int, predicted: Sequence[NDArray[np.integer]], labels: NDArray[np.integer]) -> EpochResult:
    """The epoch's results from each side's predictions for the test set."""
    return EpochResult(
        epoch=epoch,
        accuracies=tuple(accuracy(side, labels) for side in predicted),
        accuracies_per_class=tuple(accuracy_per_class(side, labels) for side in predicted),
        agreement=agreement(*predicted[:2]) if len(predicted) > 1 else None,
    )
