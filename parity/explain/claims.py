"""Causes of what a side states about itself: its accuracy, and that it repeats."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parity.compare import Finding
from parity.explain.cause import Explanation
from parity.explain.fit import Deviation, Fit, settle

__all__ = ["explain_fast_path", "explain_repeat", "explain_score"]


def explain_score(
    finding: Finding, stated: float, logits: NDArray[np.floating], labels: NDArray[np.integer], batch_size: int
) -> Explanation:
    """What a side states for the share of right predictions.

    Args:
        finding: that it is another.
        stated: its own figure.
        logits: (N, classes), its own outputs.
        labels: (N,).
        batch_size: of its training.
    """
    deviation = _deviation(finding)
    fits = [
        Fit(key=key, sentence=sentence, residual=abs(value - stated) / max(abs(stated), 1.0))
        for key, sentence, value in _metrics(logits, labels, batch_size)
    ]
    return Explanation.of([settle(deviation, fits)])


def _deviation(finding: Finding) -> Deviation:
    """The finding as one of the side that it names."""
    return Deviation(side=finding.off[0], step=finding.step or 0, place=finding.place, difference=finding.difference)


def _metrics(
    logits: NDArray[np.floating], labels: NDArray[np.integer], batch_size: int
) -> Iterator[tuple[str, str, float]]:
    """Figures that are taken for an accuracy."""
    right = (logits.argmax(axis=1) == labels).astype(np.float64)
    columns = logits.argmax(axis=0)
    size = min(len(columns), len(labels))
    over_images = float(np.mean(columns[:size] == labels[:size]))
    yield "metric-axis", "takes the argmax over the images, not the classes", over_images
    yield "metric-not-normalised", "states the number of right predictions, not their share", float(right.sum())
    yield "metric-in-percent", "states per cent, not a share", 100 * float(right.mean())
    yield "metric-is-error", "states the share of wrong predictions", 1 - float(right.mean())
    for number in dict.fromkeys((batch_size, 2, 4, 8, 16, 32, 64, 100, 128, 256, 500)):
        means = [right[first : first + number].mean() for first in range(0, len(right), number)]
        sentence = f"takes the mean of batches of {number}, of which the last is smaller and counts as much"
        yield "metric-mean-of-batches", sentence, float(np.mean(means))
        whole = len(right) // number * number
        if whole and whole < len(right):
            sentence = f"leaves out the last batch, which has fewer than {number}"
            yield "metric-last-batch-dropped", sentence, float(right[:whole].mean())


def explain_fast_path(finding: Finding) -> Explanation:
    """A program whose `run` is another than its `observe`: each by itself may be right."""
    cause = _deviation(finding).cause(key="fast-path", sentence="computes something else in run() than in observe()")
    return Explanation(causes=(cause,))


def explain_repeat(finding: Finding) -> Explanation:
    """A step that is another each time."""
    sentence = "is not deterministic: the same step twice gives other bits (the order of sums, or random numbers)"
    return Explanation(causes=(_deviation(finding).cause(key="not-deterministic", sentence=sentence),))
