"""`parity identify`: the update rule of a recorded run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from parity.commands.options import FILE, echo, json_option

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
    from parity.data import check_writable, replacing
    from parity.identify import identify as identify_run
    from parity.identify import load_run
    from parity.render.identify import identification_lines
    from parity.trace import MANIFEST, read_gradients

    if json_file is not None:
        check_writable(json_file, argument="json")
    parameters, gradients, steps = read_gradients(trace) if (trace / MANIFEST).exists() else load_run(trace)
    found = identify_run(parameters, gradients, dtype=dtype, steps=steps)
    echo(identification_lines(found))
    if json_file is not None:
        with replacing(json_file) as temporary:
            temporary.write_text(found.to_json())
        click.echo(f"wrote {json_file}: the report")
    sys.exit(0 if found.known else UNKNOWN)
