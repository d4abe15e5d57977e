"""The commands: which parts there are, and how their trials are measured, kept and concluded from."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from parity.contract import InputError, ParityError
from parity.data import check_writable, load_data
from parity.measurements import identification as identified
from parity.measurements.clean import CLEAN, FIT
from parity.measurements.drill import DRILL
from parity.measurements.explanation import EXPLANATION
from parity.measurements.long import FLOAT32, FLOAT64
from parity.measurements.members import MEMBERS
from parity.measurements.overhead import OVERHEAD
from parity.measurements.part import Bench, Part
from parity.measurements.perturbations import PERTURBATIONS
from parity.measurements.precision import PRECISION
from parity.measurements.results import Results, configuration

__all__ = ["PARTS", "cli", "main", "measure_part", "results_of"]

PARTS: tuple[Part, ...] = (FLOAT64, FLOAT32, FIT, CLEAN, PERTURBATIONS, PRECISION, OVERHEAD, MEMBERS)

PROGRAMS = (
    *(
        (f"benchmarks.widths_torch:{name}", f"benchmarks.widths_jax:{name}")
        for name in ("mlp_3", "mlp_32", "mlp_200", "conv_2", "conv_8", "conv_24")
    ),
    *((f"examples.{name}.torch_{name}", f"examples.{name}.jax_{name}") for name in ("cnn", "transformer")),
)
EMULATED = ("torch_impl.emulated:tf32", "torch_impl.emulated:bfloat16", "torch_impl.emulated:float16")

QUICK_STEPS = 200
INTERRUPTED = 130

_FILE = click.Path(path_type=Path)


def main() -> NoReturn:
    """Run the command line; what the user can mend is one line. Exit codes as the command `parity` has them."""
    try:
        sys.exit(cli.main(prog_name="python -m parity.measurements", standalone_mode=False))
    except InputError as error:
        _fail(error.line(f"--{error.argument.replace('_', '-')}"), error.exit_code)
    except ParityError as error:
        if error.__cause__ is not None:  # a side's own program broke: its author needs to see where
            traceback.print_exception(error.__cause__)
        _fail(str(error), error.exit_code)
    except click.ClickException as error:
        _fail(" ".join(error.format_message().split()), 2)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted; the trials in the file are kept, and the same command goes on from there", INTERRUPTED)
    except Exception as error:  # noqa: BLE001  whatever nobody thought of must not exit as a missed bar does
        traceback.print_exc()
        _fail(f"internal error ({type(error).__name__})", 2)


def _fail(line: str, exit_code: int) -> NoReturn:
    click.echo(f"parity.measurements: {' '.join(line.split())}", err=True)
    sys.exit(exit_code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100})
def cli() -> None:
    """Measure how far parity's judgement can be trusted."""


@cli.command()
@click.option(
    "--part", "names", multiple=True, type=click.Choice([p.name for p in PARTS]), help="Repeatable.  [default: all]"
)
@click.option("--out", type=_FILE, default="calibration.json", help="The JSON file that trials are added to.")
@click.option("--quick", is_flag=True, help="A few trials of each part, in less than a minute.")
@click.option("--trials", "--seeds", "trials", type=click.IntRange(min=1), help="How many.  [default: the part's own]")
@click.option("--first", type=click.IntRange(min=0), default=0, help="Number of the first trial.")
@click.option("--data", default="auto", metavar="auto|cifar10|embedded|FILE.npz", help="What to train on.")
@click.option("--data-dir", type=_FILE, help="Where CIFAR-10 is kept.  [default: the user's cache folder]")
@click.option("--epochs", type=click.IntRange(min=1), default=3, help="Of the long runs.")
@click.option("--steps", type=click.IntRange(min=1), help="Stop the long runs after so many.")
@click.option("--sides", nargs=2, default=("torch_impl", "jax_impl"), help="The honest pair.")
@click.option("--partner", default="torch_impl:eager", help="An honest side that need not compile anything.")
@click.option("--programs", nargs=2, multiple=True, default=PROGRAMS, help="Further honest pairs.", show_default=False)
@click.option("--emulated", multiple=True, default=EMULATED, help="Sides of lower precision.", show_default=False)
@click.option("--device", default="auto", metavar="auto|cpu|cuda")
def calibration(  # noqa: PLR0917  click passes them by name
    names: tuple[str, ...],
    out: Path,
    quick: bool,
    trials: int | None,
    first: int,
    data: str,
    data_dir: Path | None,
    epochs: int,
    steps: int | None,
    sides: tuple[str, str],
    partner: str,
    programs: tuple[tuple[str, str], ...],
    emulated: tuple[str, ...],
    device: str,
) -> None:
    """Measure the parts and add their trials to a JSON file; trials that it has already are not repeated.

    Exit code 1 if a bar is missed.

    Example: python -m parity.measurements calibration --part float64-long --data cifar10 --out results/calibration.json
    """
    check_writable(out, argument="out")
    bench = Bench(
        dataset=load_data(data, data_dir=data_dir),
        sides=sides,
        partner=partner,
        programs=programs,
        emulated=emulated,
        epochs=epochs,
        steps=QUICK_STEPS if quick and steps is None else steps,
        device=device,
    )
    chosen = [part for part in PARTS if not names or part.name in names]
    _measure_all(chosen, bench, out, lambda part: part.quick if quick else range(first, first + (trials or part.count)))


@cli.command()
@click.option("--out", type=_FILE, default="drill.json", help="The JSON file that trials are added to.")
@click.option("--quick", is_flag=True, help="One fault of each part, on both sides.")
@click.option("--data", default="auto", metavar="auto|cifar10|embedded|FILE.npz", help="The images.")
@click.option("--data-dir", type=_FILE, help="Where CIFAR-10 is kept.  [default: the user's cache folder]")
@click.option("--partner", default="torch_impl:eager", help="The side that faults are planted in.")
@click.option("--device", default="auto", metavar="auto|cpu|cuda")
def drill(out: Path, *, quick: bool, data: str, data_dir: Path | None, partner: str, device: str) -> None:
    """Plant every fault of the catalogue, and others, and add what was found to a JSON file.

    Exit code 1 if a bar is missed.

    Example: python -m parity.measurements drill --data cifar10 --out results/drill.json
    """
    check_writable(out, argument="out")
    bench = Bench(dataset=load_data(data, data_dir=data_dir), partner=partner, device=device)
    _measure_all(DRILL, bench, out, lambda part: part.quick if quick else range(part.count))


@cli.command()
@click.option("--out", type=_FILE, default="explain.json", help="The JSON file that trials are added to.")
@click.option("--quick", is_flag=True, help="One fault, on both sides.")
@click.option("--data", default="auto", metavar="auto|cifar10|embedded|FILE.npz", help="The images.")
@click.option("--data-dir", type=_FILE, help="Where CIFAR-10 is kept.  [default: the user's cache folder]")
@click.option("--partner", default="torch_impl:eager", help="The side that faults are planted in.")
@click.option("--device", default="auto", metavar="auto|cpu|cuda")
def explain(out: Path, *, quick: bool, data: str, data_dir: Path | None, partner: str, device: str) -> None:
    """Time what naming the cause adds to a check that fails, for every fault of the catalogue.

    The times are those of this machine: leave it idle. Exit code 1 if the bar is missed.

    Example: python -m parity.measurements explain --data cifar10 --out results/explain.json
    """
    check_writable(out, argument="out")
    bench = Bench(dataset=load_data(data, data_dir=data_dir), partner=partner, device=device)
    _measure_all([EXPLANATION], bench, out, lambda part: part.quick if quick else range(part.count))


def _measure_all(parts: Sequence[Part], bench: Bench, out: Path, numbers: Callable[[Part], Sequence[int]]) -> NoReturn:
    """Every part, and the exit code: 1 if a bar is missed."""
    for part in parts:  # a file that does not fit is refused now, not after hours
        results_of(part, bench, out).trials()
    met = []
    for part in parts:
        entry = measure_part(
            part, bench, numbers(part), out, command=("python", "-m", "parity.measurements", *sys.argv[1:])
        )
        click.echo(f"{part.name}: {'met' if entry['met'] else 'NOT MET'}; {entry['summary']}")
        met.append(entry["met"])
    sys.exit(0 if all(met) else 1)


@cli.command()
@click.option(
    "--part", "names", multiple=True, type=click.Choice([p.name for p in identified.PARTS]), help="Repeatable."
)
@click.option("--out", type=_FILE, default="identification.json", help="The JSON file that trials are added to.")
@click.option("--quick", is_flag=True, help="A few traces of each part.")
@click.option("--trials", type=click.IntRange(min=1), help="How many.  [default: the part's own]")
@click.option("--first", type=click.IntRange(min=0), default=0, help="Number of the first trace.")
@click.option("--data", default="auto", metavar="auto|cifar10|embedded|FILE.npz", help="The CNN's images.")
def identification(  # noqa: PLR0917  click passes them by name
    names: tuple[str, ...], out: Path, quick: bool, trials: int | None, first: int, data: str
) -> None:
    """Identify the rule of random traces, and count how often that is right; trials in the file are not repeated.

    Exit code 1 if a bar is missed.

    Example: python -m parity.measurements identification --data cifar10 --out results/identification.json
    """
    check_writable(out, argument="out")
    bench = Bench(dataset=load_data(data))
    met = []
    for part in (part for part in identified.PARTS if not names or part.name in names):
        numbers = part.quick if quick else range(first, first + (trials or part.count))
        entry = measure_part(part, bench, numbers, out, command=("python", "-m", "parity.measurements", *sys.argv[1:]))
        click.echo(f"{part.name}: {'met' if entry['met'] else 'NOT MET'}; {entry['summary']}")
        met.append(entry["met"])
    sys.exit(0 if all(met) else 1)


def results_of(part: Part, bench: Bench, out: Path, *, command: Sequence[str] = (), planned: int = 0) -> Results:
    """The part's entry in the file."""
    given = configuration(part, bench)
    return Results(path=out, part=part, configuration=given, command=tuple(command), planned=planned)


def measure_part(
    part: Part, bench: Bench, numbers: Sequence[int], out: Path, *, command: Sequence[str] = ()
) -> dict[str, Any]:
    """Measure the trials that the file does not have yet, and add each to it.

    Args:
        part: what to measure.
        bench: with what.
        numbers: of the trials, at least one.
        out: the file.
        command: the command line, for the file.

    Returns:
        The part's entry in the file.
    """
    results = results_of(part, bench, out, command=command, planned=len(numbers))
    known, entry = results.trials(), None
    for number in numbers:
        if number not in known:
            entry = results.add(number, part.measure(bench, number))
            click.echo(f"{part.name}, trial {number}: kept in {out}")
    return entry or results.entry()
