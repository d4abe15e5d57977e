"""What commands share: options, and what prints while they work. Nothing is imported before it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parity.commands.completion import complete_data, complete_schedules, one_of
from parity.commands.output import echo, owner_of, quiet_option, say

if TYPE_CHECKING:
    from parity.compare import Verdict
    from parity.running.history import EpochResult, Window
    from parity.settings import Settings

__all__ = [
    "FILE",
    "Printer",
    "batch_options",
    "data_options",
    "device_option",
    "echo",
    "json_option",
    "settings_from",
    "sgd_options",
    "training_options",
    "weights_option",
]

FILE = click.Path(path_type=Path)


def _together(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several decorators as one, in reading order."""

    def apply(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


data_options = _together(
    click.option(
        "--data",
        default="auto",
        metavar="auto|cifar10|embedded|FILE.npz",
        help="What to train on.",
        shell_complete=complete_data,
    ),
    click.option("--data-dir", type=FILE, help="Where CIFAR-10 is kept.  [default: the user's cache folder]"),
)
batch_options = _together(
    click.option("--batch-size", type=int, default=4, help="Images in a step."),
    click.option("--seed", type=int, default=0, help="Of the initial weights and the order of the images."),
)
sgd_options = _together(
    click.option("--lr", type=float, default=0.001, help="Learning rate."),
    click.option("--momentum", type=float, default=0.9),
    click.option("--dampening", type=float, default=0.0),
    click.option("--weight-decay", type=float, default=0.0, help="L2 factor, added to the gradient."),
    click.option("--nesterov", is_flag=True, help="Nesterov momentum."),
    click.option("--maximize", is_flag=True, help="Climb the loss."),
    click.option(
        "--schedule",
        metavar="KIND:NAME=VALUE,...",
        help="How lr changes: step:step_size=10,gamma=0.5.",
        shell_complete=complete_schedules,
    ),
    click.option(
        "--per",
        default="step",
        metavar="step|epoch",
        help="What a schedule counts.",
        shell_complete=one_of("step", "epoch"),
    ),
    click.option("--clip-norm", type=float, help="Largest norm of all gradients together."),
    click.option("--clip-value", type=float, help="Largest absolute value in a gradient."),
    click.option("--decay-biases/--no-decay-biases", default=True, help="Weight decay on biases too."),
)
device_option = click.option(
    "--device", default="auto", metavar="auto|cpu|cuda", shell_complete=one_of("auto", "cpu", "cuda")
)
weights_option = click.option("--weights", type=FILE, help="Start from this safetensors file.")
training_options = _together(
    data_options,
    batch_options,
    click.option("--epochs", type=int, default=3),
    click.option("--steps", type=int, help="Stop after so many steps."),
    sgd_options,
    click.option("--dtype", default="float32", metavar="float32|float64", shell_complete=one_of("float32", "float64")),
    device_option,
    weights_option,
)
_json_option = click.option(
    "--json", "json_file", type=FILE, callback=owner_of, help="Write the report here; - for standard output alone."
)
json_option = _together(_json_option, quiet_option)


def settings_from(arguments: dict[str, Any]) -> Settings:
    """The settings that the training options give; a schedule counts steps until `scheduled` says otherwise.

    Raises:
        InputError: a value is out of range.
    """
    from parity.commands.schedule import parse_schedule
    from parity.contract import SGD
    from parity.settings import Settings

    sgd_names = [field.name for field in fields(SGD) if field.name != "schedule"]
    schedule = parse_schedule(arguments["schedule"]) if arguments["schedule"] is not None else None
    names = ("batch_size", "epochs", "steps", "seed", "dtype", "device")
    sgd = SGD(schedule=schedule, **{name: arguments[name] for name in sgd_names})
    return Settings(sgd=sgd, **{name: arguments[name] for name in names if name in arguments})


class Printer:
    """Prints what happens while it happens."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def started(self, descriptions: tuple[str, ...]) -> None:
        """The sides are ready."""
        from parity.render import terminal

        for name, description in zip(self._names, descriptions, strict=True):
            say(f"{name}: {description}")
        say(terminal.header(self._names))

    def window(self, window: Window) -> None:
        """The mean losses since the last line."""
        from parity.render import terminal

        say(terminal.window_line(window))

    def epoch(self, result: EpochResult) -> None:
        """The test set's accuracy."""
        from parity.render import terminal

        say(terminal.epoch_line(result))

    def verdict(self, verdict: Verdict) -> None:
        """The float64 verdict."""
        from parity.render import terminal

        echo(terminal.verdict_lines(verdict))
