"""What the predictions of a trained side are worth, and how often two sides agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.contract import NUM_CLASSES

__all__ = ["accuracy", "accuracy_per_class", "agreement", "predictions"]

Labels = NDArray[np.integer]


def predictions(logits: NDArray[np.floating]) -> Labels:
    """(N, classes) outputs -> (N,) class numbers: the largest output, the first of equals."""
    predicted: Labels = logits.argmax(axis=1)
    return predicted


def accuracy(predicted: Labels, labels: Labels) -> float:
    """Share of images, 0 to 1, whose prediction is the label."""
    return float(np.mean(predicted == labels))


def accuracy_per_class(predicted: Labels, labels: Labels) -> tuple[float | None, ...]:
    """`accuracy` over the images of each class; None for a class that has none."""
    return tuple(
        accuracy(predicted[labels == label], labels[labels == label]) if np.any(labels == label) else None
        for label in range(NUM_CLASSES)
    )


def agreement(predicted: Labels, other: Labels) -> float:
    """Share of images, 0 to 1, on which two sides predict the same class, right or wrong."""
    return float(np.mean(predicted == other))
