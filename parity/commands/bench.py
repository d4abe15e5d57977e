"""`parity bench`: how fast programs train, which of them compute the same thing, and what the machine could do."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from parity.commands.completion import complete_implementations, complete_peers
from parity.commands.options import FILE, data_options, device_option, json_option
from parity.commands.output import check_output, conclude, echo, keep, keep_so_far, say
from parity.commands.progress import announced, bars
from parity.commands.reporting import Reporting, report_options, reporting

if TYPE_CHECKING:
    from parity.bench.contestants import Entrant
    from parity.bench.report import BenchReport
    from parity.bench.trial import Trial
    from parity.study import Figure

__all__ = ["bench"]

TWINS = ("torch_impl", "jax_impl")
"""Who is meant where nobody is named."""

UNUSED = {
    "scaling": ("peers", "reference", "batch_sizes"),
    "judge": ("peers", "reference", "batch_sizes", "dtypes", "round_seconds", "seed", "figures"),
}
"""What a task has no use for; to compare two files nothing else is used."""


@click.command()
@click.argument("names", nargs=-1, metavar="[IMPLEMENTATION]...", shell_complete=complete_implementations)
@click.option(
    "--peers", metavar="NAME,...|all", help="Other ways to train the CNN, beside them.", shell_complete=complete_peers
)
@click.option("--reference/--no-reference", default=True, help="The compiled reference step too, if it is installed.")
@click.option("--batch-sizes", default="4,32,128", metavar="N,...", help="Images in a step.")
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    default=("float32",),
    metavar="float32|float64|tf32",
    help="Repeatable. tf32: float32 whose products may be TF32's, with --device cuda.",
)
@device_option
@click.option("--threads", type=int, help="Of each contestant, on as many cores.  [default: all]")
@click.option("--rounds", type=int, default=15, help="How often each is timed, at least 5.")
@click.option("--round-seconds", type=float, default=0.5, help="How long a round takes each.")
@click.option("--timeout", type=float, default=600.0, help="Seconds that a contestant may take for a call.")
@click.option("--seed", type=int, default=0, help="Of weights, images and turns.")
@data_options
@json_option
@click.option("--figures", type=FILE, metavar="DIR", help="Write figures (PNG, SVG) into this folder.")
@click.option("--scaling", is_flag=True, help="How time grows with batch, width, steps and data, instead.")
@click.option("--judge", is_flag=True, help="What judging costs, instead: start-up, check, lockstep, recording.")
@click.option("--compare", "old", type=FILE, metavar="OLD.json", help="Say what has changed since then.")
@click.option("--with", "new", type=FILE, metavar="NEW.json", help="Compare with this, and measure nothing.")
@report_options
def bench(names: tuple[str, ...], figures: Path | None, **arguments: Any) -> None:
    """Time training steps of implementations and peers: judged first, then in turns.

    Each runs in a process of its own. One that does not compute what it should is not timed (exit code 1); one that
    fails is a row with its reason (exit code 2), and the others are timed.

    Example: parity bench torch_impl jax_impl --peers nnx --batch-sizes 4,128
    """
    from parity.bench.report import read_report
    from parity.data import check_folder
    from parity.report import html

    json_file: Path | None = arguments["json_file"]
    _require_one_task(arguments)
    _require_used(click.get_current_context())
    _leave_by_exception()
    check_output(json_file, argument="json")
    if figures is not None:
        check_folder(figures, argument="figures")
    old = read_report(arguments["old"], argument="compare") if arguments["old"] else None
    if old and arguments["new"]:
        new = read_report(arguments["new"], argument="with")
        page = reporting(arguments, ())
        _compare(old, new)
        page.write(lambda: html(new, old=old))
        return
    if arguments["judge"]:
        sys.exit(_judge(names, json_file, arguments))
    if arguments["scaling"]:
        sys.exit(_scale(names, json_file, figures, arguments))
    trial, entrants = _trial(arguments), _entrants(names, arguments)  # the bad arguments first, then who is left out
    with _page(arguments, [entrant.label for entrant in entrants]) as page:
        report = _measure(entrants, trial, arguments)
        _write(report, json_file, figures)
        if old:
            _compare(old, report)
        page.write(lambda: html(report, old=old))
    sys.exit(report.exit_code)


def _page(arguments: dict[str, Any], names: Sequence[str]) -> Reporting:
    """The page of what is about to be measured."""
    return reporting(arguments, (", ".join(names),))


def _leave_by_exception() -> None:
    """Where a signal would end this process at once: so that what the contestants have started is ended too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda number, _frame: sys.exit(128 + number))


def _require_one_task(arguments: dict[str, Any]) -> None:
    from parity.contract import InputError

    if arguments["new"] is not None and arguments["old"] is None:
        raise InputError("with", arguments["new"], "there is nothing to compare it with", "give --compare too")
    tasks = [name for name in ("scaling", "judge", "old") if arguments[name]]
    if len(tasks) > 1:
        spelled = "compare" if tasks[1] == "old" else tasks[1]
        raise InputError(spelled, arguments[tasks[1]], f"--{tasks[0]} measures something else", "give one of them")


def _require_used(context: click.Context) -> None:
    """Refuse what was given and would be passed over in silence."""
    from parity.contract import InputError

    spelled = {str(p.name): p.opts[0].removeprefix("--").replace("-", "_") for p in context.command.params}
    values = {name: value for name, value in context.params.items() if _is_given(context, name)}
    used = ("old", "new", "report", "no_report")
    unused = {**UNUSED, "new": tuple(name for name in spelled if name not in used)}
    for task, names in unused.items():
        for name in names if values.get(task) else ():
            if name in values:
                value = ", ".join(map(str, values[name])) if isinstance(values[name], tuple) else values[name]
                raise InputError(spelled[name], value, f"--{spelled[task]} does not use it", "leave it out")


def _is_given(context: click.Context, name: str) -> bool:
    """Whether it stands on the command line; of names there may be none."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE and context.params[name] != ()


def _entrants(names: Sequence[str], arguments: dict[str, Any]) -> Sequence[Entrant]:
    """Who is timed; peers alone, if no implementation is named beside them."""
    from parity.bench.contestants import (
        INSTALL,
        absent_peers,
        absent_reference,
        chosen_peers,
        named,
        with_reference,
    )
    from parity.contract import InputError

    peers = arguments["peers"]
    entrants = named(names or (() if peers else TWINS))
    if peers:
        echo(absent_peers(peers))
        entrants += chosen_peers(peers)
    if arguments["reference"]:
        entrants = with_reference(entrants)
        echo(absent_reference(peers))
    if not entrants:
        raise InputError("peers", peers, "none of them is installed", INSTALL)
    return entrants


def _trial(arguments: dict[str, Any]) -> Trial:
    from parity.bench.trial import Trial

    same = ("device", "threads", "rounds", "round_seconds", "timeout", "seed")
    return Trial(
        batch_sizes=_numbers("batch_sizes", arguments["batch_sizes"]),
        dtypes=tuple(dict.fromkeys(arguments["dtypes"])),
        **{name: arguments[name] for name in same},
    )


def _numbers(argument: str, text: str) -> tuple[int, ...]:
    """The numbers of a list with commas."""
    from parity.contract import InputError

    try:
        return tuple(dict.fromkeys(map(int, text.split(","))))
    except ValueError as error:
        raise InputError(argument, text, "it is no list of numbers", "give them as 4,32,128") from error


def _measure(entrants: Sequence[Entrant], trial: Trial, arguments: dict[str, Any]) -> BenchReport:
    from parity.bench.benchmark import benchmark
    from parity.data import load_data
    from parity.render import terminal
    from parity.render.bench import cell_lines, report_lines

    dataset = load_data(arguments["data"], data_dir=arguments["data_dir"])
    say(terminal.data_line(dataset))
    with bars(still=True):
        report = benchmark(
            entrants,
            dataset,
            trial,
            command=("parity", *sys.argv[1:]),
            announce=announced,
            on_cell=lambda cell: echo(cell_lines(cell)),
        )
    conclude(report_lines(report), report.exit_code)
    return report


def _scale(names: Sequence[str], json_file: Path | None, folder: Path | None, arguments: dict[str, Any]) -> int:
    """Measure how time grows; the exit code."""
    from parity.bench.contestants import named
    from parity.bench.scaling import measure_scaling
    from parity.contract import InputError
    from parity.data import load_data
    from parity.render import terminal
    from parity.render.bench_growth import axis_lines, scaling_figure, scaling_lines
    from parity.report import html

    trial = _trial(arguments)
    if "tf32" in trial.dtypes:
        raise InputError("dtype", "tf32", "programs of other widths have no such switch", "give float32 or float64")
    if len(trial.dtypes) > 1:
        raise InputError("dtype", ", ".join(trial.dtypes), "--scaling measures in one precision", "give one of them")
    entrants = named(names or TWINS)
    dataset = load_data(arguments["data"], data_dir=arguments["data_dir"])
    say(terminal.data_line(dataset))
    with _page(arguments, [entrant.label for entrant in entrants]) as page:
        with bars(still=True):
            report = measure_scaling(
                entrants,
                dataset,
                trial,
                command=("parity", *sys.argv[1:]),
                announce=announced,
                on_axis=lambda curves: echo(axis_lines(curves)),
                on_report=lambda found: keep_so_far(json_file, found.to_json),
            )
        echo(scaling_lines())
        keep(json_file, report.to_json, "the report")
        if folder is not None:
            _draw(folder, scaling_figure(report))
        page.write(lambda: html(report))
    return report.exit_code


def _judge(names: Sequence[str], json_file: Path | None, arguments: dict[str, Any]) -> int:
    """Measure what judging costs; the exit code."""
    from parity.bench.own_cost import COSTS, measure_costs
    from parity.contract import InputError
    from parity.data import load_data
    from parity.render import terminal
    from parity.render.bench_growth import cost_lines
    from parity.report import html

    if len(pair := tuple(names) or TWINS) != 2:
        raise InputError("names", ", ".join(pair), "two sides are judged", "name two implementations, or none")
    dataset = load_data(arguments["data"], data_dir=arguments["data_dir"])
    say(terminal.data_line(dataset))
    trial = _trial(arguments)
    with _page(arguments, pair) as page:
        with bars(COSTS, still=True):
            report = measure_costs(
                (pair[0], pair[1]),
                dataset,
                trial,
                command=("parity", *sys.argv[1:]),
                on_cost=lambda cost: echo(cost_lines(cost)),
            )
        keep(json_file, report.to_json, "the report")
        page.write(lambda: html(report))
    return report.exit_code


def _write(report: BenchReport, json_file: Path | None, folder: Path | None) -> None:
    from parity.render.bench import throughput_figure

    keep(json_file, report.to_json, "the report")
    if folder is not None:
        _draw(folder, throughput_figure(report))


def _draw(folder: Path, figure: Figure) -> None:
    if figure.panels:
        write_figures(folder, [figure])
    else:
        say("no figure: nothing was timed")


def write_figures(folder: Path, figures: Sequence[Figure]) -> None:
    """Each as PNG and SVG; all are drawn before the first is written."""
    from parity.data import replacing
    from parity.render.figure import draw

    files = {f"{figure.name}.{kind}": draw(figure, kind) for figure in figures for kind in ("png", "svg")}
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)
    say(f"wrote {', '.join(files)} into {folder}")


def _compare(old: BenchReport, new: BenchReport) -> None:
    from parity.bench.changes import changes, differences
    from parity.render.bench import change_lines

    say()
    echo(change_lines(tuple(changes(old, new)), differences=tuple(differences(old, new))))
