"""A data set in memory, checked once: every other part may rely on it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parity.contract import NUM_CLASSES, InputError

__all__ = ["CIFAR10_CLASSES", "IMAGE_SHAPE", "Dataset"]

IMAGE_SHAPE = (32, 32, 3)

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Training and test images with labels.

    Args:
        name: what results are labelled with.
        origin: one line on what it is and where it comes from, printed with every result.
        train_images, test_images: (N, 32, 32, 3) uint8, RGB.
        train_labels, test_labels: (N,) integers from 0 to 9; kept as int32.
        classes: ten class names.
        source: what the user gave, for the errors; None for `name`.

    Raises:
        InputError: an array has another shape or dtype, labels out of range, or a set is empty.
    """

    name: str
    origin: str
    train_images: NDArray[np.uint8] = field(repr=False)
    train_labels: NDArray[np.integer] = field(repr=False)
    test_images: NDArray[np.uint8] = field(repr=False)
    test_labels: NDArray[np.integer] = field(repr=False)
    classes: tuple[str, ...] = CIFAR10_CLASSES
    source: str | None = None

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            labels = getattr(self, f"{split}_labels")
            self._check_images(f"{split}_images", getattr(self, f"{split}_images"))
            self._check_labels(f"{split}_labels", labels, len(getattr(self, f"{split}_images")))
            object.__setattr__(self, f"{split}_labels", labels.astype(np.int32))
        if len(self.classes) != NUM_CLASSES:
            raise self._refusal(f"classes has {len(self.classes)} names", f"give {NUM_CLASSES}")

    def _refusal(self, problem: str, fix: str) -> InputError:
        return InputError("data", self.source or self.name, problem, fix)

    def _check_images(self, array: str, images: NDArray[np.uint8]) -> None:
        if images.dtype != np.uint8:
            raise self._refusal(f"{array} is {images.dtype}, not uint8", "store pixels as uint8, 0 to 255")
        if images.ndim != 4 or images.shape[1:] != IMAGE_SHAPE:
            raise self._refusal(f"{array} has shape {images.shape}", "store images as (N, 32, 32, 3)")
        if len(images) == 0:
            raise self._refusal(f"{array} is empty", "give at least one image")

    def _check_labels(self, array: str, labels: NDArray[np.integer], size: int) -> None:
        if not np.issubdtype(labels.dtype, np.integer):
            raise self._refusal(f"{array} is {labels.dtype}, not an integer type", "store labels as integers")
        if labels.shape != (size,):
            raise self._refusal(f"{array} has shape {labels.shape}, not ({size},)", "give one label for each image")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= NUM_CLASSES:
            raise self._refusal(f"{array} runs from {low} to {high}", f"number the classes from 0 to {NUM_CLASSES - 1}")

    def fingerprint(self) -> str:
        """SHA-256 of all arrays, so that two reports can be known to be about the same data."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
