"""Why a side's outputs for test examples are not those of its weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parity.compare import Finding
from parity.contract import Weights
from parity.explain.cause import Cause, Unknown
from parity.explain.fit import Deviation, Fit, far, settle
from parity.explain.network import NODES, output_of
from parity.explain.relayout import image_readings
from parity.oracle.layers import Array

__all__ = ["explain_evaluation"]


def explain_evaluation(
    finding: Finding, side: str, logits: NDArray[np.floating], images: Array, weights: Weights
) -> Cause | Unknown | None:
    """The images that a side evaluates, where they are not those that it was given.

    Args:
        finding: that the sides' outputs differ.
        side: the name.
        logits: (N, 10), its outputs.
        images: (N, 3, 32, 32), normalised.
        weights: its own.

    Returns:
        None where its outputs are those of its weights.
    """
    difference = far(logits, _outputs(images, weights))
    deviation = Deviation(side=side, step=finding.step or 0, place=finding.place, difference=difference)
    if difference <= deviation.allowed:
        return None
    fits = [
        Fit(key=f"evaluation-{key}", sentence=f"evaluates {sentence}", residual=far(logits, _outputs(changed, weights)))
        for key, sentence, changed in _changed(images)
    ]
    return settle(deviation, fits)


def _outputs(images: Array, weights: Weights) -> Array:
    """The CNN's own."""
    x = images
    for node in NODES.values():
        x = output_of(node, x, weights)
    return x


def _changed(images: Array) -> Iterator[tuple[str, str, Array]]:
    """Scales and orders by which test images are fed differently from training images."""
    yield "raw-pixels", "pixels from 0 to 255", (images + 1) * 127.5
    yield "no-shift", "pixels from 0 to 1, which are not shifted", (images + 1) / 2
    for reading in image_readings(images.shape[1:]):
        if reading.order:
            yield "images-relaid", f"images {reading.name}", np.stack([reading.read(image) for image in images])
