"""How far work has come, told to whoever listens: what trains need not know of bars. It imports nothing slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Pace", "Progress", "tell", "watching"]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """One side: the seconds that it has spent in its own training calls, for as many steps as are done."""

    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Some work: `done` of `total` units; `sides` where it is steps of sides that are timed apart.

    Work of the same name goes on; a smaller `done` begins anew.
    """

    what: str
    done: int
    total: int
    unit: str = "steps"
    sides: tuple[Pace, ...] = ()


Listener = Callable[[Progress], None]

_listeners: list[Listener] = []


@contextmanager
def watching(listener: Listener) -> Iterator[None]:
    """Within it, the listener is told how far all work has come, in the order in which it is done.

    >>> with watching(lambda progress: print(progress.done, "of", progress.total)):
    ...     tell(Progress(what="training", done=50, total=200))
    50 of 200
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(progress: Progress) -> None:
    """Tell everyone who listens."""
    for listener in tuple(_listeners):
        listener(progress)
