"""Trains implementations side by side: the same chunk of the same plan on each, then on to the next chunk.

After every chunk all sides stand at the same step, so their states can be compared there, and a run that is stopped
ends with states that belong together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.compare import JUDGED_STEPS, Spread, Stage, StateGap, gaps, largest, momentum_gaps, predictions
from parity.contract import ParityError, Weights
from parity.data import Dataset, Loader
from parity.lane import Lane, require_same_tensors
from parity.pair import Pair
from parity.problem import Problem, cnn_problem
from parity.progress import Pace, Progress, tell
from parity.running.ensemble import Members, start_members
from parity.running.history import (
    EnsembleRun,
    EpochResult,
    NonFiniteLossError,
    Run,
    SideRun,
    Silent,
    Watcher,
    Window,
    epoch_result,
    window,
)
from parity.running.watch import Watch
from parity.settings import Settings, Side, require_cnn, resolve_device

__all__ = ["CHUNK", "train", "window_ends"]

CHUNK = 50
"""Steps between two comparisons of the states: often enough to place a break, for about 1 % of the training time."""

_TUTORIAL_WINDOW = 2000


def train(
    sides: Sequence[Side],
    dataset: Dataset,
    settings: Settings,
    weights: Weights,
    *,
    watcher: Watcher | None = None,
    evaluate: bool = True,
    ensemble: int = 0,
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
        ensemble: how many runs of one side to train beside it, from weights one unit in the last place away; 0 for
            none. Only beside two sides.

    Raises:
        InputError: a side cannot start, the sides have different tensors, or the batch does not fit the set.
        SideError: a side raised an exception, or returned something else than the protocol says.
    """
    require_cnn(sides)
    loader = Loader(size=len(dataset.train_labels), batch_size=settings.batch_size, seed=settings.seed)
    device = resolve_device(sides, settings.device)
    lanes = [Lane(side=side) for side in sides]
    problem = cnn_problem(dataset, weights)
    states = [lane.start(problem, settings, device) for lane in lanes]
    require_same_tensors(lanes)
    progress = _Progress(lanes, states, problem, watcher or Silent(), Watch(settings, device))
    if ensemble and len(sides) > 1:
        progress.bring(*start_members(lanes, states, problem, settings, ensemble))
    progress.watcher.started(tuple(lane.description for lane in lanes))
    interrupted, failure = False, None
    try:
        _train_epochs(progress, loader, settings, evaluate=evaluate)
        progress.watch.finish()
    except KeyboardInterrupt:
        interrupted = True
    except NonFiniteLossError as error:
        failure = error
    return progress.finish(interrupted=interrupted, failure=failure)


def window_ends(steps_per_epoch: int) -> tuple[int, ...]:
    """After which steps of an epoch to report: every 2,000 as the tutorial does, on smaller sets ten times."""
    if steps_per_epoch >= 5 * _TUTORIAL_WINDOW:
        return tuple(range(_TUTORIAL_WINDOW, steps_per_epoch + 1, _TUTORIAL_WINDOW))
    lines = min(10, steps_per_epoch)
    return tuple(steps_per_epoch * line // lines for line in range(1, lines + 1))


def _train_epochs(progress: _Progress, loader: Loader, settings: Settings, *, evaluate: bool) -> None:
    limit = settings.steps or settings.epochs * loader.steps_per_epoch
    ends = window_ends(loader.steps_per_epoch)
    for epoch in range(settings.epochs):
        begin, reported = progress.position.steps, 0
        for plan in _chunks(loader, epoch, begin):
            progress.advance(plan[: limit - progress.position.steps])
            progress.tell(limit, settings.dtype)
            reported = progress.report_windows(epoch, begin, ends, reported)
            if progress.position.steps >= limit:
                break
        if evaluate and progress.position.steps == begin + loader.steps_per_epoch:
            progress.end_epoch(epoch)
        if progress.position.steps >= limit:
            break
    if evaluate:
        progress.evaluate()


def _chunks(loader: Loader, epoch: int, begin: int) -> Iterator[NDArray[np.int32]]:
    """An epoch's plans, cut where the judged steps end, so that the states are compared there."""
    for plan in loader.plans(epoch, length=CHUNK):
        cut = max(JUDGED_STEPS - begin, 0)
        yield from (part for part in (plan[:cut], plan[cut:]) if len(part))
        begin += len(plan)


@dataclass(frozen=True, kw_only=True)
class _Position:
    """Where all sides stand, after so many steps; `logits` are theirs there, or None while they are not computed.

    `members` are the ensemble's states, none without one.
    """

    steps: int
    states: tuple[Any, ...]
    members: tuple[Any, ...] = ()
    logits: tuple[NDArray[np.floating], ...] | None = None


class _Progress:
    """The lanes, where they stand, and the record of what they have done so far."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        states: Sequence[Any],
        problem: Problem,
        watcher: Watcher,
        watch: Watch,
    ) -> None:
        self.lanes, self.problem, self.watcher = lanes, problem, watcher
        self.labels = problem.test[1].astype(np.int64)
        self.members: Members | None = None
        self.position = _Position(steps=0, states=tuple(states))
        self.windows: list[Window] = []
        self.epochs: list[EpochResult] = []
        self.gaps: list[StateGap] = []
        self.spreads: list[Spread] = []
        self.watch = watch
        self.tails: list[NDArray[np.floating]] = [np.empty(0)] * len(lanes)

    def bring(self, members: Members, states: tuple[Any, ...]) -> None:
        """Train an ensemble beside the sides."""
        self.members = members
        self.position = replace(self.position, members=states)

    def advance(self, plan: NDArray[np.int32]) -> None:
        """Run a chunk on every side. Either all sides move on, or none does."""
        before = self.position
        moved = [lane.run(state, plan) for lane, state in zip(self.lanes, before.states, strict=True)]
        self._require_finite([losses for _, losses in moved])
        members = self.members.advance(before.members, plan) if self.members else ()
        for lane, (_, losses) in zip(self.lanes, moved, strict=True):
            lane.pieces.append(losses)
        # One assignment, so that Ctrl-C finds all sides before the chunk or all behind it: losses of later steps than
        # the position's are not part of the record.
        states = tuple(state for state, _ in moved)
        self.position = _Position(steps=before.steps + len(plan), states=states, members=members)
        if len(self.lanes) > 1:
            self._compare_states()
            self._look_back(before, plan)

    def _look_back(self, before: _Position, plan: NDArray[np.int32]) -> None:
        """Find out why the sides part, if this chunk is where they do."""
        position, spread = self.position, None
        if self.members:
            spread = self.members.spread(position.steps, position.states[self.members.number], position.members)
            self.spreads.append(spread)
        a, b = self.lanes[:2]
        pair = Pair(lanes=(a, b), states=(before.states[0], before.states[1]), problem=self.problem)
        self.watch.look(pair, plan, pair.at(position.states[:2]), self.gaps[-1], spread)

    def _require_finite(self, losses: Sequence[NDArray[np.floating]]) -> None:
        broken = [int(np.argmin(np.isfinite(side))) if not np.isfinite(side).all() else None for side in losses]
        first = min((step for step in broken if step is not None), default=None)
        if first is None:
            return
        names = [lane.side.name for lane, step in zip(self.lanes, broken, strict=True) if step == first]
        value = next(float(side[first]) for side, step in zip(losses, broken, strict=True) if step == first)
        step = self.position.steps + first
        self.tails = [side[:first] for side in losses]
        raise NonFiniteLossError(
            f"{' and '.join(names)}: the loss of step {step} is {value}; try a smaller learning rate"
        )

    def _compare_states(self) -> None:
        (a, b), (state_a, state_b) = self.lanes[:2], self.position.states[:2]
        weights = gaps(a.weights(state_a), b.weights(state_b))
        momentum = momentum_gaps(a.momentum(state_a), b.momentum(state_b))
        parameters = largest(weights)
        if parameters is None:
            raise ParityError(f"{a.side.name} and {b.side.name} have no parameters: there is nothing to compare")
        tensors = {
            Stage(stage=stage, tensor=name): difference
            for stage, differences in (("weights", weights), ("momentum", momentum))
            for name, difference in differences.items()
        }
        self.gaps.append(
            StateGap(steps=self.position.steps, parameters=parameters, momentum=largest(momentum), tensors=tensors)
        )

    def tell(self, limit: int, dtype: str) -> None:
        """How far all sides have come."""
        paces = tuple(Pace(name=lane.side.name, seconds=lane.seconds) for lane in self.lanes)
        tell(Progress(what=f"training, {dtype}", done=self.position.steps, total=limit, sides=paces))

    def report_windows(self, epoch: int, begin: int, ends: Sequence[int], done: int) -> int:
        """Tell the watcher of the windows that are complete now; returns how many of `ends` are done with.

        `begin` is the run's step at which the epoch began.
        """
        while done < len(ends) and begin + ends[done] <= self.position.steps:
            first = ends[done - 1] if done else 0
            losses = [lane.losses(begin + first, begin + ends[done]) for lane in self.lanes]
            self.windows.append(window(epoch + 1, ends[done], losses))
            self.watcher.window(self.windows[-1])
            done += 1
        return done

    def evaluate(self) -> tuple[NDArray[np.floating], ...]:
        """Every side's outputs for the test set, at this position; computed once."""
        position = self.position
        if position.logits is not None:
            return position.logits
        pairs = zip(self.lanes, position.states, strict=True)
        logits = tuple(lane.logits(state) for lane, state in pairs)
        if broken := [i for i, outputs in enumerate(logits) if not np.isfinite(outputs).all()]:
            names = " and ".join(self.lanes[i].side.name for i in broken)
            problem = f"the outputs after {position.steps} steps are not finite"
            raise NonFiniteLossError(f"{names}: {problem}; try a smaller learning rate")
        self.position = replace(position, logits=logits)
        return logits

    def end_epoch(self, epoch: int) -> None:
        """Evaluate, and tell the watcher."""
        predicted = [predictions(logits) for logits in self.evaluate()]
        self.epochs.append(epoch_result(epoch + 1, predicted, self.labels))
        self.watcher.epoch(self.epochs[-1])

    def finish(self, *, interrupted: bool, failure: NonFiniteLossError | None) -> Run:
        """The record."""
        position = self.position
        logits = position.logits or (None,) * len(self.lanes)
        sides = zip(self.lanes, position.states, logits, self.tails, strict=True)
        return Run(
            sides=tuple(_side_run(lane, state, outputs, position.steps, tail) for lane, state, outputs, tail in sides),
            windows=tuple(self.windows),
            epochs=tuple(self.epochs),
            gaps=tuple(self.gaps),
            ensemble=self._ensemble_run(),
            parting=self.watch.parting,
            outside=self.watch.outside,
            late=self.watch.late,
            interrupted=interrupted,
            failure=failure,
        )

    def _ensemble_run(self) -> EnsembleRun | None:
        """The members' record; their outputs only where the sides' are known too."""
        if self.members is None:
            return None
        position = self.position
        logits = [self.members.lane.logits(state) for state in position.members] if position.logits else []
        return EnsembleRun(side=self.members.number, spreads=tuple(self.spreads), logits=tuple(logits))


def _side_run(
    lane: Lane, state: Any, logits: NDArray[np.floating] | None, steps: int, tail: NDArray[np.floating]
) -> SideRun:
    return SideRun(
        name=lane.side.name,
        description=lane.description,
        losses=lane.losses(0, steps),
        weights=lane.weights(state),
        momentum=lane.momentum(state),
        logits=logits,
        seconds=lane.seconds,
        tail=tail,
    )
