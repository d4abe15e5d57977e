"""`parity bench` as a function: the limits of the machine, then cell by cell.

A cell's processes are its own: nothing is left in them from the cell before, neither memory nor what was compiled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from parity.bench.contender import shared
from parity.bench.contestants import Entrant
from parity.bench.limits import PROBES, Limits, best_of, floor_seconds
from parity.bench.process import ContestantError, Process
from parity.bench.race import Course, race
from parity.bench.report import BenchReport, Cell, Row
from parity.bench.trial import Trial
from parity.bench.truth import Truth, true_run
from parity.bench.work import step_work
from parity.contract import InputError, initial_weights
from parity.data import Dataset
from parity.environment import describe_environment

__all__ = ["benchmark", "measure_limits"]


def benchmark(
    entrants: Sequence[Entrant],
    dataset: Dataset,
    trial: Trial,
    *,
    command: Sequence[str] = (),
    announce: Callable[[str], None] = lambda _line: None,
    on_cell: Callable[[Cell], None] = lambda _cell: None,
) -> BenchReport:
    """Judge and time contestants.

    Args:
        entrants: at least one; equal labels would be one line of a figure.
        dataset: the training images are used.
        trial: what is timed.
        command: for the report.
        announce: is told what is going on.
        on_cell: is given each cell when it is done, with the floor by the limits that are known by then; the report
            has it by those of the whole benchmark.

    Raises:
        InputError: a batch is larger than the data set, or the images say nothing (`parity.bench.truth`).
    """
    size = len(dataset.train_labels)
    for batch_size in trial.batch_sizes:
        if batch_size > size:
            raise InputError("batch_sizes", batch_size, f"the training set has {size} images", f"give 1 to {size}")
    rates = _Rates(trial, announce)
    load = os.getloadavg()[0]
    announce("computing what is right")  # for all cells: images that say nothing are refused before anything is timed
    truths = {batch_size: _truth(dataset, trial, batch_size) for batch_size in trial.batch_sizes}
    cells = []
    with shared(dataset.train_images, dataset.train_labels) as files:
        for dtype in trial.dtypes:
            for batch_size, truth in truths.items():
                place = f"{dtype}, batch {batch_size}"
                course = Course(trial=trial, dataset=dataset, files=files, truth=truth, dtype=dtype, place=place)
                loads = [os.getloadavg()[0]]
                device, rows = race(entrants, course, announce, on_device=rates.measure)
                loads.append(os.getloadavg()[0])
                rates.measure(device)
                cells.append(replace(_cell(device, dtype, batch_size, rows, rates.of(device)), load=max(loads)))
                on_cell(cells[-1])
    return BenchReport(
        command=tuple(command),
        environment=describe_environment(),
        data=dataset.origin,
        threads=trial.cores,
        rounds=trial.rounds,
        load=load,
        limits=rates.of(cells[-1].device),
        cells=tuple(
            replace(_cell(c.device, c.dtype, c.batch_size, c.rows, rates.of(c.device)), load=c.load) for c in cells
        ),
    )


class _Rates:
    """The best limits that were measured so far, of each device."""

    def __init__(self, trial: Trial, announce: Callable[[str], None]) -> None:
        self._trial, self._announce = trial, announce
        self._best: dict[str, tuple[Limits, ...]] = {}

    def measure(self, device: str) -> None:
        """Measure again; a measurement that fails takes nothing from those before."""
        found = tuple(measure_limits(self._trial, device, self._announce))
        known = self._best.get(device, ())
        both = tuple(best_of(*pair) for pair in zip(known, found, strict=False))
        self._best[device] = both or known or found

    def of(self, device: str) -> tuple[Limits, ...]:
        """With the contestants' threads, and on the CPU with one; () where nothing measures it."""
        return self._best[device]


def measure_limits(trial: Trial, device: str, announce: Callable[[str], None]) -> Sequence[Limits]:
    """What the device can do with the contestants' threads, and on the CPU with one; () where nothing measures it."""
    found = []
    for threads in sorted({trial.cores, 1} if device == "cpu" else {trial.cores}, reverse=True):
        announce(f"measuring the {device}'s limits, {threads} threads")
        with Process(PROBES[device], threads=threads) as process:
            try:
                fields = process.ask("measure", timeout=trial.timeout, threads=threads, dtypes=trial.dtypes)
            except ContestantError as failure:
                announce(f"the limits of {device} are not known: {failure}")
                return ()
        found.append(Limits(**fields))
    return found


def _truth(dataset: Dataset, trial: Trial, batch_size: int) -> Truth:
    weights = initial_weights(trial.seed)
    images, labels = dataset.train_images, dataset.train_labels
    return true_run(weights, trial.sgd, images, labels, batch_size=batch_size, seed=trial.seed)


def _cell(device: str, dtype: str, batch_size: int, rows: tuple[Row, ...], limits: Sequence[Limits]) -> Cell:
    work = step_work(batch_size, dtype)
    floors = [floor_seconds(work, each, dtype) for each in limits]
    # A disturbed measurement of many threads may come out below one thread's: a floor is the least of both.
    floor, bound = min(floors, default=(None, None))
    single = [seconds for (seconds, _), each in zip(floors, limits, strict=True) if each.threads == 1]
    return Cell(
        dtype=dtype,
        batch_size=batch_size,
        device=device,
        floor=floor,
        bound=bound,
        single_floor=single[0] if single and device == "cpu" else None,
        rows=rows,
    )
