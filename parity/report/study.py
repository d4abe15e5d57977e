"""The page of a study: each experiment's question, figures and table."""

from __future__ import annotations

from collections.abc import Iterator

from parity.report.common import environment_section, reproduce_section
from parity.report.page import TRAINED, Block, Fact, Headline, Page, Section, Text
from parity.report.page import Table as PageTable
from parity.report.panels import charts_of
from parity.study import Studied, StudyReport, Table

__all__ = ["study_page"]


def study_page(report: StudyReport) -> Page:
    """Everything that the experiments show."""
    names = ", ".join(each.experiment.name for each in report.studied)
    return Page(
        kicker=f"study: {names}",
        title=f"parity: study of {names}",
        headline=_headline(report),
        sections=(
            *(_section(each, asked=len(report.studied) > 1) for each in report.studied),
            _environment(report),
            reproduce_section(report.command),
        ),
    )


def _headline(report: StudyReport) -> Headline:
    """What was asked; what came out is for the captions, beside what shows it."""
    short = "Made with --quick: fewer steps and runs than the full figures." if report.quick else ""
    if len(report.studied) == 1:
        (only,) = report.studied
        return Headline(kind=TRAINED, sentence=_capital(only.experiment.question), detail=short, word="Study")
    sentence = f"{len(report.studied)} experiments on what an optimizer does"
    return Headline(kind=TRAINED, sentence=sentence, detail=short, word="Study")


def _capital(text: str) -> str:
    """A sentence begins with a capital; torch keeps its own letter."""
    return text if text.startswith("torch") else text[:1].upper() + text[1:]


def _section(studied: Studied, *, asked: bool) -> Section:
    experiment, outcome = studied.experiment, studied.outcome
    # Of one alone the question is the headline.
    question = (Text(lines=(f"{_capital(experiment.question)}.",)),) if asked else ()
    blocks = (
        *question,
        *_figures(studied),
        _table(experiment.name, outcome.table),
    )
    return Section(title=experiment.name, blocks=blocks)


def _figures(studied: Studied) -> Iterator[Block]:
    for figure in studied.outcome.figures:
        if figure.title != studied.experiment.question:
            yield Text(lines=(f"{figure.title}.",))
        yield charts_of(figure)
        yield Text(lines=(figure.caption,))


def _table(name: str, table: Table) -> PageTable:
    rows = tuple(tuple(map(_cell, row)) for row in table.rows)
    return PageTable(caption=f"{name} in numbers", columns=table.columns, rows=rows, folded=len(rows) > _LONG)


_LONG = 24


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _environment(report: StudyReport) -> Section:
    took = sum(each.seconds for each in report.studied)
    facts = [Fact(name="Took", value=f"{took:,.1f} s")]
    if report.data is not None:
        facts += [
            Fact(name="Trained the CNN", value=" and ".join(report.names)),
            Fact(name="Data", value=report.data),
            Fact(name="Seed", value=str(report.seed)),
        ]
    return environment_section(report.environment, facts)
