"""A contestant's process, seen from the benchmark: started, asked, and ended whatever state it is in.

It leads a session of its own, so that ending it ends what it has started too (a DataLoader's workers). What it prints
is kept aside: the last line says why it died, where it did.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from parity.contract import ParityError

__all__ = ["ContestantError", "Process", "thread_settings"]

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""What the libraries read when they are loaded."""

SHARED_GPU = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""All contestants of a cell have their process at once: JAX is not to take most of a GPU's memory in advance."""

MEMORY = re.compile(
    r"MemoryError|out of memory|not enough memory|can't allocate memory|cannot allocate memory|RESOURCE_EXHAUSTED|"
    r"bad_alloc|bad allocation|CU(BLAS|DNN)_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
"""How NumPy, torch (on the CPU and on CUDA), the system, XLA, C++ and NVIDIA's libraries say that there is too little
memory."""


class ContestantError(ParityError):
    """A contestant gave no result: the reason, as one line."""


def thread_settings(threads: int) -> dict[str, str]:
    """The environment variables by which a contestant's process gets its threads, beside as many cores."""
    return dict.fromkeys(THREADS, str(threads))


class Process:
    """A process that serves one contestant; a context manager, at whose end it is gone.

    Args:
        name: "module:attribute".
        threads: how many cores it may use.
    """

    def __init__(self, name: str, *, threads: int) -> None:
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115  it lives as long as the process
        ours, theirs = socket.socketpair()
        # -P: what this process can import, the child can, and nothing else.
        command = [sys.executable, "-P", "-m", "parity.bench.worker", name, str(theirs.fileno()), str(threads)]
        self._process = subprocess.Popen(  # noqa: S603  our own module
            command,
            env=_environment(threads),
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        theirs.close()
        self._connection = Connection(ours.detach())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.kill()

    def ask(self, method: str, *, timeout: float, **arguments: Any) -> Any:
        """The answer to a request; see `parity.bench.worker`.

        Args:
            method: of `Contender`.
            timeout: seconds to wait.
            arguments: of the method.

        Raises:
            ContestantError: it refused or raised, ended, gave an answer that cannot be read here, or none in time; in
                the last case it is killed.
        """
        try:
            self._connection.send((method, arguments))
            content = self._connection.recv_bytes() if self._connection.poll(timeout) else None
        except (EOFError, OSError) as error:
            raise ContestantError(self._ending()) from error
        if content is None:
            self.kill()
            raise ContestantError(f"no answer within {timeout:g} s")
        fine, answer = _read(method, content)
        if not fine:
            raise ContestantError(with_memory(answer))
        return answer

    def kill(self) -> None:
        """End it and whatever it has started."""
        self._connection.close()
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def _ending(self) -> str:
        """How it ended, and the last line that it printed."""
        try:
            code = self._process.wait(timeout=5)  # its end of the socket is closed: it is about to end
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        if code == -signal.SIGKILL:
            return "it was killed (SIGKILL), as the system does where there is too little memory"
        how = f"by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with exit code {code}"
        last = self._last_line()
        return with_memory(f"it ended {how}{f': {last}' if last else ''}")

    def _last_line(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _read(method: str, content: bytes) -> tuple[bool, Any]:
    try:
        fine, answer = pickle.loads(content)  # noqa: S301  of a program that the user runs here
    except Exception as error:  # somebody else's object may raise anything while it is read
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise ContestantError(f"what {method}() returned cannot be read here ({problem})") from error
    return fine, answer


def with_memory(reason: str) -> str:
    """The reason, led by the plain words where it is a lack of memory.

    >>> with_memory("run() raised MemoryError: ")
    'too little memory: run() raised MemoryError: '
    """
    return f"too little memory: {reason}" if MEMORY.search(reason) else reason


def _environment(threads: int) -> Mapping[str, str]:
    path = os.pathsep.join(str(Path(entry).resolve()) if entry else str(Path.cwd()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, **SHARED_GPU, **thread_settings(threads)}
