"""Test images with what each side takes them for: first those on which the sides disagree."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

from parity.compare import predictions
from parity.data import Dataset
from parity.report.page import Gallery, Picture, Section
from parity.running.history import Run

__all__ = ["sample_section"]

SHOWN = 24
DISAGREEING = 16
"""At most so many on which the sides disagree, so that some are left for the others."""


def sample_section(run: Run, dataset: Dataset) -> tuple[Section, ...]:
    """A grid of images; nothing where a side was not evaluated."""
    found = [predictions(side.logits) for side in run.sides if side.logits is not None]
    if len(found) < len(run.sides):
        return ()
    differing = np.flatnonzero(found[0] != found[-1])
    others = np.flatnonzero(found[0] == found[-1])
    first = differing[:DISAGREEING]
    rows = [*first.tolist(), *others[: SHOWN - len(first)].tolist()]
    pictures = tuple(_picture(row, run, dataset, found) for row in rows)
    return (Section(title="Sample images", blocks=(Gallery(pictures=pictures, caption=_caption(differing, found)),)),)


def _caption(differing: NDArray[np.intp], found: list[NDArray[np.integer]]) -> str:
    if len(found) < 2:
        return "The first test images with what is predicted for them."
    count, total = len(differing), len(found[0])
    if not count:
        return f"The sides agree on all {total:,} test images; these are the first."
    shown = f"the first {min(count, DISAGREEING)} of them come first, framed" if count > 1 else "it comes first, framed"
    return f"The sides disagree on {count:,} of {total:,} test images; {shown}."


def _picture(row: int, run: Run, dataset: Dataset, found: list[NDArray[np.integer]]) -> Picture:
    truth = dataset.classes[int(dataset.test_labels[row])]
    said = [(side.name, dataset.classes[int(each[row])]) for side, each in zip(run.sides, found, strict=True)]
    spoken = ", ".join(f"{name} says {label}" for name, label in said)
    return Picture(
        uri=_png_uri(dataset.test_images[row]),
        alt=f"Test image {row}, a {truth}: {spoken}",
        lines=((f"image {row}", truth), *((name, f"{label} {'✓' if label == truth else '✗'}") for name, label in said)),
        marked=len({label for _, label in said}) > 1,
    )


def _png_uri(image: NDArray[np.uint8]) -> str:
    """(height, width, 3) -> a data URI."""
    from PIL import Image  # slow to import, and only needed here

    memory = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(memory, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(memory.getvalue()).decode("ascii")
