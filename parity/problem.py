"""What programs are compared on: training data, data to evaluate on, and initial weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parity.contract import NUM_CLASSES, Weights
from parity.data import Dataset

__all__ = ["Arrays", "Problem", "cnn_problem"]

Arrays = tuple[NDArray[np.generic], ...]
"""A data set as `Implementation.place` takes it: arrays of equal length."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Data and initial weights.

    Args:
        train: equally long arrays; a step sees the same rows of each.
        test: likewise, for the evaluation.
        weights: initial weights, in the names and layout that both sides take.
        outputs: the shape of the model's outputs for one example; None where only the program knows.
        is_cnn: whether it is the tutorial's CNN, whose oracle and probes are known.
    """

    train: Arrays = field(repr=False)
    test: Arrays = field(repr=False)
    weights: Weights = field(repr=False)
    outputs: tuple[int, ...] | None = None
    is_cnn: bool = False

    @property
    def size(self) -> int:
        """Training examples."""
        return len(self.train[0])

    def fingerprint(self) -> str:
        """SHA-256 of all arrays, of a CNN's data set that data set's own."""
        digest = hashlib.sha256()
        for array in (*self.train, *(() if self.train is self.test else self.test)):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def cnn_problem(dataset: Dataset, weights: Weights) -> Problem:
    """The tutorial's CNN on a set of images."""
    return Problem(
        train=(dataset.train_images, dataset.train_labels),
        test=(dataset.test_images, dataset.test_labels),
        weights=weights,
        outputs=(NUM_CLASSES,),
        is_cnn=True,
    )
