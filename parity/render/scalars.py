"""A run's scalars as TensorBoard's event files, one run a side: losses of every step, accuracies of every epoch.

    loss/step                   each side, at every step
    accuracy/test               each side, after every epoch and at the end, counted by the steps done; so
                                accuracy/NAME of each class
    difference/loss             the second side, |a - b| / max(|a|, |b|) at every step
    difference/parameters       the second side, the largest relative difference of a tensor after each chunk

The writer is TensorBoard's own, which torch.utils.tensorboard writes with too.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from parity.compare import loss_differences
from parity.contract import InputError
from parity.run import Result

__all__ = ["check_tensorboard", "run_folder", "write_scalars"]

EVENTS = "events.out.tfevents.*"

Scalar = tuple[str, int, float]
"""Its name, the step, and the value."""


def run_folder(folder: Path, name: str) -> Path:
    """Where a side's run is: TensorBoard names it after the folder."""
    return folder / name.replace(":", "-")


def check_tensorboard(folder: Path, names: tuple[str, ...]) -> None:
    """Refuse what would fail after the training: TensorBoard is missing, or the folder holds a run already.

    Raises:
        InputError: either.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("tensorboard", folder, "TensorBoard is not installed", "pip install '.[tensorboard]'")
    for name in names:
        if any((held := run_folder(folder, name)).glob(EVENTS)):
            raise InputError("tensorboard", folder, f"{held} holds a run already", "name another folder")


def write_scalars(folder: Path, result: Result, *, steps_per_epoch: int) -> tuple[Path, ...]:
    """Write one run for each side; returns their folders.

    Args:
        folder: made if it does not exist; one folder below it for each side.
        result: a run of one or two sides.
        steps_per_epoch: where the accuracies stand.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folders = tuple(run_folder(folder, side.name) for side in result.run.sides)
    for number, path in enumerate(folders):
        path.mkdir(parents=True, exist_ok=True)
        writer = EventFileWriter(str(path))
        now = time.time()  # of the writing: when each step was taken is not recorded
        for name, step, value in _scalars(result, number, steps_per_epoch):
            summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            writer.add_event(Event(wall_time=now, step=step, summary=summary))
        writer.close()
    return folders


def _scalars(result: Result, number: int, steps_per_epoch: int) -> Iterator[Scalar]:
    run = result.run
    for step, loss in enumerate(run.sides[number].all_losses):
        yield "loss/step", step, float(loss)
    classes = result.report.data.classes
    for epoch in run.epochs:
        done = epoch.epoch * steps_per_epoch
        yield from _accuracies(classes, done, epoch.accuracies[number], epoch.accuracies_per_class[number])
    final = result.report.sides[number].predictions
    if final and run.steps != len(run.epochs) * steps_per_epoch:  # it ended within an epoch
        yield from _accuracies(classes, run.steps, final.accuracy, final.accuracy_per_class)
    if number == 1:
        for step, difference in enumerate(loss_differences(*(np.asarray(side.all_losses) for side in run.sides[:2]))):
            yield "difference/loss", step, float(difference)
        for gap in run.gaps:
            yield "difference/parameters", gap.steps, gap.parameters.difference


def _accuracies(classes: Sequence[str], done: int, whole: float, single: Sequence[float | None]) -> Iterator[Scalar]:
    yield "accuracy/test", done, whole
    for name, share in zip(classes, single, strict=True):
        if share is not None:
            yield f"accuracy/{name}", done, share
