"""`--report FILE` and `--no-report`: the page that a command leaves, also where it did not come to its end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import click
from click.core import ParameterSource

from parity.commands.options import FILE
from parity.commands.output import say

__all__ = ["Reporting", "report_options", "reporting"]

DEFAULT = "report.html"

UNFINISHED = (
    "The command was started and has not come to its end: it is still at work, or its process was ended. "
    "Its result takes the place of this page."
)


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The two options; what they give is for `reporting`."""
    file = click.option("--report", type=FILE, default=DEFAULT, metavar="FILE", help="Write a page of HTML here.")
    none = click.option("--no-report", is_flag=True, help="Write no page.")
    return file(none(command))


class Reporting:
    """The page of one command, from before the work until after it.

    As a context it surrounds the work: on entry a page takes the place of an older one that says that there is no
    result yet; an exception leaves one that names it. `write` leaves the result's.

    Args:
        file: None for no page.
        names: of the sides.
    """

    def __init__(self, file: Path | None, names: Sequence[str]) -> None:
        self.file, self.names = file, tuple(names)
        self._written = False

    def __enter__(self) -> Reporting:
        self._stop(UNFINISHED)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if kind is None or self._written or issubclass(kind, SystemExit):
            return
        interrupted = issubclass(kind, KeyboardInterrupt | click.Abort)
        self._stop("It was interrupted." if interrupted else f"It ended with an error: {' '.join(str(error).split())}")

    def write(self, page: Callable[[], str]) -> None:
        """Make the result's page, put it in its place, and say so."""
        if self.file is None:
            return
        self._replace(page())
        self._written = True
        say(f"wrote {self.file}: the report as a page")

    def _stop(self, why: str) -> None:
        if self.file is not None:
            from parity.report import stopped

            self._replace(stopped(("parity", *sys.argv[1:]), self.names, why))

    def _replace(self, content: str) -> None:
        from parity.data import replacing

        assert self.file is not None  # noqa: S101  for the type checker
        with replacing(self.file) as temporary:
            temporary.write_text(content, encoding="utf-8")


def reporting(arguments: dict[str, Any], names: Sequence[str]) -> Reporting:
    """What the options ask for; to be called before the work, while a wrong path costs nothing.

    Args:
        arguments: of the command; those of `report_options` are taken out.
        names: of the sides.

    Raises:
        InputError: the file that was asked for cannot be written, or is another option's.
    """
    from parity.contract import InputError
    from parity.data import check_writable

    file: Path | None = arguments.pop("report", None)
    if arguments.pop("no_report", False) or file is None:
        return Reporting(None, names)
    try:
        check_writable(file, argument="report")
    except InputError as error:
        if _is_given("report"):
            raise
        say(f"no {file}: {error.problem}")
        return Reporting(None, names)
    json_file = arguments.get("json_file")
    if json_file is not None and json_file.resolve() == file.resolve():
        raise InputError("report", file, "--json names the same file", "name two")
    return Reporting(file, names)


def _is_given(option: str) -> bool:
    return click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE
