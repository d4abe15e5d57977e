"""`parity drill`: would a check notice? Plants faults in a copy of a program, and says which are found."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parity.commands.completion import complete_data, complete_faults, complete_implementations
from parity.commands.options import FILE, device_option, json_option
from parity.commands.output import check_output, conclude, echo, keep, say
from parity.commands.progress import bars
from parity.commands.reporting import report_options, reporting
from parity.commands.summary import keep_summary, summary_option
from parity.progress import Progress, tell

if TYPE_CHECKING:
    from parity.drill import Drilled, Subject
    from parity.drill.fault import Benign, Fault

__all__ = ["drill"]

FAULTS = "faults drilled"
"""The row of the bars."""


@click.command()
@click.argument("implementation", required=False, shell_complete=complete_implementations)
@click.option(
    "--partner",
    help="The honest program beside it.  [default: parity.oracle, or itself]",
    shell_complete=complete_implementations,
)
@click.option(
    "--fault", "keys", multiple=True, metavar="KEY", help="Only this one; repeatable.", shell_complete=complete_faults
)
@click.option("--side", type=click.Choice(["a", "b", "both"]), default="b", help="Where the faulty program stands.")
@click.option(
    "--data",
    metavar="cifar10|embedded|FILE.npz",
    help="What the CNN sees.  [default: embedded]",
    shell_complete=complete_data,
)
@click.option("--data-dir", type=FILE, help="Where CIFAR-10 is kept.  [default: the user's cache folder]")
@device_option
@json_option
@summary_option
@report_options
def drill(
    implementation: str | None,
    keys: tuple[str, ...],
    side: str,
    summary_file: Path | None,
    **arguments: Any,
) -> None:
    """Plant known faults in a copy of IMPLEMENTATION, and say which of them `parity check` finds.

    IMPLEMENTATION is named MODULE or MODULE:ATTRIBUTE: of the CNN, or a program that brings its own data and optimizer.
    It gets the faults that fit it; without one, all are drilled, those inside the model included. Exit code 1 if one
    is missed, found in another place or too late, or if a change that is no fault is called one.

    Example: parity drill mypkg.jax_side:impl
    """
    from parity.data import load_data
    from parity.drill import rates, subject_of
    from parity.environment import describe_environment
    from parity.render.drill import header, left_out_lines, rate_lines, result_lines
    from parity.render.summary import drill_summary
    from parity.report import html
    from parity.result import DrillReport

    json_file: Path | None = arguments["json_file"]
    check_output(json_file, argument="json")
    check_output(summary_file, argument="summary")
    _require_known(keys)
    page = reporting(arguments, (implementation or "the CNN",))
    with page:
        data = arguments["data"]
        dataset = load_data(data, data_dir=arguments["data_dir"]) if data else None
        subject = subject_of(implementation, partner=arguments["partner"], dataset=dataset)
        origin = subject.dataset.origin if subject.dataset else f"{subject.side.name}'s own"
        say(f"data: {origin}")
        say(f"{subject.side.name} with a fault, beside {subject.partner.name}")
        say(header())
        sides = ("a", "b") if side == "both" else (side,)
        chosen = [fault for faults in _groups(keys).values() for fault in faults]
        left_out = [] if keys else [fault.key for fault in chosen if not subject.takes(fault)]
        planned = len(sides) * (len(chosen) - len(left_out))
        results: list[Drilled] = []

        def reported() -> DrillReport:
            return DrillReport(
                command=("parity", *sys.argv[1:]),
                environment=describe_environment(),
                data=origin,
                implementation=subject.side.name,
                partner=subject.partner.name,
                results=tuple(results),
                rates=rates(results),
            )

        try:
            with bars(FAULTS):
                for result in _results(subject, keys, sides, arguments["device"]):
                    results.append(result)
                    echo(result_lines(result))
                    tell(Progress(what=FAULTS, done=len(results), total=planned, unit="faults"))
        except KeyboardInterrupt:
            keep(json_file, lambda: reported().to_json(), "what was drilled so far")
            raise
        _require_some(results, keys, subject.side.name)
        report = reported()
        echo(left_out_lines(left_out))
        verdict = conclude(rate_lines(report.rates), report.exit_code)
        page.write(lambda: html(report), verdict=verdict)  # first: what was asked for besides may fail
        keep(json_file, report.to_json, "the report")
        keep_summary(summary_file, lambda: drill_summary(report))
    sys.exit(report.exit_code)


def _results(subject: Subject, keys: Sequence[str], sides: Sequence[str], device: str) -> Iterator[Drilled]:
    """Group by group."""
    from parity.drill import drill as run_drill

    for group, faults in _groups(keys).items():
        yield from run_drill(faults, subject, group=group, sides=sides, device=device, listed=bool(keys))


def _groups(keys: Sequence[str] = ()) -> dict[str, Sequence[Fault | Benign]]:
    """The faults of these keys by group; without keys all."""
    from parity.drill import BENIGN, CATALOGUE, OUTSIDE

    groups: dict[str, Sequence[Fault | Benign]]
    groups = {"catalogue": CATALOGUE, "outside": OUTSIDE, "benign": BENIGN}
    return {name: [fault for fault in faults if not keys or fault.key in keys] for name, faults in groups.items()}


def _require_known(keys: Sequence[str]) -> None:
    from parity.contract import InputError, nearest_name

    known = [fault.key for faults in _groups().values() for fault in faults]
    for key in keys:
        if key not in known:
            fix = nearest_name(key, known, f"give one like {', '.join(known[:3])}", alone=True)
            raise InputError("fault", key, "there is no such fault", fix)


def _require_some(results: Sequence[Drilled], keys: Sequence[str], name: str) -> None:
    """A drill of nothing finds everything."""
    from parity.contract import InputError

    if not any(result.applies for result in results):
        problem = f"it has no place in {name}"
        raise InputError("fault", ", ".join(keys) or "all", problem, "leave it out, or drill without IMPLEMENTATION")
