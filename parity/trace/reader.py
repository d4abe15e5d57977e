"""Reads a trace, and refuses one that is not whole: what is compared must be what was recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from parity.contract import InputError, Weights
from parity.trace.chunk import Chunk, State
from parity.trace.manifest import ChunkFile, Manifest
from parity.trace.projection import width_of
from parity.trace.schedule import Schedule

__all__ = ["Trace", "read_trace"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """A trace in memory.

    Args:
        path: its folder.
        manifest: what is known of it beside its numbers.
        chunks: its numbers, in order.
        losses: (steps,) float64.
        batches: (steps,) uint64.
        counts: (recorded,) int64, steps done at each recorded state, ascending.
        norms: (recorded, tensors) float64.
        momentum_norms: (recorded, momentum tensors) float64.
        full: steps done -> state.
    """

    path: Path
    manifest: Manifest
    chunks: tuple[Chunk, ...]
    losses: NDArray[np.float64]
    batches: NDArray[np.uint64]
    counts: NDArray[np.int64]
    norms: NDArray[np.float64]
    momentum_norms: NDArray[np.float64]
    full: Mapping[int, State]

    def projections(self, columns: slice) -> NDArray[np.float64]:
        """(recorded, columns): one tensor's projections after each recorded step."""
        return np.concatenate([chunk.projections(columns) for chunk in self.chunks])

    def rounding(self, columns: slice) -> NDArray[np.float64]:
        """(recorded,): the most by which one tensor's projections can be off: half an ulp of each one's last move."""
        moves = np.concatenate([chunk.moves[:, columns] for chunk in self.chunks])
        lengths: NDArray[np.float64] = np.sqrt(np.square(moves.astype(np.float64)).sum(axis=1))
        return lengths * float(np.finfo(moves.dtype).eps) / 2


def read_trace(folder: Path, *, argument: str = "trace") -> Trace:
    """Read and verify a trace, an incomplete one as far as its complete chunks go.

    Raises:
        InputError: it is no trace, of an unknown format version, or damaged: a file is missing, truncated or edited,
            or holds NaN; or there is no complete step in it.
    """
    manifest = Manifest.read(folder, argument=argument)
    if not manifest.chunks:
        raise InputError(argument, folder, f"it holds no complete step ({manifest.ending})", "record it again")
    chunks, first = [], 0
    for entry in manifest.chunks:
        if entry.first != first:
            raise _refusal(argument, folder, f"steps {first} to {entry.first - 1} are missing")
        chunks.append(_read_chunk(folder, entry, manifest, argument))
        first = entry.stop
    return Trace(
        path=folder,
        manifest=manifest,
        chunks=tuple(chunks),
        losses=np.concatenate([chunk.losses for chunk in chunks]),
        batches=np.concatenate([chunk.batches for chunk in chunks]),
        counts=np.concatenate([chunk.counts for chunk in chunks]),
        norms=np.concatenate([chunk.norms for chunk in chunks]),
        momentum_norms=np.concatenate([chunk.momentum_norms for chunk in chunks]),
        full={count: state for chunk in chunks for count, state in chunk.full.items()},
    )


def _read_chunk(folder: Path, entry: ChunkFile, manifest: Manifest, argument: str) -> Chunk:
    try:
        content = (folder / entry.file).read_bytes()
    except OSError as error:
        raise _refusal(argument, folder, f"{entry.file} cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise _refusal(argument, folder, f"{entry.file} was truncated or edited: its SHA-256 is another")
    try:
        chunk = Chunk.from_bytes(content)
    except (AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise _refusal(argument, folder, f"{entry.file} does not hold what the format promises ({error!r})") from error
    if problem := _contradiction(chunk, entry, manifest):
        raise _refusal(argument, folder, f"{entry.file} does not hold what the manifest says: {problem}")
    if not chunk.is_finite():
        raise _refusal(argument, folder, f"{entry.file} holds NaN or infinity")
    return chunk


def _refusal(argument: str, folder: Path, problem: str) -> InputError:
    return InputError(argument, folder, problem, "copy it again, or record it again")


def _contradiction(chunk: Chunk, entry: ChunkFile, manifest: Manifest) -> str | None:
    """In what a chunk and the manifest contradict each other; None if in nothing."""
    steps, recorded = entry.stop - entry.first, len(chunk.counts)
    tensors, width = len(manifest.tensors), width_of(manifest.tensors)
    expected = {
        "losses": ("float64", (steps,)),
        "batches": ("uint64", (steps,)),
        "counts": ("int64", (recorded,)),
        "norms": ("float64", (recorded, tensors)),
        "momentum_norms": ("float64", (recorded, len(manifest.momentum))),
        "base": ("float64", (width,)),
        "moves": (Schedule(limit=manifest.limit, every=manifest.every).moves_dtype, (recorded, width)),
    }
    for name, (dtype, shape) in expected.items():
        array = getattr(chunk, name)
        if (str(array.dtype), array.shape) != (dtype, shape):
            return f"{name} is {array.dtype} {array.shape}, not {dtype} {shape}"
    edges = [entry.first, *chunk.counts.tolist(), entry.stop + 1]
    if any(after <= before for before, after in pairwise(edges)):
        return "its recorded steps are not in order"
    if not chunk.full.keys() <= set(chunk.counts.tolist()):
        return "a full state belongs to no recorded step"
    for state in chunk.full.values():
        if _shapes(state.weights) != manifest.tensors:
            return "a full state has other parameters"
        if _shapes(state.momentum) != manifest.momentum:
            return "a full state has other momentum buffers"
    return None


def _shapes(tensors: Weights) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in tensors.items()}
