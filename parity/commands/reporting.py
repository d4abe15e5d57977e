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
from parity.commands.output import STDOUT, say

__all__ = ["Reporting", "report_options", "reporting"]

DEFAULT = "report.html"

MARK = b'<meta name="generator" content="parity">'
"""In the first bytes of every page of ours: a file without it is somebody else's."""

HEAD = 1024
"""Bytes in which the mark is looked for."""

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
    result yet; an exception leaves one that names it. `write` leaves the result's. A page that nobody asked for never
    changes how the command ends: where it cannot be written, that is a line on standard error.

    Args:
        file: None for no page.
        names: of the sides.
        asked: whether the file was named on the command line.
    """

    def __init__(self, file: Path | None, names: Sequence[str], *, asked: bool = False) -> None:
        self.file, self.names, self.asked = file, tuple(names), asked
        self._written, self._verdict = False, ""

    def __enter__(self) -> Reporting:
        self._attempt(lambda: self._stop(UNFINISHED))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if kind is None or self._written or issubclass(kind, SystemExit):
            return
        interrupted = issubclass(kind, KeyboardInterrupt | click.Abort)
        why = "It was interrupted." if interrupted else f"It ended with an error: {' '.join(str(error).split())}"
        try:
            self._stop(why)
        except OSError as failure:  # the error that is under way is the one to be told
            self._complain(failure)

    def write(self, page: Callable[[], str], *, verdict: str = "") -> None:
        """Make the result's page, put it in its place, and say so.

        Args:
            page: makes it.
            verdict: the line that was printed; where the page cannot be made, the one in its place says at least this.
        """
        self._verdict = verdict
        self._attempt(lambda: self._replace(page()))
        if self.file is not None:
            self._written = True
            say(f"wrote {self.file}: the report as a page")

    def _attempt(self, act: Callable[[], None]) -> None:
        """Do it; where it fails and nobody asked for the page, say so and go on without one."""
        if self.file is None:
            return
        try:
            act()
        except Exception as error:
            if self.asked:
                raise
            self._complain(error)
            self._leave_verdict(error)
            self.file = None

    def _leave_verdict(self, error: Exception) -> None:
        """In place of the page that says that the command is at work; nothing, where nothing can be written."""
        if self._verdict:
            try:
                self._stop(_reason(error))
            except OSError:
                return

    def _complain(self, error: Exception) -> None:
        click.echo(f"parity: no {self.file}: {_reason(error)}", err=True)

    def _stop(self, why: str) -> None:
        if self.file is not None:
            from parity.report import stopped

            self._replace(stopped(("parity", *sys.argv[1:]), self.names, why, verdict=self._verdict))

    def _replace(self, content: str) -> None:
        from parity.data import replacing

        assert self.file is not None  # noqa: S101  for the type checker
        with replacing(self.file) as temporary:
            temporary.write_text(content, encoding="utf-8")


def _reason(error: Exception) -> str:
    """In one line; of what nobody thought of with its kind."""
    text = " ".join(str(error).split())
    return error.strerror or text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"


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
    asked = _is_given("report")
    if file == STDOUT:
        raise InputError("report", "-", "a page is not for standard output", "name a file")
    try:
        check_writable(file, argument="report")
    except InputError as error:
        if asked:
            raise
        say(f"no {file}: {error.problem}")
        return Reporting(None, names)
    _require_own_file(file)
    if not asked and _is_foreign(file):
        say(f"no {file}: it is not parity's; --report FILE names another")
        return Reporting(None, names)
    return Reporting(file, names, asked=asked)


def _require_own_file(file: Path) -> None:
    """Refuse a file that another option names: one would take the other's place."""
    from parity.contract import InputError

    context = click.get_current_context()
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name)) if parameter.name != "report" else None
        for path in value if isinstance(value, tuple) else (value,):
            if _is_same(path, file):
                option = parameter.opts[0] if parameter.opts[0].startswith("-") else str(parameter.metavar)
                raise InputError("report", file, f"{option} names the same file", "name two")


def _is_same(value: Any, file: Path) -> bool:
    """Whether an option's value is that file; --data takes words too, which are files only where there is one."""
    if not isinstance(value, Path | str) or str(value) == str(STDOUT):
        return False
    named = Path(value)
    return named.resolve() == file.resolve() and (isinstance(value, Path) or named.exists())


def _is_foreign(file: Path) -> bool:
    """Whether there is a file that is none of our pages."""
    try:
        with file.open("rb") as opened:
            return MARK not in opened.read(HEAD)
    except FileNotFoundError:
        return False
    except OSError:  # what cannot be read cannot be known to be ours
        return True


def _is_given(option: str) -> bool:
    return click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE
