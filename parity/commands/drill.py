"""`parity drill`: would a check notice? Plants faults in a copy of a program, and says which are found."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parity.commands.options import FILE, device_option, echo, json_option

if TYPE_CHECKING:
    from parity.drill import Drilled, Subject
    from parity.drill.fault import Benign, Fault

__all__ = ["drill"]


@click.command()
@click.argument("implementation", required=False)
@click.option("--partner", help="The honest program beside it.  [default: parity.oracle, or itself]")
@click.option("--fault", "keys", multiple=True, metavar="KEY", help="Only this one; repeatable.")
@click.option("--side", type=click.Choice(["a", "b", "both"]), default="b", help="Where the faulty program stands.")
@click.option("--data", metavar="cifar10|embedded|FILE.npz", help="What the CNN sees.  [default: embedded]")
@click.option("--data-dir", type=FILE, help="Where CIFAR-10 is kept.  [default: the user's cache folder]")
@device_option
@json_option
def drill(
    implementation: str | None, keys: tuple[str, ...], side: str, json_file: Path | None, **arguments: Any
) -> None:
    """Plant known faults in a copy of IMPLEMENTATION, and say which of them `parity check` finds.

    IMPLEMENTATION is named MODULE or MODULE:ATTRIBUTE: of the CNN, or a program that brings its own data and optimizer.
    It gets the faults that fit it; without one, all are drilled, those inside the model included. Exit code 1 if one
    is missed, found in another place or too late, or if a change that is no fault is called one.

    Example: parity drill mypkg.jax_side:impl
    """
    from parity.data import check_writable, load_data
    from parity.drill import rates, subject_of
    from parity.environment import describe_environment
    from parity.render.drill import header, rate_lines, result_lines
    from parity.result import DrillReport, write_json

    if json_file is not None:
        check_writable(json_file, argument="json")
    _require_known(keys)
    data = arguments["data"]
    dataset = load_data(data, data_dir=arguments["data_dir"]) if data else None
    subject = subject_of(implementation, partner=arguments["partner"], dataset=dataset)
    origin = subject.dataset.origin if subject.dataset else f"{subject.side.name}'s own"
    click.echo(f"data: {origin}")
    click.echo(f"{subject.side.name} with a fault, beside {subject.partner.name}")
    click.echo(header())
    results = []
    for result in _results(subject, keys, ("a", "b") if side == "both" else (side,), arguments["device"]):
        results.append(result)
        echo(result_lines(result))
    _require_some(results, keys, subject.side.name)
    report = DrillReport(
        command=("parity", *sys.argv[1:]),
        environment=describe_environment(),
        data=origin,
        implementation=subject.side.name,
        partner=subject.partner.name,
        results=tuple(results),
        rates=rates(results),
    )
    echo(rate_lines(report.rates))
    if json_file is not None:
        write_json(json_file, report)
        click.echo(f"wrote {json_file}: the report")
    sys.exit(report.exit_code)


def _results(subject: Subject, keys: Sequence[str], sides: Sequence[str], device: str) -> Iterator[Drilled]:
    """Group by group."""
    from parity.drill import drill as run_drill

    for group, faults in _groups().items():
        chosen = [fault for fault in faults if not keys or fault.key in keys]
        yield from run_drill(chosen, subject, group=group, sides=sides, device=device)


def _groups() -> dict[str, Sequence[Fault | Benign]]:
    from parity.drill import BENIGN, CATALOGUE, OUTSIDE

    return {"catalogue": CATALOGUE, "outside": OUTSIDE, "benign": BENIGN}


def _require_known(keys: Sequence[str]) -> None:
    from parity.contract import InputError

    known = [fault.key for faults in _groups().values() for fault in faults]
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3) or known[:3]
            raise InputError("fault", key, "there is no such fault", f"give one like {', '.join(near)}")


def _require_some(results: Sequence[Drilled], keys: Sequence[str], name: str) -> None:
    """A drill of nothing finds everything."""
    from parity.contract import InputError

    if not any(result.applies for result in results):
        problem = f"it has no place in {name}"
        raise InputError("fault", ", ".join(keys) or "all", problem, "leave it out, or drill without IMPLEMENTATION")
