"""Writes a trace so that whatever ends the process, the chunks written until then can be read.

A chunk appears under its name when it is complete, and belongs to the trace when the manifest, replaced in one piece
after each chunk, names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import InputError, Weights
from parity.data import check_writable, replacing
from parity.running.history import NonFiniteLossError
from parity.trace.chunk import Chunk, State
from parity.trace.manifest import MANIFEST, ChunkFile, Manifest
from parity.trace.projection import Projector
from parity.trace.schedule import Schedule

__all__ = ["CHUNK", "Writer", "check_folder"]

CHUNK = 250
"""Recorded states in a chunk: what is lost at most when the process is killed."""


def check_folder(folder: Path) -> None:
    """Refuse a folder with anything in it, so that no trace can hold parts of two runs, or one that cannot be made.

    Raises:
        InputError: it is a file, not empty, or not writable; or its parent is missing or not writable.
    """
    if not folder.is_dir():
        if folder.exists():
            raise InputError("out", folder, "it is a file", "name a new folder")
        check_writable(folder, argument="out")
        return
    check_writable(folder / MANIFEST, argument="out")
    if any(folder.iterdir()):
        raise InputError("out", folder, "the folder is not empty", "name a new folder")


@dataclass(kw_only=True)
class _Pending:
    """What is not yet in a chunk. Ctrl-C may come between any two lines, so what belongs together is added at once.

    Args:
        base: the projections of the state before.
        shown: the projections as the reader will add them up from the moves.
        last: the projections as they were.
        steps: losses, hashes, and steps done behind each piece.
        states: steps done, move, norms of parameters and of momentum.
        full: steps done -> state.
    """

    base: NDArray[np.float64]
    shown: NDArray[np.float64]
    last: NDArray[np.float64]
    steps: list[tuple[NDArray[np.floating], NDArray[np.uint64], int]] = field(default_factory=list)
    states: list[tuple[int, NDArray[np.floating], NDArray[np.float64], NDArray[np.float64]]] = field(
        default_factory=list
    )
    full: dict[int, State] = field(default_factory=dict)

    def chunk(self, manifest: Manifest, moves_dtype: str) -> Chunk:
        """All of it, as arrays; at least one step."""
        losses, batches, _ = zip(*self.steps, strict=True)
        return Chunk(
            losses=np.concatenate(losses),
            batches=np.concatenate(batches),
            counts=np.array([state[0] for state in self.states], np.int64),
            moves=_rows([state[1] for state in self.states], len(self.base), moves_dtype),
            norms=_rows([state[2] for state in self.states], len(manifest.tensors), "float64"),
            momentum_norms=_rows([state[3] for state in self.states], len(manifest.momentum), "float64"),
            base=self.base,
            full=self.full,
        )


class Writer:
    """Collects steps and states, and writes them chunk by chunk.

    Args:
        folder: a new or empty folder.
        manifest: without chunks; written at once.
        weights: the initial weights, which the first projections are told from.

    Raises:
        InputError: here and in every method, if a file cannot be written.
    """

    def __init__(self, folder: Path, manifest: Manifest, weights: Weights) -> None:
        self.folder, self.manifest, self.bytes = folder, manifest, 0
        self._schedule = Schedule(limit=manifest.limit, every=manifest.every)
        self._projector = Projector(manifest.tensors)
        self._begin(self._projector(weights))
        check_folder(folder)
        folder.mkdir(exist_ok=True)
        self._write_manifest()

    @property
    def steps(self) -> int:
        """Steps added so far."""
        return self._pending.steps[-1][2] if self._pending.steps else self.manifest.steps

    def add_steps(self, losses: NDArray[np.floating], batches: NDArray[np.uint64]) -> None:
        """Add the next steps: (steps,) losses and hashes of their batches."""
        self._pending.steps.append((losses.astype(np.float64), batches, self.steps + len(losses)))

    def add_state(self, weights: Weights, momentum: Weights) -> None:
        """Add the state after the steps added so far.

        Raises:
            NonFiniteLossError: it is not finite, or has outgrown what a trace can hold.
        """
        pending, count = self._pending, self.steps
        projections = self._projector(weights)
        with np.errstate(over="ignore", invalid="ignore"):
            move = (projections - pending.shown).astype(self._schedule.moves_dtype)
            norms = _norms(weights, self.manifest.tensors)
            momentum_norms = _norms(momentum, self.manifest.momentum)
        if not all(np.isfinite(array).all() for array in (move, norms, momentum_norms)):
            problem = f"the state after step {count - 1} is not finite, or too large to record"
            raise NonFiniteLossError(f"{self.manifest.implementation}: {problem}; try a smaller learning rate")
        pending.states.append((count, move, norms, momentum_norms))
        # What the reader will add up, not what was meant: each move makes good the rounding of the last.
        pending.shown, pending.last = pending.shown + move, projections
        if self._schedule.is_full(count):
            pending.full[count] = State(weights=weights, momentum=momentum)
        if len(pending.states) == CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write a chunk of what was added since the last."""
        first, stop = self.manifest.steps, self.steps
        if first == stop:
            return
        content = self._pending.chunk(self.manifest, self._schedule.moves_dtype).to_bytes()
        name = f"steps-{first:08d}-{stop - 1:08d}.safetensors"
        self._write(name, content)
        self.bytes += len(content)
        entry = ChunkFile(file=name, sha256=hashlib.sha256(content).hexdigest(), first=first, stop=stop)
        self.manifest = replace(self.manifest, chunks=(*self.manifest.chunks, entry))
        self._begin(self._pending.last)
        self._write_manifest()

    def add_beside(self, files: Mapping[str, str]) -> None:
        """Name files that were written beside the chunks, with the SHA-256 of each."""
        self.manifest = replace(self.manifest, beside={**self.manifest.beside, **files})
        self._write_manifest()

    def finish(self, ending: str) -> None:
        """Write what is left, and how the recording ended: "complete", or why it is not."""
        self.flush()
        self.manifest = replace(self.manifest, ending=ending, complete=ending == "complete")
        self._write_manifest()

    def _begin(self, base: NDArray[np.float64]) -> None:
        self._pending = _Pending(base=base, shown=base, last=base)

    def _write_manifest(self) -> None:
        self._write(MANIFEST, self.manifest.to_json().encode())

    def _write(self, name: str, content: bytes) -> None:
        try:
            with replacing(self.folder / name) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            kept = f"the trace ends after {self.manifest.steps} steps"
            problem = f"{name} cannot be written ({error.strerror or error}); {kept}"
            raise InputError("out", self.folder, problem, "free space, or record elsewhere") from error


def _norms(tensors: Weights, names: Iterable[str]) -> NDArray[np.float64]:
    """Frobenius norms, in the order of the names."""
    return np.sqrt([np.square(tensors[name].astype(np.float64)).sum() for name in names])


def _rows(rows: Sequence[NDArray[Any]], width: int, dtype: str) -> NDArray[Any]:
    """(rows, width), for no rows too."""
    return np.array(rows, dtype).reshape(len(rows), width)
