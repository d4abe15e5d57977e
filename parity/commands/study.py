"""`parity study`: experiments on what an optimizer's arguments do, as figures and tables."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parity.commands.options import FILE, data_options, echo

if TYPE_CHECKING:
    from parity.study import Bench, Experiment

__all__ = ["study"]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Run all experiments.")
@click.option("--out", type=FILE, metavar="DIR", help="The folder to write figures and tables into.")
@data_options
@click.option("--seed", type=int, default=0, help="Of the CNN's weights and batches.")
@click.option("--quick", is_flag=True, help="Fewer steps and runs: the same figures in seconds.")
@click.option("--a", default="torch_impl:eager", help="The implementation that trains the CNN.")
@click.option("--b", default="jax_impl", help="The one beside it.")
def study(names: tuple[str, ...], everything: bool, out: Path | None, seed: int, quick: bool, **arguments: Any) -> None:
    """Run experiments on what an optimizer does, and write figures (PNG, SVG) and numbers (JSON, CSV) into DIR.

    Without a NAME the experiments are listed.

    Example: parity study quadratic forms --out figures
    """
    from parity.contract import InputError
    from parity.data import check_folder, load_data
    from parity.study import EXPERIMENTS, Bench, experiments_named

    if not (names or everything):
        echo(f"{experiment.name:<12}{experiment.question}" for experiment in EXPERIMENTS.values())
        return
    chosen = experiments_named(EXPERIMENTS if everything else names)
    if out is None:
        raise InputError("out", "not given", "figures need a folder to be written into", "give one")
    if seed < 0:
        raise InputError("seed", seed, "it is negative", "give 0 or more")
    check_folder(out, argument="out")
    bench = Bench(seed=seed, quick=quick, names=(arguments["a"], arguments["b"]))
    if any(experiment.trains for experiment in chosen):
        dataset = load_data(arguments["data"], data_dir=arguments["data_dir"])
        click.echo(f"data: {dataset.origin}")
        bench = replace(bench, dataset=dataset)
    for experiment in chosen:
        _run(experiment, bench, out)


def _run(experiment: Experiment, bench: Bench, out: Path) -> None:
    """Run one, and write its files; all are made before the first is written."""
    from parity.data import replacing
    from parity.render.figure import files_of, table_lines

    click.echo(f"{experiment.name}: {experiment.question}")
    begin = time.perf_counter()
    outcome = experiment.run(bench)
    files = list(files_of(experiment, outcome, ("parity", *sys.argv[1:])))
    out.mkdir(exist_ok=True)
    for name, content in files:
        with replacing(out / name) as temporary:
            temporary.write_bytes(content)
    echo(f"  {line}" for line in table_lines(outcome.table))
    seconds = time.perf_counter() - begin
    click.echo(f"  wrote {', '.join(name for name, _ in files)} into {out} ({seconds:.1f} s)")
