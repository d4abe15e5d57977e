"""What a program says of its training and of itself: losses, metrics, precision, repeatability."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.compare import accuracy, predictions
from parity.contract import AnyImplementation
from parity.drill.fault import ANY, PRECISION, Fault, Host, Mutation, Probe
from parity.drill.reporting import lose_repeatability, loss_after_update, score_with, single_precision
from parity.registry import resolve

__all__ = ["REPORTS"]

Array = NDArray[np.floating]

END = Probe().steps
"""The evaluation is counted as the step after the last."""


def over_images(logits: Array, labels: NDArray[np.generic]) -> float:
    """The largest output of each class over the images, for that of each image over the classes."""
    predicted = logits.argmax(axis=0)
    return float(np.mean(predicted == labels[: len(predicted)]))


def not_normalised(logits: Array, labels: NDArray[np.generic]) -> float:
    """The number of right predictions for their share."""
    return float(np.sum(predictions(logits) == labels))


def mean_of_batches(logits: Array, labels: NDArray[np.generic]) -> float:
    """The mean over batches, of which the last is smaller and counts as much as the others."""
    size = Probe().batch_size
    right = (predictions(logits) == labels).astype(np.float64)
    return float(np.mean([right[first : first + size].mean() for first in range(0, len(right), size)]))


def right_metric(logits: Array, labels: NDArray[np.generic]) -> float:
    """The share of predictions that are right."""
    return accuracy(predictions(logits), labels)  # type: ignore[arg-type] # integers


def named(name: str) -> Mutation:
    """The implementation of that name, whatever the host."""

    def plant(host: Host) -> AnyImplementation:  # noqa: ARG001  as `Mutation` has it
        return resolve(name)

    return plant


def _metric(key: str, title: str, plant: Mutation) -> Fault:
    return Fault(key=key, title=title, stage="evaluation", first=END, plant=plant)


def _products(key: str, title: str, name: str) -> Fault:
    """float32 alone shows it, in all steps together, and in the first layer."""
    return Fault(key=key, title=title, stage="activations", first=0, plant=named(name), scope=PRECISION)


REPORTS = (
    Fault(
        key="loss-after-update",
        title="the loss is computed after the update",
        stage="loss",  # the evaluation is of the step's own batch, so that it is the step's loss that is another
        first=0,
        plant=loss_after_update,
        scope=ANY,
    ),
    _metric("metric-axis", "the metric takes the argmax over the images", score_with(over_images)),
    _metric("metric-not-normalised", "the metric is a number, not a share", score_with(not_normalised)),
    _metric("metric-mean-of-batches", "the metric is a mean of unequal batches", score_with(mean_of_batches)),
    Fault(
        key="x64-off",
        title="float64 is asked for, float32 computed",
        stage="batch",  # the images are float32 numbers already
        first=0,
        plant=single_precision,
    ),
    _products("bfloat16-compute", "products are computed in bfloat16", "torch_impl.emulated:bfloat16"),
    _products("tf32", "products are computed in TF32", "torch_impl.emulated:tf32"),
    Fault(
        key="not-deterministic",
        title="the same step twice gives other bits",
        stage="update",
        first=0,
        phase="repeat",
        plant=lose_repeatability,
        scope=ANY,
    ),
)
