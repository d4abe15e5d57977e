"""The process of one contestant: it answers requests one after the other.

    python -m parity.bench.worker NAME DESCRIPTOR THREADS

A request is (method of `Contender`, arguments), an answer (True, result) or (False, reason); both go through the socket
whose file descriptor is given.

Only the standard library is imported before the process has its cores: what NumPy brings (a BLAS, OpenMP) counts the
cores that it may use when it is loaded.
"""

from __future__ import annotations

import os
import sys
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from parity.supervise import die_with_parent

if TYPE_CHECKING:
    from parity.bench.contender import Contender

__all__ = ["main"]


def serve(contender: Contender, connection: Connection) -> None:
    """Answer until the other end is closed."""
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        connection.send(_answer(contender, method, arguments))


def _answer(contender: Contender, method: str, arguments: dict[str, Any]) -> tuple[bool, Any]:
    from parity.contract import ParityError

    try:
        return True, getattr(contender, method)(**arguments)
    except ParityError as error:
        return False, str(error)
    except BaseException as error:  # noqa: BLE001  somebody else's program may raise anything, SystemExit included
        traceback.print_exc()
        return False, " ".join(f"{method}() raised {type(error).__name__}: {error}".split())


def pin(threads: int) -> None:
    """Leave this process, and those that it starts, so many of the cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main() -> None:
    """Serve one contestant."""
    name, descriptor, threads = sys.argv[1:]
    die_with_parent()
    pin(int(threads))
    from parity.bench.contender import Contender

    serve(Contender(name), Connection(int(descriptor)))


if __name__ == "__main__":
    main()
