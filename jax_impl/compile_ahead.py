"""Compiles in the background, while the caller does something else.

Most of XLA's compiler runs on one core, and without Python's lock. JAX lets a call wait whose program another thread is
compiling, so that nothing is compiled twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from jax_impl.device import available_cores

__all__ = ["THREADS", "in_background"]

THREADS = "compile-ahead"
"""How the names of the threads begin."""


def in_background(calls: Sequence[Callable[[], object]]) -> Callable[[], None]:
    """Make these calls, as many at once as there are cores, for what they compile.

    They are made in full, and cost what they compute besides. What one raises is dropped with its result: whoever makes
    the call for its result gets the same.

    Returns:
        Drops the calls that have not begun. Those that have go on; the end of the process waits for them.
    """
    pool = ThreadPoolExecutor(available_cores(), thread_name_prefix=THREADS)
    for call in calls:
        pool.submit(call)
    return partial(pool.shutdown, wait=False, cancel_futures=True)
