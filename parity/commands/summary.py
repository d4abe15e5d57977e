"""`--summary FILE`: the verdict as Markdown, for GitHub's job summary and the like."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

from parity.commands.output import STDOUT, keep, owner_of, say

__all__ = ["keep_summary", "summary_option"]

JOB_SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable by which GitHub Actions names a step's summary, to which every command of the step may add."""

summary_option = click.option(
    "--summary",
    "summary_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=owner_of,
    help="Write verdict, cause and a table here as Markdown; - for standard output alone.",
)


def keep_summary(path: Path | None, text: Callable[[], str]) -> None:
    """Write it; what GitHub has named as the step's summary is appended to, any other file is replaced."""
    if path is None or path == STDOUT or not _is_job_summary(path):
        keep(path, text, "the summary")
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{text()}\n")
    say(f"added to {path}: the summary")


def _is_job_summary(path: Path) -> bool:
    named = os.environ.get(JOB_SUMMARY)
    return bool(named) and path.resolve() == Path(str(named)).resolve()
