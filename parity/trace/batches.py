"""The batches of a run: which rows, their hashes, and the images that are proved to be theirs.

A trace holds a hash of the images and labels that each step was to see. So images from anywhere, a data set at hand or
what a side has recorded of its own input, can be known for the right ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.contract import StepTrace
from parity.data import IMAGE_SHAPE, Dataset, Loader
from parity.oracle.layers import normalise

__all__ = ["Examples", "batch_hashes", "examples_of", "first_rows", "recorded_examples", "row_hashes"]

Images = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """What one step was to see: (B, 3, 32, 32) images, normalised, in float64; and (B,) class numbers."""

    images: Images
    labels: NDArray[np.integer]


def first_rows(loader: Loader, count: int) -> list[NDArray[np.int32]]:
    """The rows of each of a run's first steps."""
    epochs = range(-(-count // loader.steps_per_epoch))
    return [rows for epoch in epochs for plan in loader.plans(epoch) for rows in plan][:count]


def batch_hashes(plan: NDArray[np.int32], rows: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(steps,) a hash of each step's images and labels, in their order, from the hashes of the data set's rows."""
    digests = [hashlib.blake2b(rows[batch].astype("<u8").tobytes(), digest_size=8).digest() for batch in plan]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def row_hashes(images: NDArray[np.uint8], labels: NDArray[np.integer]) -> NDArray[np.uint64]:
    """(N,) a hash of each image, (N, 32, 32, 3), and its label, (N,)."""
    pairs = zip(np.ascontiguousarray(images), labels.astype("<i4"), strict=True)
    digests = [hashlib.blake2b(image.tobytes() + label.tobytes(), digest_size=8).digest() for image, label in pairs]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def examples_of(dataset: Dataset, loader: Loader, batches: NDArray[np.uint64]) -> list[Examples]:
    """The first steps' examples from a data set, as far as they have the hashes that the trace holds.

    Args:
        dataset: images and labels.
        loader: of the run.
        batches: (steps,) the trace's hashes.
    """
    found = []
    for rows, due in zip(first_rows(loader, len(batches)), batches, strict=True):
        images, labels = dataset.train_images[rows], dataset.train_labels[rows]
        if not _is_due(images, labels, due):
            break
        found.append(Examples(images=normalise(images), labels=np.asarray(labels, np.int64)))
    return found


def recorded_examples(sides: Sequence[Sequence[StepTrace]], batches: NDArray[np.uint64]) -> list[Examples]:
    """The same from what the sides have recorded of their own input, of each step from the first side that is right."""
    found = []
    for number, due in enumerate(batches):
        known = (_recorded(side[number], due) for side in sides if number < len(side))
        examples = next((each for each in known if each), None)
        if examples is None:
            break
        found.append(examples)
    return found


def _recorded(step: StepTrace, due: np.uint64) -> Examples | None:
    """What a side was fed, if it is what was due: its pixels are those that its images were normalised from."""
    images, labels = (np.asarray(step.batch.get(name, ())) for name in ("images", "labels"))
    height, width, channels = IMAGE_SHAPE
    if images.shape[1:] != (channels, height, width) or labels.shape != images.shape[:1]:
        return None
    values = np.rint((images.astype(np.float64) + 1) * 127.5).transpose(0, 2, 3, 1)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= np.iinfo(np.uint8).max):
        return None
    pixels, classes = values.astype(np.uint8), labels.astype(np.int64)
    return Examples(images=normalise(pixels), labels=classes) if _is_due(pixels, classes, due) else None


def _is_due(images: NDArray[np.uint8], labels: NDArray[np.integer], due: np.uint64) -> bool:
    rows = np.arange(len(images), dtype=np.int32)[np.newaxis]
    return bool(batch_hashes(rows, row_hashes(images, labels))[0] == due)
