"""`parity identify`: the update rule of a recorded run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from parity.commands.options import FILE, json_option
from parity.commands.output import check_output, conclude, echo, is_quiet, keep
from parity.commands.progress import bars

__all__ = ["identify"]

UNKNOWN = 1


@click.command()
@click.argument("trace", type=FILE)
@click.option(
    "--dtype", metavar="float32|float64", help="What the run was computed in.  [default: the parameters' own]"
)
@json_option
def identify(trace: Path, dtype: str | None, json_file: Path | None) -> None:
    """Recover the update rule and its constants from the recorded run TRACE alone.

    TRACE is a folder that `parity record --gradients N` wrote, or an .npz file (or a folder of .npy files) with
    parameters/NAME, (steps + 1, ...), and gradients/NAME, (steps, ...), from any framework; a step without a gradient
    is a row of NaN. The recording begins with the run's first step.

    Exit code 1 if no rule explains the run.

    Example: parity identify run.npz
    """
    from parity.identify import identify as identify_run
    from parity.identify import load_run
    from parity.render.identify import identification_lines
    from parity.trace import MANIFEST, read_gradients

    check_output(json_file, argument="json")
    parameters, gradients, steps = read_gradients(trace) if (trace / MANIFEST).exists() else load_run(trace)
    with bars():
        found = identify_run(parameters, gradients, dtype=dtype, steps=steps)
    exit_code = 0 if found.known else UNKNOWN
    if is_quiet():
        conclude([f"rule: {found.rule}"], exit_code)
    echo(identification_lines(found))
    keep(json_file, found.to_json, "the report")
    sys.exit(exit_code)
