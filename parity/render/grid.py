"""A labelled grid of images as PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parity.data import replacing

__all__ = ["write_grid"]


def write_grid(path: Path, images: NDArray[np.uint8], titles: Sequence[str], *, caption: str) -> None:
    """Draw images with a title above each, in one piece or not at all.

    Args:
        path: the PNG file to write.
        images: (N, H, W, 3) uint8.
        titles: N texts.
        caption: a line above the grid, to say what the images are.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and only needed here
    from matplotlib.figure import Figure

    columns = min(len(images), 8)
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(max(1.3 * columns, 5), 1.6 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(caption, fontsize=9, parse_math=False)
    for axes in (grid := figure.subplots(rows, columns, squeeze=False)).flat:
        axes.set_axis_off()
    for axes, image, title in zip(grid.flat, images, titles, strict=False):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(title, fontsize=8, parse_math=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
