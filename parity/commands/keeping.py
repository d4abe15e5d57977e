"""What `parity run` and `parity train` keep of a run beside the report: a summary, pictures, TensorBoard's scalars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parity.commands.output import check_output, say
from parity.commands.summary import keep_summary, summary_option

if TYPE_CHECKING:
    from parity.data import Dataset
    from parity.run import Result

__all__ = ["check_kept", "keep_run", "keeping_options"]

FILE = click.Path(path_type=Path)


def keeping_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of `keep_run`."""
    pictures = click.option(
        "--pictures",
        type=FILE,
        metavar="DIR",
        help="Draw losses, accuracies, predictions (PNG, SVG) into this folder.",
    )
    scalars = click.option(
        "--tensorboard", type=FILE, metavar="DIR", help="Write each side's scalars as a run for TensorBoard."
    )
    return summary_option(pictures(scalars(command)))


def check_kept(names: tuple[str, ...], arguments: dict[str, Any]) -> None:
    """Refuse what could not be written, before anything is trained.

    Raises:
        InputError: says what.
    """
    from parity.data import check_folder

    check_output(arguments["summary_file"], argument="summary")
    for argument in ("pictures", "tensorboard"):
        if arguments[argument] is not None:
            check_folder(arguments[argument], argument=argument)
    if arguments["tensorboard"] is not None:
        from parity.render.scalars import check_tensorboard

        check_tensorboard(arguments["tensorboard"], names)


def keep_run(result: Result, dataset: Dataset, arguments: dict[str, Any], *, steps_per_epoch: int) -> None:
    """Write what was asked for, and say so; pictures and scalars of the training alone, which may not have begun."""
    from parity.render.summary import run_summary

    keep_summary(arguments["summary_file"], lambda: run_summary(result.report))
    if result.report.ending.phase != "training":
        return
    if (folder := arguments["pictures"]) is not None:
        _keep_pictures(folder, result, dataset)
    if (folder := arguments["tensorboard"]) is not None:
        from parity.render.scalars import write_scalars

        runs = write_scalars(folder, result, steps_per_epoch=steps_per_epoch)
        say(f"wrote {' and '.join(map(str, runs))}: for tensorboard --logdir {folder}")


def _keep_pictures(folder: Path, result: Result, dataset: Dataset) -> None:
    """All are drawn before the first is written."""
    from parity.data import replacing
    from parity.render.pictures import pictures

    drawn = list(pictures(result, dataset))
    folder.mkdir(exist_ok=True)
    for name, content in drawn:
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)
    say(f"wrote {', '.join(name for name, _ in drawn) or 'nothing'} into {folder}")
