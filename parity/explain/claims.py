"""Causes of what a side states about itself: its accuracy, the precision that it has, and that it repeats."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parity.compare import Finding
from parity.contract import StepTrace
from parity.explain.cause import Explanation
from parity.explain.fit import Deviation, Fit, far, settle
from parity.explain.network import NODES, output_of
from parity.explain.relayout import round_to
from parity.oracle.layers import Array

__all__ = ["explain_fast_path", "explain_precision", "explain_repeat", "explain_score"]


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


def explain_precision(finding: Finding, trace: StepTrace | None) -> Explanation:
    """A side that computes with fewer bits than float32: those of a known format, if that predicts its first layer.

    Args:
        finding: of the precision.
        trace: a float32 step of the CNN on that side; None where its formulas are not known.
    """
    deviation = _deviation(finding)
    left = finding.difference
    if trace is not None and "conv1" in trace.activations:
        found = np.asarray(trace.activations["conv1"], np.float64)
        for key, name, bits in FORMATS:
            left = min(far(found, made) for made in _first_layers(trace, bits))
            if left <= SUMMED:
                cause = deviation.cause(key=key, sentence=f"computes products in {name}", residual=left)
                return Explanation(causes=(cause,))
    bits = int(-np.log2(finding.difference)) if 0 < finding.difference < 1 else 0
    sentence = f"computes with about {bits} significant bits, where float32 has 24"
    return Explanation(causes=(deviation.cause(key="lower-precision", sentence=sentence, residual=left),))


FORMATS = (("bfloat16-compute", "bfloat16", 8), ("tf32", "TF32 or float16", 11))

SUMMED = 20 * float(np.finfo(np.float32).eps)
"""What is left of the first layer, whose sums have 75 terms, when its factors are rounded as the side rounds them.

The factors of the other format leave 2^-11 at least: 200 times as much.
"""


def _first_layers(trace: StepTrace, bits: int) -> Iterator[Array]:
    """The first layer of rounded images and kernels, with and without a rounded bias, and rounded outputs."""
    found = np.asarray(trace.activations["conv1"], np.float64)
    x = round_to(np.asarray(trace.batch["images"], np.float64), bits)
    weights = {name: np.asarray(value, np.float64) for name, value in trace.weights.items()}
    rounded = {name: round_to(value, bits) for name, value in weights.items()}
    for bias in (weights["conv1.bias"], rounded["conv1.bias"]):
        made = output_of(NODES["conv1"], x, {**rounded, "conv1.bias": bias})
        yield made
        if np.array_equal(round_to(found, bits), found):
            # Which way a sum is rounded may hang on its own rounding in float32.
            near = np.abs(found - made) <= 2.0**-bits * np.abs(made) + SUMMED * np.abs(made).max()
            yield np.where(near, found, made)
