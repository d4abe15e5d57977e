"""`parity study`: experiments on what an optimizer's arguments do, as figures and tables."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parity.commands.completion import complete_experiments, complete_implementations
from parity.commands.options import FILE, data_options
from parity.commands.output import conclude, echo, quiet_option, say
from parity.commands.progress import bars
from parity.commands.reporting import report_options, reporting
from parity.progress import Progress, tell

if TYPE_CHECKING:
    from parity.study import Bench, Experiment, Studied

__all__ = ["study"]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_experiments)
@click.option("--all", "everything", is_flag=True, help="Run all experiments.")
@click.option("--out", type=FILE, metavar="DIR", help="The folder to write figures and tables into.")
@data_options
@click.option("--seed", type=int, default=0, help="Of the CNN's weights and batches.")
@click.option("--quick", is_flag=True, help="Fewer steps and runs: the same figures in seconds.")
@click.option(
    "--a",
    default="torch_impl:eager",
    help="The implementation that trains the CNN.",
    shell_complete=complete_implementations,
)
@click.option("--b", default="jax_impl", help="The one beside it.", shell_complete=complete_implementations)
@report_options
@quiet_option
def study(names: tuple[str, ...], everything: bool, out: Path | None, seed: int, quick: bool, **arguments: Any) -> None:
    """Run experiments on what an optimizer does, and write figures (PNG, SVG) and numbers (JSON, CSV) into DIR.

    Without a NAME the experiments are listed.

    Example: parity study quadratic forms --out figures
    """
    from parity.contract import InputError
    from parity.data import check_folder, load_data
    from parity.environment import describe_environment
    from parity.report import html
    from parity.study import EXPERIMENTS, Bench, StudyReport, experiments_named

    if not (names or everything):
        for experiment in EXPERIMENTS.values():
            say(f"{experiment.name:<12}{experiment.question}")
        return
    chosen = experiments_named(EXPERIMENTS if everything else names)
    if out is None:
        raise InputError("out", "not given", "figures need a folder to be written into", "give one")
    if seed < 0:
        raise InputError("seed", seed, "it is negative", "give 0 or more")
    check_folder(out, argument="out")
    page = reporting(arguments, tuple(experiment.name for experiment in chosen))
    bench = Bench(seed=seed, quick=quick, names=(arguments["a"], arguments["b"]))
    with page:
        if any(experiment.trains for experiment in chosen):
            dataset = load_data(arguments["data"], data_dir=arguments["data_dir"])
            say(f"data: {dataset.origin}")
            bench = replace(bench, dataset=dataset)
        studied = []
        with bars():
            for number, experiment in enumerate(chosen):
                tell(Progress(what="experiments", done=number, total=len(chosen), unit="experiments"))
                studied.append(_run(experiment, bench, out))
        report = StudyReport(
            command=("parity", *sys.argv[1:]),
            environment=describe_environment(),
            data=bench.dataset.origin if bench.dataset else None,
            names=bench.names,
            seed=seed,
            quick=quick,
            studied=tuple(studied),
        )
        files = f"figures and tables of {', '.join(each.experiment.name for each in studied)} in {out}"
        verdict = conclude([f"studied: {files}"], 0)
        page.write(lambda: html(report), verdict=verdict)


def _run(experiment: Experiment, bench: Bench, out: Path) -> Studied:
    """Run one, and write its files; all are made before the first is written."""
    from parity.data import replacing
    from parity.render.figure import files_of, table_lines
    from parity.study import Studied

    say(f"{experiment.name}: {experiment.question}")
    begin = time.perf_counter()
    outcome = experiment.run(bench)
    files = list(files_of(experiment, outcome, ("parity", *sys.argv[1:])))
    out.mkdir(exist_ok=True)
    for name, content in files:
        with replacing(out / name) as temporary:
            temporary.write_bytes(content)
    echo(f"  {line}" for line in table_lines(outcome.table))
    seconds = time.perf_counter() - begin
    say(f"  wrote {', '.join(name for name, _ in files)} into {out} ({seconds:.1f} s)")
    return Studied(experiment=experiment, outcome=outcome, seconds=seconds)
