"""Where output goes: what is said on the way, the verdict, and a report that has standard output to itself.

`--quiet` leaves the verdict and errors. `--json -` and `--summary -` write a report to standard output; all else, what
programs print in native code included, goes to standard error then. Colours follow NO_COLOR and FORCE_COLOR
(https://no-color.org, https://force-color.org).
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from parity.commands.progress import Bars

__all__ = [
    "STDOUT",
    "check_output",
    "conclude",
    "echo",
    "is_quiet",
    "keep",
    "keep_so_far",
    "owner_of",
    "quiet_option",
    "say",
]

STDOUT = Path("-")
"""The name of standard output, where a file is asked for."""

_QUIET = "parity.quiet"
_ALONE = "parity.alone"
BARS = "parity.bars"

_COLOURS = {0: "green", 1: "red"}
"""Of a verdict, by exit code; any other is yellow."""


def _meta() -> dict[str, Any]:
    """What belongs to this invocation; nothing outside a command."""
    context = click.get_current_context(silent=True)
    return context.meta if context else {}


def _set_quiet(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[_QUIET] = value


quiet_option = click.option(
    "-q", "--quiet", is_flag=True, expose_value=False, callback=_set_quiet, help="Print the verdict and errors alone."
)


def is_quiet() -> bool:
    """Whether nothing but the verdict is wanted."""
    return bool(_meta().get(_QUIET))


def say(line: str = "") -> None:
    """Print a line, unless --quiet."""
    if not is_quiet():
        _print(line)


def echo(lines: Iterable[str]) -> None:
    """Print lines as they come, unless --quiet."""
    for line in lines:
        say(line)


def conclude(lines: Iterable[str], exit_code: int) -> str:
    """Print lines of which the last is the verdict, that one also with --quiet; returns it."""
    *before, verdict = lines
    echo(before)
    _print(verdict, lambda text: _coloured(text, exit_code))
    return verdict


def _fitted(line: str) -> str:
    """Prose that is longer than a terminal's line, broken between words; elsewhere one line, for programs to search."""
    width = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return "\n".join(
        textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    )


def _coloured(verdict: str, exit_code: int) -> str:
    """The part that is read first in the colour of the outcome: "verdict: match", up to what it rests on."""
    head, colon, rest = verdict.partition(": ")
    word, break_, detail = rest.partition(": ")
    return click.style(f"{head}{colon}{word}", fg=_COLOURS.get(exit_code, "yellow"), bold=True) + break_ + detail


def _colour() -> bool | None:
    """Whether to write colours; None for: if a terminal reads them."""
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def _print(line: str, styled: Callable[[str], str] = str) -> None:
    bars: Bars | None = _meta().get(BARS)
    with bars.paused() if bars else contextlib.nullcontext():
        click.echo(styled(_fitted(line)), color=_colour())


def check_output(path: Path | None, *, argument: str) -> None:
    """Refuse a path that cannot be written; "-" can.

    Raises:
        InputError: see `parity.data.check_writable`.
    """
    from parity.data import check_writable

    if path is not None and path != STDOUT:
        check_writable(path, argument=argument)


def keep(path: Path | None, text: Callable[[], str], what: str) -> None:
    """Write a text that was asked for, whole or not at all, and say so; to standard output where the path is "-"."""
    from parity.data import replacing

    if path is None:
        return
    if path == STDOUT:
        click.echo(text().rstrip("\n"), file=_meta()[_ALONE][1])
        return
    with replacing(path) as temporary:
        temporary.write_text(text().rstrip("\n") + "\n", encoding="utf-8")
    say(f"wrote {path}: {what}")


def keep_so_far(path: Path | None, text: Callable[[], str]) -> None:
    """Write what there is already into the file that was asked for, so that it is there if the rest is interrupted."""
    from parity.data import replacing

    if path is not None and path != STDOUT:
        with replacing(path) as temporary:
            temporary.write_text(text().rstrip("\n") + "\n")


def owner_of(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """For an option that takes "-": it gets standard output to itself.

    Raises:
        InputError: another option has it.
    """
    from parity.contract import InputError

    if value == STDOUT and not context.resilient_parsing:
        name = parameter.opts[0].removeprefix("--")
        if other := context.meta.get(_ALONE):
            raise InputError(name, "-", f"--{other[0]} has standard output to itself", "name a file for one of them")
        context.meta[_ALONE] = (name, context.with_resource(_alone_on_stdout()))
    return value


@contextlib.contextmanager
def _alone_on_stdout() -> Iterator[TextIO]:
    """The stream to write to; meanwhile all else that is written to standard output goes to standard error."""
    stream = sys.stdout
    stream.flush()
    try:
        number = stream.fileno()
    except (AttributeError, io.UnsupportedOperation):  # a stream in memory, as tests have it: there is no native one
        with contextlib.redirect_stdout(sys.stderr):
            yield stream
        return
    copy = os.dup(number)
    os.dup2(sys.stderr.fileno(), number)  # native code writes by number, past sys.stdout
    try:
        with os.fdopen(copy, "w", encoding="utf-8", closefd=False) as alone:
            yield alone
    finally:
        stream.flush()
        os.dup2(copy, number)
        os.close(copy)
