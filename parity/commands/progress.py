"""Bars of what is going on, on standard error and only on a terminal: piped output never has one in it.

A row for each kind of work, with steps a second and the time that is left; where two sides train in lockstep, a row for
each of them too: its own steps a second in its own training calls, and how long it alone would still take.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from parity.commands.output import BARS, is_quiet
from parity.progress import Pace, Progress, watching

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Display
    from rich.progress import TaskID

__all__ = ["Bars", "announced", "bars", "shows_bars"]

REFRESHES = 5
"""A second. A drawing takes a millisecond or two, of which training has to give up a share."""

WAITING = "working"
"""The row that moves while nothing can be counted: frameworks are imported, programs compiled."""

NAME = (12, 26)
"""Columns for a row's name, of 80: at least, and at most."""

LINE = 60
"""The same of a line that says what is going on, beside which nothing is counted."""


def shows_bars() -> bool:
    """Whether somebody sees them: standard error is a terminal that can move its cursor, and --quiet is not given."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown") and not is_quiet()


@contextmanager
def bars(*only: str, still: bool = False) -> Iterator[None]:
    """Within it, work is shown as bars.

    Args:
        only: the names of the work that is shown; () for all.
        still: whether to draw only when there is news: nothing runs beside what is timed.
    """
    if not shows_bars():
        yield
        return
    meta: dict[str, Any] = click.get_current_context().meta
    with Bars(only, still=still) as shown, watching(shown.update):
        meta[BARS] = shown
        try:
            yield
        finally:
            del meta[BARS]


def announced(line: str) -> None:
    """What is going on where nothing is counted, instead of `WAITING`."""
    context = click.get_current_context(silent=True)
    shown: Bars | None = context.meta.get(BARS) if context else None
    if shown:
        shown.announce(line)


class Bars:
    """The rows; left out while lines are printed. See `bars`."""

    def __init__(self, only: tuple[str, ...] = (), *, still: bool = False) -> None:
        self._only = only
        self._still = still
        self._last = Progress(what=WAITING, done=0, total=0)
        self._drawn = 0.0
        self._rows: dict[str, TaskID] = {}
        self._starts: dict[str, tuple[int, float]] = {}
        self._display = _display(still=still)

    def __enter__(self) -> Bars:
        self._display.start()
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within it, the screen is free of bars."""
        self._display.stop()
        try:
            yield
        finally:
            self._display.start()

    def update(self, progress: Progress) -> None:
        """Draw how far some work has come; a row goes away when its work is done."""
        if (self._only and progress.what not in self._only) or self._too_soon(progress):
            return
        names = [*(pace.name for pace in progress.sides), progress.what]
        if progress.done >= progress.total:
            for name in names:
                self._forget(name)
            self._wait()
        else:
            self._forget(WAITING)
            for name, own in zip(names, [*(self._own(pace, progress) for pace in progress.sides), None], strict=True):
                self._draw(name, progress, own=own)
        if self._still:
            self._display.refresh()

    def _too_soon(self, progress: Progress) -> bool:
        """Whether the same work was drawn just now: a recording has news thousands of times a second."""
        now, last = time.monotonic(), self._last
        goes_on = (last.what, last.total) == (progress.what, progress.total) and last.done <= progress.done
        if goes_on and progress.done < progress.total and now < self._drawn + 0.5 / REFRESHES:
            return True
        self._last, self._drawn = progress, now
        return False

    def announce(self, line: str) -> None:
        """Say what is going on, as long as there is no bar."""
        self._wait()
        if WAITING in self._rows:
            self._display.update(self._rows[WAITING], description=line[:LINE], refresh=True)

    def _wait(self) -> None:
        """Something moves where nothing is counted."""
        if not self._rows:
            self._rows[WAITING] = self._display.add_task(WAITING, total=None, own=None, unit="")

    def _draw(self, name: str, progress: Progress, own: tuple[float, float] | None) -> None:
        """One row; `own` are a side's steps a second and the seconds that it alone still needs."""
        begun = self._rows.get(name)
        if begun is not None and progress.done < self._display.tasks[self._display.task_ids.index(begun)].completed:
            self._forget(name)  # the next work of this name
        if name not in self._rows:
            self._rows[name] = self._display.add_task(_short(name), total=progress.total, own=None, unit=progress.unit)
        row = self._rows[name]
        self._display.update(row, completed=progress.done, total=progress.total, own=own, unit=progress.unit)

    def _forget(self, name: str) -> None:
        if name in self._rows:
            self._display.remove_task(self._rows.pop(name))
        self._starts.pop(name, None)

    def _own(self, pace: Pace, progress: Progress) -> tuple[float, float] | None:
        """Since the first chunk, in which the side may have compiled; None as long as there is no second."""
        steps, seconds = self._starts.setdefault(pace.name, (progress.done, pace.seconds))
        if progress.done <= steps or pace.seconds <= seconds:
            return None
        rate = (progress.done - steps) / (pace.seconds - seconds)
        return rate, (progress.total - progress.done) / rate


def _console() -> Console:
    from rich.console import Console  # slow to import, and only needed where there is a terminal

    class Visible(Console):
        """A console that never hides the cursor: a side may end the process, and nobody would show it again."""

        def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002  as rich has it
            return False

    # Whether it is a terminal was asked before: FORCE_COLOR, set or empty, must say nothing about that.
    return Visible(stderr=True, force_terminal=True, force_interactive=True)


def _display(*, still: bool) -> Display:
    from rich.progress import BarColumn, ProgressColumn, TextColumn
    from rich.progress import Progress as Display
    from rich.table import Column
    from rich.text import Text

    class Count(ProgressColumn):
        """How many of how many; nothing where nothing is counted."""

        def render(self, task: Any) -> Text:
            return Text("" if task.total is None else f"{task.completed:,.0f}/{task.total:,.0f}", justify="right")

    class Rate(ProgressColumn):
        """A side's own steps a second, or those of the clock on the wall."""

        def render(self, task: Any) -> Text:
            own = task.fields["own"]
            speed = own[0] if own else task.finished_speed or task.speed
            return Text("" if not speed else f"{_number(speed)} {task.fields['unit']}/s", justify="right")

    class Left(ProgressColumn):
        """The time that is left, likewise."""

        def render(self, task: Any) -> Text:
            own = task.fields["own"]
            left = own[1] if own else task.time_remaining
            return Text("" if left is None else f"{_clock(left)} left", justify="right")

    name = TextColumn("{task.description}", markup=False, table_column=Column(min_width=NAME[0], no_wrap=True))
    columns = (name, BarColumn(bar_width=None), Count(), Rate(), Left())
    # What a side prints itself must not tear the bars. Where standard output is a file, its lines go there as they are.
    redirect = sys.stdout.isatty()
    return Display(
        *columns,
        console=_console(),
        transient=True,
        auto_refresh=not still,
        refresh_per_second=REFRESHES,
        redirect_stdout=redirect,
        expand=True,
    )


def _short(name: str) -> str:
    """The end of a long name, by which those of one package differ."""
    return name if len(name) <= NAME[1] else f"...{name[3 - NAME[1] :]}"


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _clock(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any.

    >>> _clock(75), _clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
