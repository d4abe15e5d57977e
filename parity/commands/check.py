"""`parity check`: a verdict on two programs within seconds; `parity explain`: why they differ."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from parity.commands.completion import complete_data, complete_implementations
from parity.commands.options import (
    FILE,
    batch_options,
    device_option,
    json_option,
    settings_from,
    sgd_options,
    weights_option,
)
from parity.commands.output import check_output, conclude, keep, say
from parity.commands.progress import bars
from parity.commands.reporting import report_options, reporting
from parity.commands.summary import keep_summary, summary_option

if TYPE_CHECKING:
    from parity.prepare import Prepared
    from parity.result import CheckReport
    from parity.settings import Settings, Side

__all__ = ["check", "explain"]


def _checked(command: Callable[..., None]) -> click.Command:
    """A command with the options of a check."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return click.command()(command)


_OPTIONS = (
    click.argument("a", default="torch_impl", shell_complete=complete_implementations),
    click.argument("b", default="jax_impl", shell_complete=complete_implementations),
    click.option(
        "--data",
        metavar="auto|cifar10|embedded|FILE.npz",
        help="What the CNN sees.  [default: auto]",
        shell_complete=complete_data,
    ),
    click.option("--data-dir", type=FILE, help="Where CIFAR-10 is kept.  [default: the user's cache folder]"),
    batch_options,
    click.option("--steps", type=click.IntRange(2, 100), default=6, help="How many steps to observe."),
    sgd_options,
    device_option,
    weights_option,
    click.option("--map", "mapping", multiple=True, metavar="A=B", help="B's name of A's tensor; repeatable."),
    json_option,
    summary_option,
    report_options,
)


@_checked
def check(**arguments: Any) -> None:
    """Compare every stage of a few steps of A and B, and say where they part.

    A and B are implementations, named MODULE or MODULE:ATTRIBUTE: of the CNN, or programs that bring their own data and
    optimizer, made by torch_impl.adapt and jax_impl.adapt.

    Example: parity check torch_impl jax_impl
    """
    from parity.render.check import check_lines

    _run(arguments, check_lines)


@_checked
def explain(**arguments: Any) -> None:
    """Say why A and B differ: the causes, in the order of the stages, with what each leaves unexplained.

    It checks them as `parity check` does. Each stage of either side is predicted from what the same side recorded
    before it; faults that ports are known to have are fitted to what deviates, and are causes if they predict it to
    rounding.

    Example: parity explain torch_impl jax_impl
    """
    from parity.render.explanation import explanation_lines

    _run(arguments, explanation_lines)


def _run(arguments: dict[str, Any], lines: Callable[[CheckReport], Iterator[str]]) -> NoReturn:
    """Check, print, write the report, and end with the verdict's exit code."""
    from parity.checking import check as run_check
    from parity.commands.schedule import scheduled
    from parity.data import Loader, fingerprint
    from parity.environment import describe_environment
    from parity.render.summary import check_summary
    from parity.report import html
    from parity.result import CheckReport
    from parity.run import resolve_sides

    page = reporting(arguments, (arguments["a"], arguments["b"]))
    json_file: Path | None = arguments.pop("json_file")
    summary_file: Path | None = arguments.pop("summary_file")
    steps: int = arguments.pop("steps")
    settings = settings_from(arguments)
    check_output(json_file, argument="json")
    check_output(summary_file, argument="summary")
    with page:
        with bars():
            first, second = resolve_sides((arguments["a"], arguments["b"]))
            prepared = _prepare((first, second), settings, arguments["mapping"], arguments)
        loader = Loader(size=prepared.problem.size, batch_size=settings.batch_size, seed=settings.seed)
        settings = scheduled(settings, loader, per=arguments["per"], steps=steps)
        say(f"data: {prepared.data}")
        with bars():
            checked = run_check(prepared.sides, prepared.problem, settings, steps=steps, details=page.file is not None)
        report = CheckReport(
            command=("parity", *sys.argv[1:]),
            environment=describe_environment(),
            data=prepared.data,
            settings=settings,
            names=(first.name, second.name),
            notes=prepared.notes,
            check=checked,
            data_sha256=prepared.problem.fingerprint(),
            weights_sha256=fingerprint(prepared.problem.weights),
        )
        verdict = conclude(lines(report), report.exit_code)
        page.write(lambda: html(report), verdict=verdict)  # first: what was asked for besides may fail
        keep(json_file, report.to_json, "the report")
        keep_summary(summary_file, lambda: check_summary(report))
    sys.exit(report.exit_code)


def _prepare(
    sides: tuple[Side, Side], settings: Settings, mapping: tuple[str, ...], arguments: dict[str, Any]
) -> Prepared:
    """Own programs bring their data; the CNN gets what the options name."""
    from parity.contract import SelfContained
    from parity.data import load_data, load_weights
    from parity.prepare import prepare

    own = any(isinstance(side.implementation, SelfContained) for side in sides)
    name, weights = arguments["data"], arguments["weights"]
    dataset = load_data(name or "auto", data_dir=arguments["data_dir"]) if name or not own else None
    return prepare(
        *sides,
        dataset=dataset,
        weights=load_weights(weights) if weights else None,
        mapping=mapping,
        settings=settings,
    )
