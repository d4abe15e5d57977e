"""Runs a command in a process of its own, so that a side which ends the process is an error and never a verdict.

A side is somebody else's program, in our process: it may call os._exit(0), or crash in native code. Only another
process can tell that from the end of a command. The child says its exit code through a pipe before it ends; where it
has not, the command has no result.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable

__all__ = ["NO_RESULT", "die_with_parent", "supervised"]

NO_RESULT = 2

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


def supervised(work: Callable[[], int]) -> int:
    """The exit code that `work` returns in a child process, or NO_RESULT with a line that says how the child ended.

    Signals that end a program are passed on; if this process is killed, so is the child.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work(work, writer)
    os.close(writer)
    for number in _FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: _pass_on(child, number))
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return said[0] if said else _without_result(status)


def _work(work: Callable[[], int], writer: int) -> None:
    """The child: a process group of its own, so that Ctrl-C reaches it once, through its parent."""
    os.setpgid(0, 0)
    die_with_parent()
    code = work()
    sys.stdout.flush()
    os.write(writer, bytes([code]))
    sys.exit(code)


def _pass_on(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.kill(child, number)


def die_with_parent() -> None:
    """Where the system can do that (Linux): a recording that is killed must not go on behind its user's back."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _without_result(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    how = f"by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with exit code {code}"
    print(f"parity: a side ended the process {how}; there is no result", file=sys.stderr)  # noqa: T201  the last line
    return NO_RESULT
