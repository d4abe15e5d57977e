"""What judging costs: starting up, a check, lockstep, recording, and memory as a run gets longer.

- start-up: `parity --help` as a process, to its end;
- check: `parity check A B` as a process;
- lockstep: training both sides with their states compared, over training them alone in the same chunks; without the
  ensemble of `parity run`, and with it: ENSEMBLE further runs of one side;
- recording: a trace of a run with every state, and with few of them, over the same run alone;
- memory: what a long lockstep run adds to the most that its process has had after short ones.

All run on the trial's cores, with as many threads. Both times of a ratio are taken one after the other in one process,
in changing order, once everything is compiled.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from parity.bench.contender import peak_host_bytes
from parity.bench.interval import LEAST_ROUNDS, Interval, median_interval
from parity.bench.process import ContestantError, Process
from parity.bench.trial import Trial
from parity.contract import initial_weights
from parity.data import Dataset, Loader
from parity.environment import Environment, describe_environment
from parity.lane import Lane
from parity.problem import cnn_problem
from parity.progress import Progress, tell
from parity.registry import resolve
from parity.result import plain, shown
from parity.running.lockstep import CHUNK, train
from parity.settings import Settings, Side, resolve_device
from parity.trace.record import record

__all__ = [
    "COSTS",
    "Cost",
    "CostReport",
    "command_seconds",
    "lockstep_seconds",
    "measure_costs",
    "peak_bytes",
    "recording_seconds",
]

FORMAT = "parity.cost/1"
COSTS = "what judging costs"
"""Under this name it says how far it has come."""

HELP_BAR, CHECK_BAR, LOCKSTEP_BAR = 0.3, 20.0, 1.10
ENSEMBLE = 4
"""Members, as `parity run` has them unless it is told otherwise."""
KEPT = 75.0
"""Bytes a step that a run holds at its end: two losses in float32 are 8; the comparison of the states after each chunk
of 50 steps, with the difference of each of 20 tensors, is 3,300, 65 a step (tracemalloc, torch_impl beside itself)."""
SETTLING = 4e6
"""Bytes by which the allocators' peak may grow late, and once: pages that were free before. A choice; after six runs
it has been 0 (two runs of 40,000 steps)."""
STEPS = 10 * CHUNK
WARM_UP = 10
MEMORY_STEPS = (*WARM_UP * (80 * CHUNK,), 800 * CHUNK)
"""Runs in one process. Each places the data set anew, and the allocators find their last memory within the first half
dozen runs, however short these are; what counts is what a long one adds to them: so many steps that SETTLING is little
more for each of them than what is kept."""
FLAT_BAR = round(2 * KEPT + SETTLING / (MEMORY_STEPS[-1] - MEMORY_STEPS[-2]))
"""Bytes a step, 261: lists that grow have up to twice the room that they need. One kept state of a chunk, weights and
momentum of both sides, would be 20,000 a step; a further loss in float64 for each side 16."""
HELPS, CHECKS = 10, LEAST_ROUNDS
GRACE = 10.0
"""Seconds more than a command has, for the process that starts it."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One figure.

    Args:
        name: what was measured.
        unit: "s", "times" or "bytes a step".
        value: the median and its interval.
        bar: what it is to stay under; None if there is no such thing.
        detail: in words.
    """

    name: str
    unit: str
    value: Interval
    bar: float | None
    detail: str

    @property
    def met(self) -> bool | None:
        """Whether the median is under the bar."""
        return None if self.bar is None else self.value.median <= self.bar


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """All figures, and what they were measured with."""

    command: tuple[str, ...]
    environment: Environment
    names: tuple[str, str]
    data: str
    threads: int
    costs: tuple[Cost, ...]

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return shown(self)

    @property
    def exit_code(self) -> int:
        """1 where a figure is over its bar, else 0."""
        return 1 if any(cost.met is False for cost in self.costs) else 0

    def to_json(self) -> str:
        """As a JSON object with a `format` key and the exit code."""
        content = {"format": FORMAT, "exit_code": self.exit_code, **plain(asdict(self))}
        return json.dumps(content, indent=1, allow_nan=False)


def measure_costs(
    names: tuple[str, str],
    dataset: Dataset,
    trial: Trial,
    *,
    command: Sequence[str] = (),
    on_cost: Callable[[Cost], None] = lambda _cost: None,
) -> CostReport:
    """Measure all of them with two implementations.

    Args:
        names: "module:attribute" each.
        dataset: what they are trained on; the check uses the embedded set.
        trial: its device, threads, rounds and time limit are used.
        command: for the report.
        on_cost: is given each figure when it is known.

    Raises:
        ContestantError: an implementation failed.
    """
    costs = []
    measures: Sequence[Callable[..., Cost]]
    lockstep = (partial(_lockstep, 0), partial(_lockstep, ENSEMBLE))
    measures = (_start_up, _check, *lockstep, partial(_recording, 1), partial(_recording, CHUNK), _memory)
    for number, measure in enumerate(measures):
        tell(Progress(what=COSTS, done=number, total=len(measures), unit="costs"))
        costs.append(measure(names, dataset, trial))
        on_cost(costs[-1])
    return CostReport(
        command=tuple(command),
        environment=describe_environment(),
        names=names,
        data=dataset.origin,
        threads=trial.cores,
        costs=tuple(costs),
    )


def _start_up(_names: tuple[str, str], _dataset: Dataset, trial: Trial) -> Cost:
    value = median_interval([_command_seconds(trial, "--help") for _ in range(HELPS)])
    return Cost(name="start-up", unit="s", value=value, bar=HELP_BAR, detail=f"parity --help, {HELPS} times")


def _check(names: tuple[str, str], _dataset: Dataset, trial: Trial) -> Cost:
    arguments = ("check", *names, "--data", "embedded", "--device", trial.device, "--no-report")
    value = median_interval([_command_seconds(trial, *arguments) for _ in range(CHECKS)])
    detail = f"parity check of the two, {CHECKS} times, imports and compiling included, no page written"
    return Cost(name="check", unit="s", value=value, bar=CHECK_BAR, detail=detail)


def _lockstep(members: int, names: tuple[str, str], dataset: Dataset, trial: Trial) -> Cost:
    """With an ensemble there is no bar: its runs are work of their own."""
    arguments = {"names": names, "dataset": dataset, "rounds": trial.rounds, "ensemble": members}
    seconds = _measured("lockstep_seconds", trial, **arguments)
    what = f"beside an ensemble of {members}" if members else "without the ensemble"
    return Cost(
        name="lockstep, ensemble" if members else "lockstep",
        unit="times",
        value=_ratio(seconds),
        bar=None if members else LOCKSTEP_BAR,
        detail=f"{STEPS} steps of both {what}, compared every {CHUNK}, over the same alone",
    )


def _recording(every: int, names: tuple[str, str], dataset: Dataset, trial: Trial) -> Cost:
    """A recorded state costs as much as several steps, so that it matters how many there are."""
    seconds = _measured("recording_seconds", trial, names=names, dataset=dataset, rounds=trial.rounds, every=every)
    which = "every state" if every == 1 else f"one state in {every}"
    detail = f"{STEPS} steps of {names[0]} with {which} recorded, over the same alone"
    return Cost(name=f"recording, --every {every}", unit="times", value=_ratio(seconds), bar=None, detail=detail)


def _memory(names: tuple[str, str], dataset: Dataset, trial: Trial) -> Cost:
    """What each further step has added to the peak: a long run after short ones in the same process."""
    peaks = _measured("peak_bytes", trial, names=names, dataset=dataset, lengths=MEMORY_STEPS)
    growth = (peaks[-1] - peaks[-2]) / (MEMORY_STEPS[-1] - MEMORY_STEPS[-2])
    first, *_, warm, most = (f"{peak / 1e6:,.0f} MB" for peak in peaks)
    runs = f"{first} after {MEMORY_STEPS[0]:,} steps, {warm} after {WARM_UP} such runs"
    detail = f"of lockstep: {runs}, {most} after {MEMORY_STEPS[-1]:,} more"
    value = Interval(median=growth, low=growth, high=growth)
    return Cost(name="memory", unit="bytes a step", value=value, bar=FLAT_BAR, detail=detail)


def _ratio(seconds: Mapping[str, Sequence[float]]) -> Interval:
    return median_interval([more / less for more, less in zip(seconds["with"], seconds["alone"], strict=True)])


def _measured(function: str, trial: Trial, **arguments: object) -> Any:
    """What a function of this module returns in a process of its own."""
    with Process(f"{__name__}:{function}", threads=trial.cores) as process:
        return process.ask("measure", timeout=trial.timeout, device=trial.device, **arguments)


def _command_seconds(trial: Trial, *arguments: str) -> float:
    """A command's seconds, started by a process that has the trial's cores and threads: what it starts has them too."""
    with Process(f"{__name__}:command_seconds", threads=trial.cores) as process:
        wait = trial.timeout + GRACE
        return float(process.ask("measure", timeout=wait, arguments=arguments, limit=trial.timeout))


def command_seconds(*, arguments: Sequence[str], limit: float) -> float:
    """A command of parity, from its start to its end.

    Raises:
        ContestantError: it failed, or did not end within `limit` seconds.
    """
    begin = time.perf_counter()
    command = [sys.executable, "-m", "parity", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=limit)  # noqa: S603  our own
    except subprocess.TimeoutExpired as error:
        raise ContestantError(f"parity {' '.join(arguments)}: no end within {limit:g} s") from error
    if done.returncode:
        last = (["", *(done.stderr or done.stdout).decode(errors="replace").strip().splitlines()])[-1]
        raise ContestantError(f"parity {' '.join(arguments)} ended with exit code {done.returncode}: {last}")
    return time.perf_counter() - begin


def lockstep_seconds(
    *, names: tuple[str, str], dataset: Dataset, rounds: int, device: str, steps: int = STEPS, ensemble: int = 0
) -> dict[str, list[float]]:
    """Seconds of each round with states compared, beside an ensemble of so many, and alone."""
    sides = tuple(Side(name=f"{name}#{number}", implementation=resolve(name)) for number, name in enumerate(names))
    settings = Settings(epochs=_epochs(dataset, steps), steps=steps, device=device)

    def together() -> object:
        return train(sides, dataset, settings, initial_weights(0), evaluate=False, ensemble=ensemble)

    return _in_turns(together, lambda: _alone(sides, dataset, settings), rounds)


def recording_seconds(
    *, names: tuple[str, str], dataset: Dataset, rounds: int, device: str, steps: int = STEPS, every: int = 1
) -> dict[str, list[float]]:
    """Seconds of each round of the first implementation, recorded and alone."""
    side = Side(name=names[0], implementation=resolve(names[0]))
    settings = Settings(epochs=_epochs(dataset, steps), steps=steps, device=device)

    def recorded() -> None:
        with tempfile.TemporaryDirectory() as folder:
            record(side, dataset, settings, Path(folder) / "trace", every=every)

    return _in_turns(recorded, lambda: _alone([side], dataset, settings), rounds)


def peak_bytes(*, names: tuple[str, str], dataset: Dataset, lengths: Sequence[int], device: str) -> list[int]:
    """The most memory that this process has had, after each of several lockstep runs of so many steps."""
    sides = tuple(Side(name=f"{name}#{number}", implementation=resolve(name)) for number, name in enumerate(names))
    peaks = []
    for steps in lengths:
        settings = Settings(epochs=_epochs(dataset, steps), steps=steps, device=device)
        train(sides, dataset, settings, initial_weights(0), evaluate=False)
        peaks.append(peak_host_bytes())
    return peaks


def _in_turns(more: Callable[[], object], alone: Callable[[], object], rounds: int) -> dict[str, list[float]]:
    calls = {"with": more, "alone": alone}
    for call in calls.values():
        call()  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls) if number % 2 == 0 else reversed(calls):
            begin = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def _alone(sides: Sequence[Side], dataset: Dataset, settings: Settings) -> None:
    """The same chunks on the same sides, with nothing kept but their states."""
    loader = Loader(size=len(dataset.train_labels), batch_size=settings.batch_size, seed=settings.seed)
    problem, device = cnn_problem(dataset, initial_weights(0)), resolve_device(sides, settings.device)
    lanes = [Lane(side=side) for side in sides]
    states = [lane.start(problem, settings, device) for lane in lanes]
    left = settings.steps or 0
    for epoch in range(settings.epochs):
        for plan in loader.plans(epoch, length=CHUNK):
            if left <= 0:
                return
            states = [lane.run(state, plan[:left])[0] for lane, state in zip(lanes, states, strict=True)]
            left -= len(plan)


def _epochs(dataset: Dataset, steps: int) -> int:
    """Enough for so many steps of the default batch."""
    return -(-steps * Settings().batch_size // len(dataset.train_labels))
