"""Who is told of the reports that are made inside a process. It imports nothing, so that it may be loaded anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parity.result import CheckReport

__all__ = ["announce", "listening"]

Listener = Callable[["CheckReport"], None]

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within it, the listener is told of every report."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def announce(report: CheckReport) -> None:
    """Tell everyone who listens."""
    for listener in tuple(_listeners):
        listener(report)
