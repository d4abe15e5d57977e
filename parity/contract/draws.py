"""Random numbers that are the same on every platform and in every NumPy version.

NumPy promises the raw 64-bit words of a bit generator for good, but may change what `Generator.integers` or
`Generator.permutation` make of them. So everything that must be reproducible (initial weights, index plans, the
embedded images) is made here from the raw words, with operations that IEEE 754 rounds exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stream"]


class Stream:
    """A stream of random words for one purpose.

    Args:
        seed: the user's seed, >= 0.
        purpose: integers that keep streams of one seed independent of each other (what it is for, which epoch).

    >>> Stream(0, 1).permutation(5).tolist() == Stream(0, 1).permutation(5).tolist()
    True
    """

    def __init__(self, seed: int, *purpose: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, *purpose]))

    def words(self, count: int) -> NDArray[np.uint64]:
        """The next `count` raw words, uniform over all 64-bit integers."""
        words: NDArray[np.uint64] = self._bits.random_raw(count)
        return words

    def uniform(self, count: int) -> NDArray[np.float64]:
        """`count` numbers in [0, 1), multiples of 2**-53: the top 53 bits of a word each."""
        return (self.words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integers(self, below: int, count: int) -> NDArray[np.int32]:
        """`count` integers in [0, below), for `below` up to 2**31; the bias is under below / 2**53."""
        return np.floor(self.uniform(count) * below).astype(np.int32)

    def permutation(self, size: int) -> NDArray[np.int32]:
        """The integers 0..size-1 in random order: the order that sorts `size` words."""
        return np.argsort(self.words(size), kind="stable").astype(np.int32)
