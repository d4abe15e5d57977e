"""`parity record` as a function: trains one side, and writes what it computes.

The side runs on its own fast path, in pieces that end where a state is recorded: by default after every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.compare import nudge as nudged
from parity.contract import InputError, StepTrace, Weights, initial_weights
from parity.data import Dataset, Loader, fingerprint
from parity.environment import describe_environment
from parity.lane import Lane
from parity.problem import cnn_problem
from parity.progress import Pace, Progress, tell
from parity.result import WeightsReport, data_report
from parity.running.history import NonFiniteLossError, Silent, Watcher, window
from parity.running.lockstep import window_ends
from parity.settings import Settings, Side, require_cnn, resolve_device
from parity.trace.batches import batch_hashes, first_rows, row_hashes
from parity.trace.gradients import GRADIENTS, write_gradients
from parity.trace.manifest import Manifest
from parity.trace.schedule import Schedule
from parity.trace.stages import STAGES, write_stages
from parity.trace.writer import Writer, check_folder

__all__ = ["Recording", "record"]

_INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What was recorded: the manifest as written, bytes in chunk files, seconds in the side's training calls."""

    manifest: Manifest
    bytes: int
    seconds: float
    exit_code: int


def record(
    side: Side,
    dataset: Dataset,
    settings: Settings,
    folder: Path,
    *,
    weights: Weights | None = None,
    weights_origin: str | None = None,
    nudge: int | None = None,
    every: int = 1,
    gradients: int = 0,
    watcher: Watcher | None = None,
    command: Sequence[str] = (),
) -> Recording:
    """Train one side and write a trace of it.

    A loss or a state that stops being finite, and Ctrl-C, end the recording early; what there is until then is kept.
    A side that breaks before the first step is trained leaves nothing behind.

    Args:
        side: the implementation.
        dataset: training and test images.
        settings: what to train.
        folder: where to write; new or empty.
        weights: canonical initial weights; None to draw them from the seed.
        weights_origin: where they come from, for the manifest.
        nudge: move each initial weight by one ulp, in directions drawn from this seed; None to leave them.
        every: distance of recorded states, in steps.
        gradients: of so many of the first steps, keep every stage too: the gradients, for `parity.identify`, and all
            that a cause is found from where two traces differ.
        watcher: told of progress.
        command: the command line that asked for it, for the manifest.

    Raises:
        InputError: the side cannot start, the batch does not fit the set, the folder is not empty, or cannot be
            written to: the chunks written until then stay readable.
        SideError: the side broke.
    """
    if nudge is not None and nudge < 0:
        raise InputError("nudge", nudge, "it is negative", "give 0 or more")
    if gradients < 0:
        raise InputError("gradients", gradients, "it is negative", "give 0 or more")
    loader = Loader(size=len(dataset.train_labels), batch_size=settings.batch_size, seed=settings.seed)
    # More steps than the epochs have are not planned: they would never come.
    total = settings.epochs * loader.steps_per_epoch
    schedule = Schedule(limit=min(settings.steps or total, total), every=every)
    origin = weights_origin or ("given" if weights is not None else f"drawn from seed {settings.seed}")
    given = initial_weights(settings.seed) if weights is None else weights
    begun = given if nudge is None else nudged(given, seed=nudge, dtype=settings.dtype)
    check_folder(folder)
    require_cnn([side])
    lane, device = Lane(side=side), resolve_device([side], settings.device)
    state = lane.start(cnn_problem(dataset, begun), settings, device)
    manifest = Manifest(
        command=tuple(command),
        environment=describe_environment(),
        implementation=side.name,
        description=lane.description,
        device=device,
        settings=settings,
        data=data_report(dataset),
        weights=WeightsReport(origin=origin, sha256=fingerprint(given)),
        nudge=nudge,
        tensors=lane.shapes,
        momentum={name: value.shape for name, value in lane.momentum(state).items()},
        limit=schedule.limit,
        every=every,
    )
    # Before anything is written: a side may break here.
    observed = _observe(lane, state, first_rows(loader, min(gradients, schedule.limit)))
    recorder = _Recorder(
        lane,
        Writer(folder, manifest, observed.start),
        schedule,
        row_hashes(dataset.train_images, dataset.train_labels),
        watcher or Silent(),
    )
    return recorder.record(state, loader, observed)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Observed:
    """The first steps with all their stages, the parameters before them, and whether Ctrl-C came meanwhile."""

    start: Weights
    steps: tuple[StepTrace, ...]
    interrupted: bool


def _observe(lane: Lane, state: Any, plan: Sequence[NDArray[np.int32]]) -> _Observed:
    """Take the steps by `observe`; the state stays as it was."""
    start, steps, interrupted = lane.weights(state), list[StepTrace](), False
    try:
        for rows in plan:
            state, trace = lane.observe(state, rows)
            steps.append(trace)
    except KeyboardInterrupt:
        interrupted = True
    return _Observed(start=start, steps=tuple(steps), interrupted=interrupted)


def _write_first_steps(writer: Writer, observed: _Observed) -> int:
    """Write what was observed, if anything was; returns the bytes."""
    start, steps, folder = observed.start, observed.steps, writer.folder
    if not steps:
        return 0
    states: list[dict[str, NDArray[np.generic]]] = [dict(start)]
    states += [{name: trace.parameters[name] for name in start} for trace in steps]
    gradients, digest = write_gradients(folder, states, [dict(trace.gradients) for trace in steps])
    stages, other = write_stages(folder, start, steps)
    writer.add_beside({GRADIENTS: digest, STAGES: other})
    return gradients + stages


class _Recorder:
    """A lane, and where what it computes goes to."""

    def __init__(
        self, lane: Lane, writer: Writer, schedule: Schedule, rows: NDArray[np.uint64], watcher: Watcher
    ) -> None:
        self.lane, self.writer, self.schedule, self.rows, self.watcher = lane, writer, schedule, rows, watcher

    def record(self, state: Any, loader: Loader, observed: _Observed) -> Recording:
        """Keep what was observed, then train from this state to the end, or until something ends it."""
        self.watcher.started((self.lane.description,))
        ending, exit_code, extra = "complete", 0, 0
        try:
            extra = _write_first_steps(self.writer, observed)
            if observed.interrupted:
                raise KeyboardInterrupt  # noqa: TRY301  the one that came while they were observed
            for epoch in range(-(-self.schedule.limit // loader.steps_per_epoch)):
                state = self._epoch(state, loader, epoch)
        except KeyboardInterrupt:
            ending, exit_code = "interrupted", _INTERRUPTED
        except NonFiniteLossError as error:
            ending, exit_code = str(error), error.exit_code
        self.writer.finish(ending)
        written, seconds = self.writer.bytes + extra, self.lane.seconds
        return Recording(manifest=self.writer.manifest, bytes=written, seconds=seconds, exit_code=exit_code)

    def _epoch(self, state: Any, loader: Loader, epoch: int) -> Any:
        begin, reported, ends = self.writer.steps, 0, window_ends(loader.steps_per_epoch)
        for plan in loader.plans(epoch):
            for piece in self.schedule.pieces(plan, self.writer.steps):
                state = self._advance(state, piece)
                self._tell()
                while reported < len(ends) and begin + ends[reported] <= self.writer.steps:
                    first, last = ends[reported - 1] if reported else 0, ends[reported]
                    self.watcher.window(window(epoch + 1, last, [self.lane.losses(begin + first, begin + last)]))
                    reported += 1
        return state

    def _tell(self) -> None:
        pace = Pace(name=self.lane.side.name, seconds=self.lane.seconds)
        tell(Progress(what="recording", done=self.writer.steps, total=self.schedule.limit, sides=(pace,)))

    def _advance(self, state: Any, plan: NDArray[np.int32]) -> Any:
        state, losses = self.lane.run(state, plan)
        finite = int(np.argmin([*np.isfinite(losses), False]))  # steps before the first that is not
        if finite:
            self.writer.add_steps(losses[:finite], batch_hashes(plan[:finite], self.rows))
        if finite < len(losses):
            problem = f"the loss of step {self.writer.steps} is {losses[finite]}; try a smaller learning rate"
            raise NonFiniteLossError(f"{self.lane.side.name}: {problem}")
        self.lane.pieces.append(losses)
        if self.schedule.is_recorded(self.writer.steps):
            self.writer.add_state(self.lane.weights(state), self.lane.momentum(state))
        return state
