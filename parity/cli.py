"""The command line. Exit codes: 0 match, 1 differs, unknown or a loss is not finite, 2 bad input, 130 interrupted."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from parity.commands import bench, check, drill, identify, study, trace
from parity.commands.completion import complete_implementations, completion
from parity.commands.keeping import check_kept, keep_run, keeping_options
from parity.commands.options import (
    FILE,
    Printer,
    batch_options,
    data_options,
    json_option,
    settings_from,
    training_options,
)
from parity.commands.output import check_output, conclude, echo, keep, quiet_option, say
from parity.commands.progress import bars
from parity.commands.reporting import Reporting, report_options, reporting
from parity.supervise import supervised

if TYPE_CHECKING:
    from parity.contract import InputError
    from parity.data import Dataset
    from parity.run import Result

__all__ = ["cli", "main"]

INTERRUPTED = 130  # what shells give to a program ended by Ctrl-C
BAD_INPUT = 2


def main() -> NoReturn:
    """Run the command line, in a child process: a side may end the one that it runs in."""
    sys.exit(supervised(_run))


def _run() -> int:
    """The exit code of the command."""
    try:
        _command()
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 0


def _command() -> NoReturn:
    """Run the command."""
    try:
        # A user's own implementation usually lies in the folder that the command is run in. At the end of the path,
        # so that a file there cannot take the place of an installed module.
        sys.path.append(str(Path.cwd()))
        sys.exit(cli.main(prog_name="parity", standalone_mode=False))
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  `_end` tells them apart
        _end(error)


def _end(error: BaseException) -> NoReturn:
    """End as the error has it; every one that the user can mend is one line."""
    from parity.contract import InputError, ParityError  # with NumPy, which `--help` does without

    match error:
        case InputError():
            _fail(error.line(_spelling(error)), error.exit_code)
        case ParityError():
            if error.__cause__ is not None:  # a side's own program broke: its author needs to see where
                traceback.print_exception(error.__cause__)
            _fail(" ".join(str(error).split()), error.exit_code)
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            sys.exit(error.exit_code)
        case click.ClickException():
            _fail(" ".join(error.format_message().split()), error.exit_code)
        case click.Abort() | KeyboardInterrupt():
            _fail("interrupted; nothing was kept but what is listed above", INTERRUPTED)
        case OSError():
            _fail(f"{error.filename or 'output'}: {error.strerror or error}", BAD_INPUT)
        case Exception():  # whatever nobody thought of must not exit as a verdict does
            traceback.print_exception(error)
            _fail(f"internal error ({type(error).__name__}); please report it with the lines above", BAD_INPUT)
    raise error


def _fail(line: str, exit_code: int) -> NoReturn:
    click.echo(f"parity: {line}", err=True)
    sys.exit(exit_code)


def _spelling(error: InputError) -> str:
    """The command line's name for an argument, --batch-size for batch_size; what is no option keeps its own."""
    option = _RENAMED.get(error.argument, f"--{error.argument.replace('_', '-')}")
    known = {name for parameter in _running(sys.argv[1:]).params for name in parameter.opts}
    return option if option in known else error.argument


def _running(arguments: Sequence[str]) -> click.Command:
    """The command that these arguments name: another's option may mean something else."""
    command: click.Command = cli
    for argument in arguments:
        if not isinstance(command, click.Group):
            break
        command = command.commands.get(argument, command)
    return command


_RENAMED = {"mapping": "--map"}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100})
@click.version_option(package_name="parity", message="%(prog)s %(version)s")
def cli() -> None:
    """Do two training programs compute the same thing, and if not, where do they part?

    Example: parity check torch_impl jax_impl
    """


@cli.command()
@click.argument("a", default="torch_impl", shell_complete=complete_implementations)
@click.argument("b", default="jax_impl", shell_complete=complete_implementations)
@training_options
@json_option
@keeping_options
@click.option("--save-weights", type=FILE, metavar="FOLDER", help="Write each side's weights into this folder.")
@click.option(
    "--ensemble",
    type=click.IntRange(min=0),
    default=4,
    help="Runs of one side to judge by, begun one ulp apart; 0 for none.",
)
@report_options
def run(a: str, b: str, save_weights: Path | None, **arguments: Any) -> None:
    """Train A and B side by side and judge whether they match.

    A and B are implementations, named MODULE or MODULE:ATTRIBUTE.

    Example: parity run torch_impl jax_impl --data embedded --epochs 1
    """
    from parity.data import check_folder

    if save_weights is not None:
        check_folder(save_weights, argument="save_weights")

    def weights_files(names: Sequence[str]) -> list[Path]:
        return [save_weights / f"{name.replace(':', '-')}.safetensors" for name in names] if save_weights else []

    page = reporting(arguments, (a, b))
    _train((a, b), save_weights, weights_files, arguments, page)


@cli.command()
@click.argument("implementation", shell_complete=complete_implementations)
@training_options
@json_option
@keeping_options
@click.option("--save-weights", type=FILE, help="Write the final weights to this safetensors file.")
def train(implementation: str, save_weights: Path | None, **arguments: Any) -> None:
    """Train one IMPLEMENTATION alone.

    Example: parity train jax_impl --epochs 1 --save-weights jax.safetensors
    """
    from parity.data import check_writable

    if save_weights is not None:
        check_writable(save_weights, argument="save_weights")
    page = Reporting(None, (implementation,))
    _train((implementation,), save_weights, lambda _names: [save_weights] if save_weights else [], arguments, page)


def _train(
    names: Sequence[str],
    save_weights: Path | None,
    weights_files: Callable[[Sequence[str]], list[Path]],
    arguments: dict[str, Any],
    page: Reporting,
) -> None:
    from parity.commands.schedule import planned_steps, scheduled
    from parity.contract import InputError
    from parity.data import Loader, load_data, load_weights
    from parity.render import terminal
    from parity.run import checks_first, resolve_sides, run_sides

    # Whatever can be refused is refused before the frameworks are imported, which takes seconds.
    settings = settings_from(arguments)
    json_file, weights_file = arguments["json_file"], arguments["weights"]
    check_output(json_file, argument="json")
    check_kept(tuple(names), arguments)
    if json_file is not None and save_weights is not None and json_file.resolve() == save_weights.resolve():
        raise InputError("json", json_file, "--save-weights names the same file", "name two")
    with page:
        weights = load_weights(weights_file) if weights_file else None
        dataset = load_data(arguments["data"], data_dir=arguments["data_dir"])
        loader = Loader(size=len(dataset.train_labels), batch_size=settings.batch_size, seed=settings.seed)
        settings = scheduled(settings, loader, per=arguments["per"], steps=planned_steps(settings, loader))

        say(terminal.data_line(dataset))
        source = str(weights_file) if weights_file else f"drawn from seed {settings.seed}"
        echo(terminal.settings_lines(settings, loader.steps_per_epoch, source))
        with bars():
            sides = resolve_sides(names)
        watcher = Printer(tuple(side.name for side in sides))
        if checks_first(settings, len(sides)):
            say("checking the first steps in float64 ...")
        with bars():
            result = run_sides(
                sides,
                dataset,
                settings,
                weights=weights,
                weights_origin=source,
                watcher=watcher,
                on_verdict=watcher.verdict,
                command=("parity", *sys.argv[1:]),
                ensemble=arguments.get("ensemble", 0),
            )
        verdict = conclude(terminal.report_lines(result.report), result.report.ending.exit_code)
        page.write(partial(_page, result, dataset), verdict=verdict)  # first: what was asked for besides may fail
        _write(result, json_file, weights_files([side.name for side in sides]), page=page)
        keep_run(result, dataset, arguments, steps_per_epoch=loader.steps_per_epoch)
    sys.exit(result.report.ending.exit_code)


def _page(result: Result, dataset: Dataset) -> str:
    """The report as HTML."""
    from parity.report import html

    return html(result.report, run=result.run, dataset=dataset)


def _write(result: Result, json_file: Path | None, weights_files: Sequence[Path], *, page: Reporting) -> None:
    """Write what was asked for, and say what was kept."""
    from parity.data import save_weights

    keep(json_file, result.report.to_json, "the report")
    if result.report.ending.phase != "training":
        # The weights there are belong to the float64 check, not to the run that was asked for.
        weights_files = ()
    for path, side in zip(weights_files, result.run.sides, strict=False):
        path.parent.mkdir(exist_ok=True)
        report = result.report
        notes = {"implementation": side.name, "data": report.data.origin, "steps": str(report.steps)}
        save_weights(path, side.weights, notes=notes)
        say(f"wrote {path}: the weights of {side.name} after {result.run.steps} steps")
    if result.report.ending.kind != "complete" and not (json_file or weights_files):
        beside = f" beside {page.file}" if page.file else ""
        say(f"nothing was kept{beside}; --json and --save-weights keep what there is")


@cli.group()
def data() -> None:
    """Fetch the data, look at it.

    Example: parity data show --batch-size 16
    """


@data.command()
@click.option("--data-dir", type=FILE, help="Where to keep it.  [default: the user's cache folder]")
@quiet_option
def fetch(data_dir: Path | None) -> None:
    """Download CIFAR-10 (170 MB), verify and keep it.

    Example: parity data fetch
    """
    from parity.data import default_data_dir, fetch_cifar10
    from parity.render import terminal

    folder = data_dir or default_data_dir()
    say(terminal.data_line(fetch_cifar10(folder)))
    say(f"kept in {folder / 'cifar10'}")


@data.command()
@data_options
@batch_options
@click.option("--out", type=FILE, default="batch.png", help="PNG or SVG file to write; the other is beside it.")
@quiet_option
def show(data: str, data_dir: Path | None, batch_size: int, seed: int, out: Path) -> None:
    """Write the first training batch as a labelled grid.

    Example: parity data show --batch-size 16 --out batch.png
    """
    from parity.data import Loader, check_writable, load_data
    from parity.render import terminal
    from parity.render.grid import both_kinds, kind_of, write_grid

    kind_of(out, argument="out")
    files = both_kinds(out)
    for file in files:
        check_writable(file, argument="out")
    dataset = load_data(data, data_dir=data_dir)
    loader = Loader(size=len(dataset.train_labels), batch_size=batch_size, seed=seed)
    rows = next(loader.plans(0))[0]
    titles = [dataset.classes[label] for label in dataset.train_labels[rows]]
    write_grid(
        out,
        dataset.train_images[rows],
        titles,
        caption=f"The first training batch of seed {seed}, {len(rows)} images. Data: {dataset.origin}.",
    )
    say(terminal.data_line(dataset))
    say(f"wrote {' and '.join(map(str, files))}: the first training batch of seed {seed}, {len(rows)} images")


cli.add_command(check.check)
cli.add_command(completion)
cli.add_command(check.explain)
cli.add_command(drill.drill)
cli.add_command(bench.bench)
cli.add_command(study.study)
cli.add_command(trace.record)
cli.add_command(trace.compare)
cli.add_command(identify.identify)
