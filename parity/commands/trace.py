"""`parity record` and `parity compare`: a run kept in a folder, and two such folders judged without any framework."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parity.commands.completion import complete_data, complete_implementations
from parity.commands.options import FILE, Printer, json_option, settings_from, training_options
from parity.commands.output import check_output, conclude, echo, keep, quiet_option, say
from parity.commands.progress import bars
from parity.commands.reporting import report_options, reporting
from parity.commands.summary import keep_summary, summary_option

if TYPE_CHECKING:
    from parity.trace import Trace, TraceComparison

__all__ = ["compare", "record"]


@click.command()
@click.argument("implementation", shell_complete=complete_implementations)
@training_options
@click.option("--out", type=FILE, metavar="DIR", required=True, help="Write the trace into this new folder.")
@click.option("--every", type=int, default=1, help="Steps between two recorded states.")
@click.option("--nudge", type=int, metavar="SEED", help="Move each initial weight by one ulp, for a null run.")
@click.option(
    "--gradients",
    type=int,
    default=0,
    metavar="N",
    help="Keep every stage of the first N steps, gradients too: for causes in compare, and for identify.",
)
@quiet_option
def record(implementation: str, out: Path, every: int, nudge: int | None, gradients: int, **arguments: Any) -> None:
    """Train one IMPLEMENTATION and write a trace of it.

    Example: parity record torch_impl --dtype float64 --out torch-trace
    """
    from parity.commands.schedule import planned_steps, scheduled
    from parity.data import Loader, load_data, load_weights
    from parity.render import terminal
    from parity.render import trace as lines
    from parity.run import resolve_sides
    from parity.trace import check_folder
    from parity.trace import record as record_trace

    settings = settings_from(arguments)
    check_folder(out)
    weights_file = arguments["weights"]
    weights = load_weights(weights_file) if weights_file else None
    dataset = load_data(arguments["data"], data_dir=arguments["data_dir"])
    loader = Loader(size=len(dataset.train_labels), batch_size=settings.batch_size, seed=settings.seed)
    settings = scheduled(settings, loader, per=arguments["per"], steps=planned_steps(settings, loader))

    say(terminal.data_line(dataset))
    source = str(weights_file) if weights_file else f"drawn from seed {settings.seed}"
    moved = "" if nudge is None else f", each moved by one ulp (seed {nudge})"
    echo(terminal.settings_lines(settings, loader.steps_per_epoch, source + moved))
    with bars():
        (side,) = resolve_sides([implementation])
        recording = record_trace(
            side,
            dataset,
            settings,
            out,
            weights=weights,
            weights_origin=source,
            nudge=nudge,
            every=every,
            gradients=gradients,
            watcher=Printer((side.name,)),
            command=("parity", *sys.argv[1:]),
        )
    conclude(lines.recording_lines(recording, out), recording.exit_code)
    sys.exit(recording.exit_code)


@click.command()
@click.argument("a", metavar="DIR_A", type=FILE)
@click.argument("b", metavar="DIR_B", type=FILE)
@click.option("--null", "nulls", type=FILE, metavar="DIR", multiple=True, help="A null run of A; may be repeated.")
@click.option(
    "--data",
    metavar="cifar10|embedded|FILE.npz",
    help="What they were trained on, for the cause.",
    shell_complete=complete_data,
)
@click.option("--data-dir", type=FILE, help="Where CIFAR-10 is kept.  [default: the user's cache folder]")
@json_option
@summary_option
@report_options
def compare(
    a: Path,
    b: Path,
    *,
    nulls: tuple[Path, ...],
    data: str | None,
    data_dir: Path | None,
    summary_file: Path | None,
    **arguments: Any,
) -> None:
    """Compare two traces and judge whether they match; if they differ in float64, name the cause. Needs no framework.

    A null run is recorded as A was, with --nudge SEED. The cause is sought in the first steps; traces that were
    recorded with --gradients hold all of them.

    Example: parity compare torch-trace jax-trace
    """
    from parity.render import trace as lines
    from parity.render.summary import trace_summary
    from parity.trace import compare_traces, read_trace, training_data

    json_file: Path | None = arguments["json_file"]
    check_output(json_file, argument="json")
    check_output(summary_file, argument="summary")
    traces = [read_trace(a), read_trace(b), *(read_trace(null, argument="null") for null in nulls)]
    dataset = training_data(traces[0], data, data_dir) if data else None
    with reporting(arguments, [trace.manifest.implementation for trace in traces[:2]]) as page:
        comparison = compare_traces(traces[0], traces[1], traces[2:], dataset=dataset)
        verdict = conclude(lines.comparison_lines(comparison), comparison.exit_code)
        page.write(lambda: _page(comparison, traces), verdict=verdict)  # first: what was asked for besides may fail
        keep(json_file, comparison.to_json, "the comparison")
        keep_summary(summary_file, lambda: trace_summary(comparison))
    sys.exit(comparison.exit_code)


def _page(comparison: TraceComparison, traces: Sequence[Trace]) -> str:
    """The comparison as HTML."""
    # Here, so that with --no-report a comparison needs nothing but NumPy.
    from parity.environment import describe_environment
    from parity.report import ComparisonReport, html
    from parity.trace.first_steps import first_steps

    a, b, *_ = (trace.losses[: comparison.steps] for trace in traces)
    command = ("parity", *sys.argv[1:])
    environment = describe_environment()
    report = ComparisonReport(
        command=command,
        environment=environment,
        comparison=comparison,
        losses=(a, b),
        recorded=(traces[0].manifest, traces[1].manifest),
        steps=(first_steps(traces[0]), first_steps(traces[1])),
    )
    return html(report)
