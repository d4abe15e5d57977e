"""A contestant in its own process: what the benchmark may ask of it, and the clock around its calls of `run`.

The clock stands in here, so that sending plans and losses is not part of any time.
"""

from __future__ import annotations

import gc
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, InputError, SelfContained, Weights
from parity.registry import load, resolve_contestant

__all__ = ["Contender", "Memory", "Timed", "peak_host_bytes", "shared"]

KIB = 1024
STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One call of `run`: seconds by the clock, of this process on all cores together, and (steps,) losses.

    The processes that a contestant starts, a loader's workers, have their own cpu_seconds, which are not in these.
    """

    seconds: float
    cpu_seconds: float
    losses: NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The most bytes in use at once: of the host by this process, without those that it starts, and of a device."""

    host: int
    device: int | None


@contextmanager
def shared(*arrays: NDArray[np.generic]) -> Iterator[tuple[Path, ...]]:
    """Files of these arrays, for `Contender.start`; there as long as the block."""
    with tempfile.TemporaryDirectory() as folder:
        files = tuple(Path(folder) / f"{number}.npy" for number in range(len(arrays)))
        for file, array in zip(files, arrays, strict=True):
            np.save(file, array)
        yield files


def peak_host_bytes() -> int:
    """The most memory that this process has had.

    By Linux' own account where there is one: ru_maxrss of a process that has just been started is that of the process
    which started it, if that was larger.
    """
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return KIB * (peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


class Contender:
    """A contestant, its state before the first step, and the data; every run begins from that state.

    So each round does the same work, whatever the rounds before have learnt.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._found: Any = None
        self._state: Any = None
        self._data: Any = None
        self._after: Any = None
        self._made: Any = None

    def open(self) -> tuple[str, ...]:
        """Import it; the devices that it can use."""
        self._found = resolve_contestant(self._name)
        return tuple(map(str, self._found.devices()))

    def start(self, *, weights: Weights | None, sgd: SGD, dtype: str, device: str, files: Sequence[Path]) -> None:
        """Make its state, and place the data; without weights, from those that the program brings.

        The arrays are read from files that all contestants share, where the contestant reads them: in a message each
        process would hold two copies of its own, which are not the contestant's.

        Raises:
            InputError: it brings its own and is given others, or the other way round.
        """
        if isinstance(self._found, SelfContained) != (weights is None):
            problem = "it brings its own weights and data" if weights else "it brings no weights"
            raise InputError("contestant", self._name, problem, "give a program that trains the CNN")
        given = self._found.example()[0] if weights is None else weights
        self._made = partial(self._found.start, sgd=sgd, dtype=dtype, device=device)
        self._state = self._made(given)
        self._data = self._found.place(self._state, *(np.asarray(np.load(file, mmap_mode="c")) for file in files))

    def run(self, *, plan: NDArray[np.int32]) -> Timed:
        """Train for these steps."""
        self._after = None  # so that two results are never held at once
        gc.collect()
        begin, cpu = time.perf_counter(), time.process_time()
        self._after, given = self._found.run(self._state, self._data, plan)
        losses = np.asarray(given)  # within the time: what has not been computed yet is waited for here
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
        return Timed(seconds=seconds, cpu_seconds=cpu_seconds, losses=self._floats("run() returned losses", losses))

    def begin(self, *, weights: Weights | None) -> None:
        """Stand before the first step, for `go_on`; with other weights than those it was started with, if given."""
        self._after = self._state if weights is None else self._made(weights)

    def go_on(self, *, plan: NDArray[np.int32]) -> NDArray[np.floating]:
        """Train for these steps, from where it stands: the losses."""
        self._after, given = self._found.run(self._after, self._data, plan)
        return self._floats("run() returned losses", np.asarray(given))

    def step(self, *, rows: NDArray[np.int32]) -> tuple[NDArray[np.floating], dict[str, NDArray[np.floating]]]:
        """The loss and the weights of one step more, which is not taken: it stands where it stood."""
        here = self._after
        losses = self.go_on(plan=rows[np.newaxis])
        weights, self._after = self.weights(), here
        return losses, weights

    def weights(self) -> dict[str, NDArray[np.floating]]:
        """Those that it stands at: that the last run has led to.

        Raises:
            InputError: they are no NumPy arrays of floats by name.
        """
        given = dict(self._found.weights(self._after))
        return {str(name): self._floats(f"weights() returned {name}", value) for name, value in given.items()}

    def describe(self) -> str:
        """How the last run was computed."""
        return str(self._found.describe(self._after))

    def memory(self) -> Memory:
        """So far."""
        metered = getattr(self._found, "peak_memory", None)
        device = metered() if metered else None
        return Memory(host=peak_host_bytes(), device=None if device is None else int(device))

    def is_fed(self) -> bool:
        """Whether it has processes of its own beside it, as a loader has workers."""
        return bool(multiprocessing.active_children())

    def measure(self, **arguments: Any) -> Any:
        """Call what has the name: no contestant, but a function that measures something in this process."""
        function, _ = load(self._name)
        return function(**arguments)

    def _floats(self, what: str, value: object) -> NDArray[np.floating]:
        """The array, if it is one of floats: whoever asks has NumPy alone to read the answer with."""
        if not isinstance(value, np.ndarray):
            raise InputError("contestant", self._name, f"{what} as {type(value).__name__}", "return NumPy arrays")
        if value.dtype.kind != "f":
            raise InputError("contestant", self._name, f"{what} of dtype {value.dtype}", "return floats")
        return np.asarray(value)
