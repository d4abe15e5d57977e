"""Compiles in the background, while the caller does something else.

Most of XLA's compiler runs on one core, and without Python's lock. JAX lets a call wait whose program another thread is
compiling, so that nothing is compiled twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from jax_impl.device import available_cores

__all__ = ["in_background"]


@contextmanager
def in_background(calls: Sequence[Callable[[], object]]) -> Iterator[None]:
    """While the block runs, make these calls, as many at once as there are cores, for what they compile alone.

    What one raises is dropped with its result: whoever makes the call for its result gets the same. At the end of the
    block those that have not begun are dropped, and the others go on by themselves.
    """
    pool = ThreadPoolExecutor(available_cores())
    try:
        for call in calls:
            pool.submit(call)
        yield
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
