"""Trains implementations side by side: the same chunk of the same plan on each, then on to the next chunk.

After every chunk all sides stand at the same step, so their states can be compared there, and a run that is stopped
ends with states that belong together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from parity.compare import (
    StateGap,
    accuracy,
    accuracy_per_class,
    agreement,
    largest_gap,
    loss_differences,
    momentum_gap,
    predictions,
)
from parity.contract import DTYPES, SGD, AnyImplementation, InputError, ParityError, Weights
from parity.data import Dataset, Loader

__all__ = [
    "CHUNK",
    "EpochResult",
    "NonFiniteLossError",
    "Run",
    "Settings",
    "Side",
    "SideRun",
    "Silent",
    "Watcher",
    "Window",
    "resolve_device",
    "train",
    "window_ends",
]

CHUNK = 50
"""Steps between two comparisons of the states: often enough to place a break, and under 1 % of the time."""

_TUTORIAL_WINDOW = 2000


class NonFiniteLossError(ParityError):
    """A loss became NaN or infinite: training cannot go on."""

    exit_code = 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides what is trained, but the data, the weights and the sides.

    Args:
        sgd: the optimizer's hyper-parameters.
        batch_size: images in a step.
        epochs: >= 1.
        steps: stop after so many steps; None for all of the epochs'.
        seed: of the initial weights and of the index plans, >= 0.
        dtype: "float32" or "float64".
        device: "auto", "cpu" or "cuda"; auto is CUDA where every side has it.

    Raises:
        InputError: a value is out of range.
    """

    sgd: SGD = field(default_factory=SGD)
    batch_size: int = 4
    epochs: int = 3
    steps: int | None = None
    seed: int = 0
    dtype: str = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(name, value, "it is less than 1", "give 1 or more")
        if self.seed < 0:
            raise InputError("seed", self.seed, "it is negative", "give 0 or more")
        _require_one_of("dtype", self.dtype, DTYPES)
        _require_one_of("device", self.device, ("auto", "cpu", "cuda"))


def _require_one_of(argument: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(argument, value, "unknown", f"give one of: {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class Side:
    """An implementation under the name that the user gave it."""

    name: str
    implementation: AnyImplementation


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
    the time spent in training calls, compilation included.
    """

    name: str
    description: str
    losses: NDArray[np.floating]
    weights: Weights
    momentum: Weights
    logits: NDArray[np.floating] | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all sides did. `gaps` compares the first two sides; a complete run has no failure."""

    sides: tuple[SideRun, ...]
    windows: tuple[Window, ...]
    epochs: tuple[EpochResult, ...]
    gaps: tuple[StateGap, ...]
    interrupted: bool
    failure: NonFiniteLossError | None

    @property
    def steps(self) -> int:
        """Steps that every side completed."""
        return len(self.sides[0].losses)


def train(
    sides: Sequence[Side],
    dataset: Dataset,
    settings: Settings,
    weights: Weights,
    *,
    watcher: Watcher | None = None,
    evaluate: bool = True,
) -> Run:
    """Train all sides from the same weights on the same batches.

    A loss that stops being finite, and Ctrl-C, end the run early with the states of the last complete chunk.

    Args:
        sides: at least one.
        dataset: training and test images.
        settings: what to train.
        weights: canonical initial weights.
        watcher: told of progress.
        evaluate: whether to compute the test set's logits after every epoch and at the end.

    Raises:
        InputError: a side cannot start, or the batch does not fit the set.
    """
    loader = Loader(size=len(dataset.train_labels), batch_size=settings.batch_size, seed=settings.seed)
    device = resolve_device(sides, settings.device)
    lanes = [_start(side, dataset, settings, weights, device) for side in sides]
    _require_same_tensors(lanes)
    progress = _Progress(lanes, dataset, watcher or Silent(), evaluate=evaluate)
    progress.watcher.started(tuple(lane.description for lane in lanes))
    interrupted, failure = False, None
    try:
        _train_epochs(progress, loader, settings)
    except KeyboardInterrupt:
        interrupted = True
    except NonFiniteLossError as error:
        failure = error
    return progress.finish(interrupted=interrupted, failure=failure)


def resolve_device(sides: Sequence[Side], device: str) -> str:
    """The device that all sides will use: "auto" is CUDA only where every side has it."""
    if device != "auto":
        return device
    return "cuda" if all("cuda" in side.implementation.devices() for side in sides) else "cpu"


def window_ends(steps_per_epoch: int) -> tuple[int, ...]:
    """After which steps of an epoch to report: every 2,000 as the tutorial does, on smaller sets ten times."""
    if steps_per_epoch >= 5 * _TUTORIAL_WINDOW:
        return tuple(range(_TUTORIAL_WINDOW, steps_per_epoch + 1, _TUTORIAL_WINDOW))
    lines = min(10, steps_per_epoch)
    return tuple(steps_per_epoch * line // lines for line in range(1, lines + 1))


@dataclass(kw_only=True)
class _Lane:
    """One side's place in the lockstep; `pieces` are the losses of its chunks."""

    side: Side
    description: str
    state: Any
    train: Any
    test: Any
    pieces: list[NDArray[np.floating]] = field(default_factory=list)
    logits: NDArray[np.floating] | None = None
    seconds: float = 0.0

    def losses(self) -> NDArray[np.floating]:
        return np.concatenate(self.pieces) if self.pieces else np.empty(0)

    def weights(self) -> Weights:
        return self.side.implementation.weights(self.state)

    def momentum(self) -> Weights:
        return self.side.implementation.momentum(self.state)

    def run(self, plan: NDArray[np.int32]) -> tuple[Any, NDArray[np.floating]]:
        """What this side makes of a chunk; the lane itself does not move."""
        begin = time.perf_counter()
        state, losses = self.side.implementation.run(self.state, self.train, plan)
        self.seconds += time.perf_counter() - begin
        if losses.shape != (len(plan),):
            raise ParityError(f"{self.side.name}: run() returned losses of shape {losses.shape} for {len(plan)} steps")
        return state, losses


def _start(side: Side, dataset: Dataset, settings: Settings, weights: Weights, device: str) -> _Lane:
    implementation = side.implementation
    state = implementation.start(weights, settings.sgd, dtype=settings.dtype, device=device)
    return _Lane(
        side=side,
        description=implementation.describe(state),
        state=state,
        train=implementation.place(state, dataset.train_images, dataset.train_labels),
        test=implementation.place(state, dataset.test_images, dataset.test_labels),
    )


def _require_same_tensors(lanes: Sequence[_Lane]) -> None:
    """Refuse sides that cannot be compared tensor by tensor."""
    names = [lane.side.name for lane in lanes]
    shapes = [{name: value.shape for name, value in lane.weights().items()} for lane in lanes]
    for other, found in zip(names[1:], shapes[1:], strict=True):
        for tensor in sorted(shapes[0].keys() | found.keys()):
            ours, theirs = (side.get(tensor, "missing") for side in (shapes[0], found))
            if ours != theirs:
                problem = f"tensor {tensor} is {ours} in {names[0]} and {theirs} in {other}"
                raise InputError("implementation", other, problem, "compare two programs of the same model")


@dataclass(kw_only=True)
class _Log:
    windows: list[Window] = field(default_factory=list)
    epochs: list[EpochResult] = field(default_factory=list)
    gaps: list[StateGap] = field(default_factory=list)


class _Progress:
    """The lanes, and the record of what they have done so far."""

    def __init__(self, lanes: list[_Lane], dataset: Dataset, watcher: Watcher, *, evaluate: bool) -> None:
        self.lanes, self.dataset, self.watcher, self.evaluates = lanes, dataset, watcher, evaluate
        self.steps = 0
        self.log = _Log()

    def advance(self, plan: NDArray[np.int32]) -> None:
        """Run a chunk on every side. Either all sides move on, or none does."""
        moved = [lane.run(plan) for lane in self.lanes]
        self._require_finite([losses for _, losses in moved])
        for lane, (state, losses) in zip(self.lanes, moved, strict=True):
            lane.state, lane.logits = state, None
            lane.pieces.append(losses)
        self.steps += len(plan)
        self._compare_states()

    def _require_finite(self, losses: list[NDArray[np.floating]]) -> None:
        broken = [int(np.argmin(np.isfinite(side))) if not np.isfinite(side).all() else None for side in losses]
        first = min((step for step in broken if step is not None), default=None)
        if first is None:
            return
        names = [lane.side.name for lane, step in zip(self.lanes, broken, strict=True) if step == first]
        value = next(float(side[first]) for side, step in zip(losses, broken, strict=True) if step == first)
        raise NonFiniteLossError(
            f"{' and '.join(names)}: the loss of step {self.steps + first} is {value}; try a smaller learning rate"
        )

    def _compare_states(self) -> None:
        if len(self.lanes) < 2:
            return
        a, b = self.lanes[:2]
        parameters = largest_gap(a.weights(), b.weights())
        momentum = momentum_gap(a.momentum(), b.momentum())
        if parameters is None:
            raise ParityError(f"{a.side.name} and {b.side.name} have no parameters: there is nothing to compare")
        self.log.gaps.append(StateGap(steps=self.steps, parameters=parameters, momentum=momentum))

    def report_windows(self, epoch: int, begin: int, ends: Sequence[int], done: int) -> int:
        """Tell the watcher of the windows that are complete now; returns how many of `ends` are done with.

        `begin` is the run's step at which the epoch began.
        """
        while done < len(ends) and begin + ends[done] <= self.steps:
            first = ends[done - 1] if done else 0
            losses = [lane.losses()[begin + first : begin + ends[done]] for lane in self.lanes]
            self.log.windows.append(_window(epoch + 1, ends[done], losses))
            self.watcher.window(self.log.windows[-1])
            done += 1
        return done

    def evaluate(self) -> None:
        """Compute the test set's logits on every side, unless they are up to date."""
        for lane in self.lanes:
            if self.evaluates and lane.logits is None:
                lane.logits = lane.side.implementation.logits(lane.state, lane.test)

    def end_epoch(self, epoch: int) -> None:
        """Evaluate, and tell the watcher."""
        self.evaluate()
        if self.evaluates:
            predicted = [predictions(lane.logits) for lane in self.lanes if lane.logits is not None]
            self.log.epochs.append(_epoch_result(epoch + 1, predicted, self.dataset.test_labels))
            self.watcher.epoch(self.log.epochs[-1])

    def finish(self, *, interrupted: bool, failure: NonFiniteLossError | None) -> Run:
        """The record."""
        return Run(
            sides=tuple(_finish(lane) for lane in self.lanes),
            windows=tuple(self.log.windows),
            epochs=tuple(self.log.epochs),
            gaps=tuple(self.log.gaps),
            interrupted=interrupted,
            failure=failure,
        )


def _train_epochs(progress: _Progress, loader: Loader, settings: Settings) -> None:
    limit = settings.steps or settings.epochs * loader.steps_per_epoch
    ends = window_ends(loader.steps_per_epoch)
    for epoch in range(settings.epochs):
        begin, reported = progress.steps, 0
        for plan in loader.plans(epoch, length=CHUNK):
            progress.advance(plan[: limit - progress.steps])
            reported = progress.report_windows(epoch, begin, ends, reported)
            if progress.steps >= limit:
                break
        if progress.steps == begin + loader.steps_per_epoch:
            progress.end_epoch(epoch)
        if progress.steps >= limit:
            break
    progress.evaluate()


def _window(epoch: int, step: int, losses: Sequence[NDArray[np.floating]]) -> Window:
    return Window(
        epoch=epoch,
        step=step,
        losses=tuple(float(side.mean(dtype=np.float64)) for side in losses),
        largest_gap=float(loss_differences(*losses[:2]).max()) if len(losses) > 1 else None,
    )


def _epoch_result(epoch: int, predicted: Sequence[NDArray[np.integer]], labels: NDArray[np.integer]) -> EpochResult:
    return EpochResult(
        epoch=epoch,
        accuracies=tuple(accuracy(side, labels) for side in predicted),
        accuracies_per_class=tuple(accuracy_per_class(side, labels) for side in predicted),
        agreement=agreement(*predicted[:2]) if len(predicted) > 1 else None,
    )


def _finish(lane: _Lane) -> SideRun:
    return SideRun(
        name=lane.side.name,
        description=lane.description,
        losses=lane.losses(),
        weights=lane.weights(),
        momentum=lane.momentum(),
        logits=lane.logits,
        seconds=lane.seconds,
    )
