"""Labelled grids of images as PNG or SVG: a training batch, or test images with what each side takes them for."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import InputError
from parity.data import replacing
from parity.render.figure import saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["KINDS", "both_kinds", "draw_grid", "kind_of", "write_grid"]

KINDS = ("png", "svg")
COLUMNS = 8
SIZE, LINE = 1.35, 0.17
"""Inches: of an image with its margin, and of a line of text."""

RIGHT, WRONG = "#000000", "#D55E00"
"""A wrong label is marked by a cross too: colour alone is not seen by all."""


def kind_of(path: Path, *, argument: str) -> str:
    """The kind of picture, "png" or "svg", by the file's name.

    Raises:
        InputError: it is neither.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise InputError(argument, path, "it ends neither in .png nor in .svg", "name such a file")
    return kind


def both_kinds(path: Path) -> tuple[Path, ...]:
    """The picture as PNG and as SVG, that of the path first."""
    other = {"png": "svg", "svg": "png"}[path.suffix.removeprefix(".").lower()]
    return path, path.with_suffix(f".{other}")


def write_grid(path: Path, images: NDArray[np.uint8], titles: Sequence[str], *, caption: str) -> None:
    """Draw images with a title above each, in one piece or not at all; as PNG and as SVG, one beside the other.

    Args:
        path: one of the two files to write.
        images: (N, H, W, 3) uint8.
        titles: N texts.
        caption: beneath the grid, to say what the images are.
    """
    kind_of(path, argument="out")
    for file in both_kinds(path):
        kind = kind_of(file, argument="out")
        content = draw_grid(images, titles, [() for _ in titles], caption=caption, kind=kind)
        with replacing(file) as temporary:
            temporary.write_bytes(content)


def draw_grid(
    images: NDArray[np.uint8],
    titles: Sequence[str],
    labels: Sequence[Sequence[tuple[str, bool]]],
    *,
    caption: str,
    kind: str,
) -> bytes:
    """The images, each with its title above and its labels beneath; as "png" or "svg", the same bytes every time.

    Args:
        images: (N, H, W, 3) uint8, at least one.
        titles: N texts.
        labels: of each image, texts and whether they are right; as many for every image.
        caption: beneath the grid.
        kind: "png" or "svg".
    """
    import matplotlib as mpl  # slow to import, and only needed here
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    columns = min(len(images), COLUMNS)
    rows, beneath = math.ceil(len(images) / columns), len(labels[0])
    width = max(SIZE * columns, 5)
    lines = textwrap.wrap(caption, width=int(width * 14.2))
    cell = SIZE + LINE * (1 + beneath)
    foot = LINE * (len(lines) + 1.2)
    with mpl.rc_context({"svg.hashsalt": "parity", "font.size": 9}):
        canvas = Canvas(figsize=(width, rows * cell + foot))
        FigureCanvasAgg(canvas)
        height = rows * cell + foot
        for number, (image, title, found) in enumerate(zip(images, titles, labels, strict=True)):
            row, column = divmod(number, columns)
            left = (width - columns * SIZE) / 2 + column * SIZE + 0.06
            top = height - row * cell - LINE * 1.3
            _draw_cell(canvas, image, title, found, (left, top, width, height))
        canvas.text(0.1 / width, (foot - LINE * 0.6) / height, "\n".join(lines), va="top", parse_math=False)
        return saved(canvas, kind)


def _draw_cell(
    canvas: Canvas,
    image: NDArray[np.uint8],
    title: str,
    labels: Sequence[tuple[str, bool]],
    place: tuple[float, float, float, float],
) -> None:
    """One image; `place` is its left and upper edge, and the canvas' width and height, in inches."""
    left, top, width, height = place
    side = SIZE - 0.12
    axes = canvas.add_axes((left / width, (top - side) / height, side / width, side / height))
    axes.set_axis_off()
    axes.imshow(image, interpolation="nearest")
    centre = (left + side / 2) / width
    style: dict[str, Any] = {"ha": "center", "fontsize": 7.5, "parse_math": False}
    canvas.text(centre, (top + 0.04) / height, title, va="bottom", **style)
    for number, (text, right) in enumerate(labels):
        y = (top - side - 0.03 - LINE * number) / height
        canvas.text(
            centre, y, text if right else f"\N{BALLOT X} {text}", va="top", color=RIGHT if right else WRONG, **style
        )
