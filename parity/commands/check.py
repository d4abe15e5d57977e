"""`parity check`: a verdict on two programs within seconds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parity.commands.options import (
    FILE,
    batch_options,
    device_option,
    echo,
    json_option,
    settings_from,
    sgd_options,
    weights_option,
)

if TYPE_CHECKING:
    from parity.prepare import Prepared
    from parity.settings import Settings, Side

__all__ = ["check"]


@click.command()
@click.argument("a", default="torch_impl")
@click.argument("b", default="jax_impl")
@click.option("--data", metavar="auto|cifar10|embedded|FILE.npz", help="What the CNN sees.  [default: auto]")
@click.option("--data-dir", type=FILE, help="Where CIFAR-10 is kept.  [default: the user's cache folder]")
@batch_options
@click.option("--steps", type=click.IntRange(2, 100), default=6, help="How many steps to observe.")
@sgd_options
@device_option
@weights_option
@click.option("--map", "mapping", multiple=True, metavar="A=B", help="B's name of A's tensor; repeatable.")
@json_option
def check(a: str, b: str, steps: int, json_file: Path | None, mapping: tuple[str, ...], **arguments: Any) -> None:
    """Compare every stage of a few steps of A and B, and say where they part.

    A and B are implementations, named MODULE or MODULE:ATTRIBUTE: of the CNN, or programs that bring their own data and
    optimizer, made by torch_impl.adapt and jax_impl.adapt.

    Example: parity check torch_impl jax_impl
    """
    from parity.checking import check as run_check
    from parity.commands.schedule import scheduled
    from parity.data import Loader, check_writable
    from parity.environment import describe_environment
    from parity.render.check import check_lines
    from parity.result import CheckReport, write_json
    from parity.run import resolve_sides

    settings = settings_from(arguments)
    if json_file is not None:
        check_writable(json_file, argument="json")
    first, second = resolve_sides((a, b))
    prepared = _prepare((first, second), settings, mapping, arguments)
    loader = Loader(size=prepared.problem.size, batch_size=settings.batch_size, seed=settings.seed)
    settings = scheduled(settings, loader, per=arguments["per"], steps=steps)
    click.echo(f"data: {prepared.data}")
    report = CheckReport(
        command=("parity", *sys.argv[1:]),
        environment=describe_environment(),
        data=prepared.data,
        settings=settings,
        names=(first.name, second.name),
        notes=prepared.notes,
        check=run_check(prepared.sides, prepared.problem, settings, steps=steps),
    )
    echo(check_lines(report))
    if json_file is not None:
        write_json(json_file, report)
        click.echo(f"wrote {json_file}: the report")
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
