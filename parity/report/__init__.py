"""Reports as HTML: one self-contained file, or a fragment for a notebook. Pure functions from results to text."""

from __future__ import annotations

from collections.abc import Sequence

from parity.bench.own_cost import CostReport
from parity.bench.report import BenchReport
from parity.bench.scaling import ScalingReport
from parity.data import Dataset
from parity.environment import describe_environment
from parity.report.bench import bench_page
from parity.report.check import check_page
from parity.report.comparison import ComparisonReport, comparison_page
from parity.report.document import document_of, fragment_of
from parity.report.drill import drill_page
from parity.report.growth import cost_page, scaling_page
from parity.report.page import Page
from parity.report.stopped import stopped_page
from parity.report.study import study_page
from parity.report.training import training_page
from parity.result import CheckReport, DrillReport, Report
from parity.running.history import Run
from parity.study import StudyReport
from parity.trace import TraceComparison

__all__ = ["AnyReport", "ComparisonReport", "fragment", "html", "stopped"]

AnyReport = (
    Report | CheckReport | DrillReport | StudyReport | BenchReport | ScalingReport | CostReport | ComparisonReport
)


def html(
    report: AnyReport, *, run: Run | None = None, dataset: Dataset | None = None, old: BenchReport | None = None
) -> str:
    """A report as one HTML document with everything in it, below 6 MB.

    Args:
        report: of a command.
        run: of a run: its arrays, from which come the losses of every step, the tensors and the confusion matrices.
            Without it those sections are left out.
        dataset: what it trained on, for sample images; without it there are none.
        old: of a benchmark: an older one, for what has changed since.
    """
    return document_of(_page(report, run, dataset, old))


def fragment(report: AnyReport | TraceComparison) -> str:
    """The verdict and the tables as a piece of HTML without scripts, as a notebook shows it."""
    if isinstance(report, TraceComparison):
        report = ComparisonReport(command=(), environment=describe_environment(), comparison=report)
    return fragment_of(_page(report, None, None, None))


def stopped(command: Sequence[str], names: Sequence[str], why: str, *, verdict: str = "") -> str:
    """The page of a command that did not come to a result, or whose result's page could not be made.

    Args:
        command: as it was given.
        names: of the sides.
        why: one sentence.
        verdict: the line that was printed; "" where there is none.
    """
    return document_of(stopped_page(command, names, why, verdict=verdict))


def _page(report: AnyReport, run: Run | None, dataset: Dataset | None, old: BenchReport | None) -> Page:
    match report:
        case Report():
            page = training_page(report, run, dataset)
        case CheckReport():
            page = check_page(report)
        case DrillReport():
            page = drill_page(report)
        case StudyReport():
            page = study_page(report)
        case BenchReport():
            page = bench_page(report, old)
        case ScalingReport():
            page = scaling_page(report)
        case CostReport():
            page = cost_page(report)
        case ComparisonReport():
            page = comparison_page(report)
    return page
