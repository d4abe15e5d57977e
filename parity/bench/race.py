"""One cell of a benchmark: all contestants at one batch size in one precision, each in a process of its own.

They are started, judged and given a length one after the other; those that passed are then timed in turns, while the
others wait: never two at once. Each call is judged, to its end (`parity.bench.ending`). A contestant that fails, at
whatever point, is a row with its reason, and its process is ended; the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.bench.contender import Memory, Timed
from parity.bench.contestants import Entrant
from parity.bench.ending import Ending, Ran
from parity.bench.judge import Judged, judge, worst
from parity.bench.plans import timed_plan
from parity.bench.process import ContestantError, Process
from parity.bench.report import DIFFERS, FAILED, TIMED, Row
from parity.bench.timing import faster_of_two, orders, round_steps
from parity.bench.trial import Trial
from parity.bench.truth import Truth
from parity.data import Dataset, Loader
from parity.progress import Progress, tell

__all__ = ["Course", "Racer", "race"]

BEYOND = 3
"""How many times the truth's steps a call has that is judged before any is timed."""

PAUSE = 0.02
"""Seconds between two turns: threads that wait for more work spin for some milliseconds, on the next one's cores."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """What all contestants of a cell are given, and what the cell is called; the files hold the training images."""

    trial: Trial
    dataset: Dataset
    files: tuple[Path, ...]
    truth: Truth
    dtype: str
    place: str

    @property
    def loader(self) -> Loader:
        """Of the rows that are timed."""
        size, batch = len(self.dataset.train_labels), self.truth.plan.shape[1]
        return Loader(size=size, batch_size=batch, seed=self.trial.seed)

    def timed_plan(self, steps: int) -> NDArray[np.int32]:
        """(steps, batch): the truth's rows, by whose losses each timed call is judged, then the loader's."""
        head = self.truth.plan[:steps]
        return np.concatenate([head, timed_plan(self.loader, steps - len(head))])


@dataclass(eq=False)
class Racer:
    """A contestant on its way through a cell."""

    entrant: Entrant
    process: Process
    timeout: float
    devices: tuple[str, ...] = ()
    failure: str | None = None
    judged: Judged | None = None
    compile_seconds: float | None = None
    plan: NDArray[np.int32] | None = None
    ending: Ending | None = None
    rounds: list[Timed] = field(default_factory=list)
    description: str | None = None
    memory: Memory | None = None

    @property
    def racing(self) -> bool:
        """Whether it is still to be timed."""
        return self.failure is None and (self.judged is None or self.judged.passed)

    def has(self, device: str) -> bool:
        """Whether it can use the device; true of one that could not be asked, which is a row with its reason."""
        return device in self.devices or not self.racing

    def open(self) -> None:
        """Import it, and learn which devices it can use."""
        self.devices = tuple(self.ask("open"))

    def start(self, course: Course, device: str) -> None:
        """Give it the weights and the data."""
        self.ask(
            "start",
            weights=course.truth.start,
            sgd=course.trial.sgd,
            dtype=course.dtype,
            device=device,
            files=course.files,
        )

    def ask(self, method: str, **arguments: Any) -> Any:
        """The answer of its process."""
        return self.process.ask(method, timeout=self.timeout, **arguments)

    def run(self, plan: NDArray[np.int32]) -> Timed:
        """One timed call."""
        timed: Timed = self.ask("run", plan=plan)
        return timed

    def qualify(self, course: Course) -> None:
        """Judge it; then find how long its calls should be."""
        truth, trial = course.truth, course.trial
        first = self.run(truth.plan)
        self.judged = judge(truth, course.dtype, first.losses, self.ask("weights"))
        self.finish()
        if not self.judged.passed:
            return
        # Before a length is chosen: whoever stops soon would be given ever longer calls.
        self.look_to_the_end(course, course.timed_plan(BEYOND * len(truth.plan)))
        if not self.judged.passed:
            return
        again = faster_of_two(lambda _steps: self.run(truth.plan).seconds, len(truth.plan))
        self.compile_seconds = max(first.seconds - again, 0.0)
        steps = round_steps(
            lambda steps: self.run(course.timed_plan(steps)).seconds,
            short=len(truth.plan),
            short_seconds=again,
            target=trial.round_seconds,
            fed=self.ask("is_fed"),
        )
        self.plan = course.timed_plan(steps)
        self.look_to_the_end(course, self.plan)

    def look_to_the_end(self, course: Course, plan: NDArray[np.int32]) -> None:
        """Judge a call of this plan, and what later ones will be held against."""
        images, labels = course.dataset.train_images, course.dataset.train_labels
        whole = self.run(plan)
        ran = Ran(losses=whole.losses, weights=self.ask("weights"))
        self.ending = Ending(self.ask, course.truth, plan, course.trial.sgd, course.dtype, timeout=self.timeout)
        pieces = self.ending.judge_pieces(images, labels, seed=course.trial.seed)
        found = [each for each in (self.judged, self.ending.judge(ran), pieces) if each]
        self.judged = worst(found)

    def turn(self) -> None:
        """One round; what was judged in another call says nothing about this one."""
        assert self.plan is not None and self.ending is not None and self.judged is not None  # noqa: S101, PT018
        self.rounds.append(timed := self.run(self.plan))
        judged = self.ending.judge(Ran(losses=timed.losses, weights=self.ask("weights")))
        self.judged = worst([self.judged, judged])

    def finish(self) -> None:
        """What it says of itself."""
        self.description = self.ask("describe")
        self.memory = self.ask("memory")

    def attempt(self, what: Callable[..., None], *arguments: Any) -> None:
        """Do it, unless it is out; if it fails now, it is out."""
        if not self.racing:
            return
        try:
            what(self, *arguments)
        except ContestantError as failure:
            self.failure = str(failure)
        if not self.racing:
            self.process.kill()

    def row(self) -> Row:
        """What was found."""
        differs = self.judged is not None and not self.judged.passed
        outcome = FAILED if self.failure else DIFFERS if differs else TIMED
        rounds = self.rounds if outcome == TIMED else []
        return Row(
            contestant=self.entrant.label,
            outcome=outcome,
            reason=self.failure or (self.judged.line if differs and self.judged else None),
            description=self.description,
            judged=self.judged,
            compile_seconds=self.compile_seconds,
            steps=0 if self.plan is None else len(self.plan),
            seconds=tuple(timed.seconds for timed in rounds),
            cpu_seconds=tuple(timed.cpu_seconds for timed in rounds),
            memory=self.memory,
        )


def race(
    entrants: Sequence[Entrant],
    course: Course,
    announce: Callable[[str], None],
    *,
    on_device: Callable[[str], None] = lambda _device: None,
) -> tuple[str, tuple[Row, ...]]:
    """The device, and a row for each contestant that takes part, in their order.

    Args:
        entrants: at least one.
        course: what they are given.
        announce: is told what is going on.
        on_device: is told the device, before anything is computed on it.
    """
    trial = course.trial
    with ExitStack() as stack:
        racers = [
            Racer(entrant, stack.enter_context(Process(entrant.name, threads=trial.cores)), trial.timeout)
            for entrant in entrants
        ]
        on_device(device := _device(racers, trial.device))
        racers = [racer for racer in racers if not racer.entrant.unasked or racer.has(device)]
        for racer in racers:
            announce(f"{course.place}: {racer.entrant.label}: start, check, warm-up")
            racer.attempt(Racer.start, course, device)
            racer.attempt(Racer.qualify, course)
        for number, racer in _turns([racer for racer in racers if racer.racing], trial):
            announce(f"{course.place}: round {number + 1} of {trial.rounds}")
            tell(Progress(what=course.place, done=number, total=trial.rounds, unit="rounds"))
            time.sleep(PAUSE)
            racer.attempt(Racer.turn)
        for racer in racers:
            racer.attempt(Racer.finish)
        return device, tuple(racer.row() for racer in racers)


def _device(racers: Sequence[Racer], wanted: str) -> str:
    """Import all; "auto" is CUDA where every one that was asked for, and can be imported, has it."""
    for racer in racers:
        racer.attempt(Racer.open)
    if wanted != "auto":
        return wanted
    known = [racer.devices for racer in racers if racer.racing and not racer.entrant.unasked]
    return "cuda" if known and all("cuda" in devices for devices in known) else "cpu"


def _turns(racers: Sequence[Racer], trial: Trial) -> Iterator[tuple[int, Racer]]:
    for number, order in enumerate(orders(len(racers), trial.rounds, seed=trial.seed)):
        for place in order:
            yield number, racers[place]
