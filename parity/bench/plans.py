"""The rows that a timed call sees: the loader's epochs, one after the other, without partial batches."""

from __future__ import annotations

from itertools import count

import numpy as np
from numpy.typing import NDArray

from parity.data import Loader

__all__ = ["timed_plan"]


def timed_plan(loader: Loader, steps: int) -> NDArray[np.int32]:
    """(steps, batch) int32: as many steps as are asked for, whatever the size of the set."""
    pieces: list[NDArray[np.int32]] = []
    for epoch in count():
        piece = next(loader.plans(epoch))  # the first holds all full batches, of which there is at least one
        pieces.append(piece[: steps - sum(map(len, pieces))])
        if sum(map(len, pieces)) == steps:
            return np.concatenate(pieces)
    raise AssertionError  # count() does not end
