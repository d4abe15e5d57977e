"""The numbers of consecutive steps, as one safetensors file.

Source: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from parity.contract import Weights

__all__ = ["Chunk", "State"]


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """A state kept in full: canonical tensors in the run's dtype; `momentum` is {} where the side keeps none."""

    weights: Weights
    momentum: Weights


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """What a trace holds of consecutive steps.

    Args:
        losses: (steps,) float64.
        batches: (steps,) uint64, a hash of the images and labels that each step saw, in order.
        counts: (recorded,) int64, ascending: steps done at each recorded state.
        norms: (recorded, tensors) float64, Frobenius norms of the parameters.
        momentum_norms: (recorded, momentum tensors) float64, the same of the momentum.
        base: (width,) float64, the projections of the state before the chunk.
        moves: (recorded, width), from each projection to the next; see `Schedule.moves_dtype`.
        full: steps done -> state, for some of `counts`.
    """

    losses: NDArray[np.float64]
    batches: NDArray[np.uint64]
    counts: NDArray[np.int64]
    norms: NDArray[np.float64]
    momentum_norms: NDArray[np.float64]
    base: NDArray[np.float64]
    moves: NDArray[np.floating]
    full: Mapping[int, State]

    def projections(self, columns: slice) -> NDArray[np.float64]:
        """(recorded, columns): the projections, by the same additions in the same order as the writer made."""
        return np.cumsum(np.vstack([self.base[np.newaxis, columns], self.moves[:, columns]]), axis=0, dtype=np.float64)[
            1:
        ]

    def to_bytes(self) -> bytes:
        """The file's content."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        for count, state in self.full.items():
            for kind in _KINDS:
                tensors = getattr(state, kind).items()
                arrays |= {f"{kind}.{count}.{name}": np.ascontiguousarray(value) for name, value in tensors}
        return safetensors.numpy.save(arrays)

    @classmethod
    def from_bytes(cls, content: bytes) -> Chunk:
        """Read a file's content.

        Raises:
            KeyError, ValueError, SafetensorError: it is not such a file.
        """
        arrays = safetensors.numpy.load(content)
        fields = {name: arrays.pop(name) for name in _ARRAYS}
        full: dict[int, State] = {}
        for key, value in arrays.items():
            kind, count, name = key.split(".", 2)
            getattr(full.setdefault(int(count), State(weights={}, momentum={})), kind)[name] = value
        return cls(**fields, full=full)

    def is_finite(self) -> bool:
        """Whether every number is: what is not can be compared with nothing."""
        arrays = [self.losses, self.norms, self.momentum_norms, self.base, self.moves]
        states = [value for state in self.full.values() for kind in _KINDS for value in getattr(state, kind).values()]
        return all(bool(np.isfinite(array).all()) for array in [*arrays, *states])


_ARRAYS = ("losses", "batches", "counts", "norms", "momentum_norms", "base", "moves")
_KINDS = ("weights", "momentum")
