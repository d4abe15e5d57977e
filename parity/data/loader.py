"""The shared loader: which rows each step sees, from the seed alone.

    order(epoch) = the permutation that (seed, epoch) draws
    step k of the epoch sees order[k * batch_size : (k + 1) * batch_size]

Both sides are given the same index plans, so that "the same batches" is a fact and not a hope.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.contract import InputError, Stream, normalisation_table

__all__ = ["Loader"]

_PURPOSE = 2  # keeps the plans' random stream apart from the initial weights'


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Index plans for a training set, shuffled anew each epoch; the last partial batch is kept.

    Args:
        size: images in the set, >= 1.
        batch_size: images in a step, from 1 to `size`.
        seed: >= 0.

    Raises:
        InputError: batch_size or seed out of range.

    >>> Loader(size=10, batch_size=4, seed=0).steps_per_epoch
    3
    """

    size: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= self.size:
            raise InputError(
                "batch_size", self.batch_size, f"the training set has {self.size} images", f"give 1 to {self.size}"
            )
        if self.seed < 0:
            raise InputError("seed", self.seed, "it is negative", "give 0 or more")

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch, a last partial batch included."""
        return -(-self.size // self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int32]:
        """(size,) int32: the rows in the order in which this epoch (from 0) sees them."""
        return Stream(self.seed, _PURPOSE, epoch).permutation(self.size)

    def plans(self, epoch: int, *, length: int | None = None, start: int = 0) -> Iterator[NDArray[np.int32]]:
        """This epoch's index plans: rectangular (steps, batch) int32 pieces, in order.

        Args:
            epoch: from 0.
            length: the most steps in a piece; None for no limit.
            start: the step of the epoch to begin with, to resume there.

        Yields:
            Pieces of `length` full batches, the rest of the full batches, and the last partial batch by itself.
        """
        order = self.order(epoch)
        full = len(order) // self.batch_size
        steps = order[: full * self.batch_size].reshape(full, self.batch_size)
        for first in range(start, full, length or max(full, 1)):
            yield steps[first : first + (length or full)]
        if start < self.steps_per_epoch and full < self.steps_per_epoch:
            yield order[full * self.batch_size :][np.newaxis]

    def batches(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.integer],
        epoch: int,
        *,
        dtype: str = "float32",
        start: int = 0,
    ) -> Iterator[tuple[NDArray[np.floating], NDArray[np.integer]]]:
        """The batches that the plans stand for, as a framework's own loader would give them.

        Args:
            images: (size, H, W, C) uint8.
            labels: (size,) integers.
            epoch: as in `plans`.
            dtype: of the normalised images.
            start: as in `plans`.

        Yields:
            (batch, C, H, W) images from -1 to 1, equal to torchvision's ToTensor and Normalize(0.5, 0.5) to the last
            bit in float32, and (batch,) labels.
        """
        table = normalisation_table(dtype)
        for plan in self.plans(epoch, start=start):
            for rows in plan:
                yield table[images[rows].transpose(0, 3, 1, 2)], labels[rows]
