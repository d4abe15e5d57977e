"""How training time grows: with the batch, the net's width, the steps of a call, and the size of the data set.

Along each axis the others stand still (batch 4, the tutorial's width, calls of about the asked length, 10,000 images).
All points of an axis are timed in turns, as contestants are; what they compute is not judged. The widths are those of
programs made for it (`parity_widths`), plain ones; along the other axes the contestants are the user's.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from parity.bench.contender import shared
from parity.bench.contestants import Entrant
from parity.bench.growth import Axis, Growth, Point, grow, sentence
from parity.bench.interval import median_interval
from parity.bench.plans import timed_plan
from parity.bench.process import ContestantError, Process
from parity.bench.race import PAUSE
from parity.bench.timing import faster_of_two, orders, round_steps
from parity.bench.trial import Trial
from parity.bench.work import step_work
from parity.contract import CNN_PARAMETERS, initial_weights
from parity.data import Dataset, Loader
from parity.environment import Environment, describe_environment
from parity.progress import Progress, tell
from parity.result import plain, shown

__all__ = ["AXES", "GrowthCurve", "ScalingReport", "measure_scaling"]

FORMAT = "parity.scaling/1"

BATCH, IMAGES = 4, 10_000
BATCHES = (1, 4, 16, 64, 256, 1024)
WIDTHS = (1, 2, 4, 8, 16)
STEPS = (1, 10, 100, 1000)
SIZES = (100, 1_000, 10_000, 40_000)
WIDE_IMAGES = 500
"""Of the wide programs' data set, which torch_impl.adapt keeps as 64-bit integers."""
WIDE = {"torch, plain": "parity_widths.torch_cnn:cnn_{}", "jax, plain": "parity_widths.jax_cnn:cnn_{}"}

AXES = {
    "batch": Axis(name="images in a step", of="a step", unit="image"),
    "width": Axis(name="times the channels", of="a step", unit="GFLOP"),
    "steps": Axis(name="steps in a call", of="a call", unit="step"),
    "data": Axis(name="images in the data set", of="a step", unit="1,000 images"),
}


@dataclass(frozen=True, kw_only=True)
class GrowthCurve:
    """A contestant along an axis: its points, the fitted line, and the sentence; or the reason why there is none."""

    axis: str
    contestant: str
    points: tuple[Point, ...] = ()
    line: Growth | None = None
    sentence: str = ""
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class ScalingReport:
    """All curves, and what they were measured with; load is the highest of all rounds, contestants included."""

    command: tuple[str, ...]
    environment: Environment
    data: str
    dtype: str
    device: str
    threads: int
    rounds: int
    curves: tuple[GrowthCurve, ...]
    load: float = 0.0

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return shown(self)

    @property
    def exit_code(self) -> int:
        """2 where a contestant failed, else 0."""
        return 2 if any(curve.reason for curve in self.curves) else 0

    def to_json(self) -> str:
        """As a JSON object with a `format` key and the exit code."""
        content = {"format": FORMAT, "exit_code": self.exit_code, **plain(asdict(self))}
        return json.dumps(content, indent=1, allow_nan=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Spot:
    """A point to be measured: who, with how many images, how large a batch, how many steps (None: as long as asked)."""

    label: str
    name: str
    x: float
    work: float
    images: int = IMAGES
    batch: int = BATCH
    steps: int | None = None
    own_weights: bool = False

    @property
    def process(self) -> tuple[str, str, int]:
        """A contestant's points that differ in the plan alone share a process."""
        return self.label, self.name, self.images


def _spots(axis: str, entrants: Sequence[Entrant], dtype: str) -> list[_Spot]:
    """The points of an axis."""
    each = [(entrant.label, entrant.name) for entrant in entrants]
    if axis == "batch":
        return [
            _Spot(label=label, name=name, x=size, work=size, batch=size) for label, name in each for size in BATCHES
        ]
    if axis == "steps":
        return [_Spot(label=label, name=name, x=n, work=n, steps=n) for label, name in each for n in STEPS]
    if axis == "data":
        return [_Spot(label=label, name=name, x=n, work=n / 1000, images=n) for label, name in each for n in SIZES]
    return [_wide_spot(label, pattern, k, dtype) for label, pattern in WIDE.items() for k in WIDTHS]


def _wide_spot(label: str, pattern: str, k: int, dtype: str) -> _Spot:
    shapes = {**CNN_PARAMETERS, "conv1.weight": (6 * k, 3, 5, 5), "conv2.weight": (16 * k, 6 * k, 5, 5)}
    shapes["fc1.weight"] = (120, 400 * k)
    operations = step_work(BATCH, dtype, shapes).operations
    name = pattern.format(k)
    return _Spot(label=label, name=name, x=k, work=operations / 1e9, images=WIDE_IMAGES, own_weights=True)


def measure_scaling(
    entrants: Sequence[Entrant],
    dataset: Dataset,
    trial: Trial,
    *,
    command: Sequence[str] = (),
    announce: Callable[[str], None] = lambda _line: None,
    on_axis: Callable[[Sequence[GrowthCurve]], None] = lambda _curves: None,
    on_report: Callable[[ScalingReport], None] = lambda _report: None,
    axes: Sequence[str] = tuple(AXES),
) -> ScalingReport:
    """Measure along the axes, in the trial's first precision.

    Args:
        entrants: implementations of the CNN.
        dataset: its training images, again and again where there are not enough.
        trial: its batch sizes are not used.
        command: for the report.
        announce: is told what is going on.
        on_axis: is given each axis' curves when they are done.
        on_report: is given the report of all axes that are done, after each.
        axes: some of AXES.

    Raises:
        ContestantError: one cannot be imported.
    """
    trial = replace(trial, device=_device(entrants, trial))
    report = ScalingReport(
        command=tuple(command),
        environment=describe_environment(),
        data=dataset.origin,
        dtype=trial.dtypes[0],
        device=trial.device,
        threads=trial.cores,
        rounds=trial.rounds,
        curves=(),
    )
    for axis in axes:
        found, load = _measure_axis(axis, _spots(axis, entrants, trial.dtypes[0]), dataset, trial, announce)
        on_axis(found)
        report = replace(report, curves=(*report.curves, *found), load=max(report.load, load))
        on_report(report)
    return report


def _device(entrants: Sequence[Entrant], trial: Trial) -> str:
    """The same for all points: "auto" is CUDA where every contestant has it."""
    if trial.device != "auto":
        return trial.device
    for entrant in entrants:
        with Process(entrant.name, threads=trial.cores) as process:
            if "cuda" not in process.ask("open", timeout=trial.timeout):
                return "cpu"
    return "cuda"


class _Runner:
    """A point's process, and the plan that is timed in it."""

    def __init__(self, spot: _Spot, process: Process, trial: Trial, dataset: Dataset) -> None:
        self.spot, self._process, self._trial, self._dataset = spot, process, trial, dataset
        self.plan: NDArray[np.int32] | None = None
        self.seconds: list[float] = []

    def start(self) -> None:
        """Give the process its state and data."""
        trial, own = self._trial, self.spot.own_weights
        self._process.ask("open", timeout=trial.timeout)
        with shared(*_resized(self._dataset, self.spot.images)) as files:
            self._process.ask(
                "start",
                timeout=trial.timeout,
                weights=None if own else initial_weights(trial.seed),
                sgd=trial.sgd,
                dtype=trial.dtypes[0],
                device=trial.device,
                files=files,
            )

    def choose_length(self) -> None:
        """As many steps as the point asks for, or as fill a round; compiled afterwards."""
        if self.spot.steps is None:
            short = 2
            self.run(short)
            target = self._trial.round_seconds
            again = faster_of_two(self.run, short)
            fed = self._process.ask("is_fed", timeout=self._trial.timeout)
            steps = round_steps(self.run, short=short, short_seconds=again, target=target, fed=fed)
        else:
            steps = self.spot.steps
            self.run(steps)
        self.plan = self._planned(steps)

    def run(self, steps: int) -> float:
        """Seconds of one call."""
        return float(self._process.ask("run", timeout=self._trial.timeout, plan=self._planned(steps)).seconds)

    def turn(self) -> None:
        """One round; what the axis' time is of: a call, or one of its steps."""
        assert self.plan is not None  # noqa: S101  its length has been chosen
        seconds = float(self._process.ask("run", timeout=self._trial.timeout, plan=self.plan).seconds)
        self.seconds.append(seconds if self.spot.steps is not None else seconds / len(self.plan))

    def _planned(self, steps: int) -> NDArray[np.int32]:
        loader = Loader(size=self.spot.images, batch_size=self.spot.batch, seed=self._trial.seed)
        return timed_plan(loader, steps)


def _resized(dataset: Dataset, size: int) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """So many training images: the first, or all again and again."""
    rows = np.arange(size) % len(dataset.train_labels)
    return dataset.train_images[rows], dataset.train_labels[rows]


def _measure_axis(
    axis: str, spots: Sequence[_Spot], dataset: Dataset, trial: Trial, announce: Callable[[str], None]
) -> tuple[list[GrowthCurve], float]:
    """All points in turns, and the highest load; a contestant that fails at one point has no curve, but its reason."""
    failures: dict[str, str] = {}
    load = os.getloadavg()[0]

    def attempt(runner: _Runner, what: Callable[[], None]) -> None:
        if runner.spot.label not in failures:
            try:
                what()
            except ContestantError as error:
                failures[runner.spot.label] = f"at {runner.spot.x:,g} {AXES[axis].name}: {error}"

    with ExitStack() as stack:
        processes: dict[tuple[str, str, int], Process] = {}
        runners = []
        for spot in spots:
            fresh = spot.process not in processes
            if fresh:
                processes[spot.process] = stack.enter_context(Process(spot.name, threads=trial.cores))
            runners.append(runner := _Runner(spot, processes[spot.process], trial, dataset))
            announce(f"{axis}: {spot.label} at {spot.x:,g}")
            if fresh:
                attempt(runner, runner.start)
            attempt(runner, runner.choose_length)
        for number, order in enumerate(orders(len(runners), trial.rounds, seed=trial.seed)):
            announce(f"{axis}: round {number + 1} of {trial.rounds}")
            tell(Progress(what=axis, done=number, total=trial.rounds, unit="rounds"))
            for place in order:
                time.sleep(PAUSE)
                attempt(runners[place], runners[place].turn)
            load = max(load, os.getloadavg()[0])
    labels = dict.fromkeys(spot.label for spot in spots)
    return [_curve(axis, label, runners, failures.get(label)) for label in labels], load


def _point(runner: _Runner) -> Point:
    found = median_interval(runner.seconds)
    rounds = tuple(runner.seconds)
    return Point(x=runner.spot.x, work=runner.spot.work, seconds=found.median, interval=found, rounds=rounds)


def _curve(axis: str, label: str, runners: Sequence[_Runner], reason: str | None) -> GrowthCurve:
    if reason:
        return GrowthCurve(axis=axis, contestant=label, reason=reason)
    points = tuple(_point(runner) for runner in runners if runner.spot.label == label)
    words = sentence(label, AXES[axis], points)
    return GrowthCurve(axis=axis, contestant=label, points=points, line=grow(points), sentence=words)
