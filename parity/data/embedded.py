"""The embedded set: 10,000 + 2,000 drawn images in ten classes, so that everything runs without a download.

Each image shows one of ten shapes, of random place, size and colour, over a background of another colour, with
noise. It is drawn with integer arithmetic from a fixed stream, so every platform gets the same bytes. It stands in for
CIFAR-10 in demonstrations and tests; results on it say nothing about real images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from parity.contract import Stream
from parity.data.dataset import IMAGE_SHAPE, Dataset

__all__ = ["CLASSES", "TEST_SIZE", "TRAIN_SIZE", "embedded_set"]

TRAIN_SIZE, TEST_SIZE = 10_000, 2_000

_PURPOSE = 3
# Pixel values. One image in six is nearly lost in noise: that keeps the CNN below 90 %, while the others are clear
# enough that it learns within three epochs (see tests/data/test_embedded.py).
_NOISE, _HEAVY_NOISE = 40, 200
_HEAVY_ONE_IN = 6
_CONTRAST = 40

_AT_ONCE = 200
"""Images that are put together at once: what all of them take in between would be new memory, which costs more time
than the arithmetic."""

Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]


def _box(dx: Ints, dy: Ints) -> Ints:
    return np.maximum(np.abs(dx), np.abs(dy))


def _disc(dx: Ints, dy: Ints, r: Ints) -> Mask:
    mask: Mask = dx * dx + dy * dy <= r * r
    return mask


def _ring(dx: Ints, dy: Ints, r: Ints) -> Mask:
    return _disc(dx, dy, r) & ~_disc(dx, dy, r - 3)


def _square(dx: Ints, dy: Ints, r: Ints) -> Mask:
    return _box(dx, dy) < r


def _frame(dx: Ints, dy: Ints, r: Ints) -> Mask:
    return _square(dx, dy, r) & ~_square(dx, dy, r - 3)


def _triangle(dx: Ints, dy: Ints, r: Ints) -> Mask:
    mask: Mask = (np.abs(dy) <= r) & (2 * np.abs(dx) <= dy + r)
    return mask


def _cross(dx: Ints, dy: Ints, r: Ints) -> Mask:
    arms: Mask = np.minimum(np.abs(dx), np.abs(dy)) < 2
    return _square(dx, dy, r) & arms


def _saltire(dx: Ints, dy: Ints, r: Ints) -> Mask:
    arms: Mask = np.abs(np.abs(dx) - np.abs(dy)) < 2
    return _square(dx, dy, r) & arms


def _rows(dx: Ints, dy: Ints, r: Ints) -> Mask:
    return _square(dx, dy, r) & (dy % 4 < 2)


def _columns(dx: Ints, dy: Ints, r: Ints) -> Mask:
    return _square(dx, dy, r) & (dx % 4 < 2)


def _checkers(dx: Ints, dy: Ints, r: Ints) -> Mask:
    dark: Mask = (dx % 6 < 3) == (dy % 6 < 3)
    return _square(dx, dy, r) & dark


_SHAPES: dict[str, Callable[[Ints, Ints, Ints], Mask]] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "frame": _frame,
    "triangle": _triangle,
    "cross": _cross,
    "saltire": _saltire,
    "rows": _rows,
    "columns": _columns,
    "checkers": _checkers,
}

CLASSES = tuple(_SHAPES)


def embedded_set() -> Dataset:
    """Draw the set: always the same bytes, in under 1 s."""
    images, labels = _draw(TRAIN_SIZE + TEST_SIZE)
    return Dataset(
        name="embedded",
        origin="the embedded set (drawn shapes, not CIFAR-10)",
        train_images=images[:TRAIN_SIZE],
        train_labels=labels[:TRAIN_SIZE],
        test_images=images[TRAIN_SIZE:],
        test_labels=labels[TRAIN_SIZE:],
        classes=CLASSES,
    )


def _draw(count: int) -> tuple[NDArray[np.uint8], Ints]:
    stream = Stream(0, _PURPOSE)
    labels = (stream.permutation(count) % len(CLASSES)).astype(np.int32)
    masks = _masks(stream, labels)
    paper = stream.integers(256, count * 3).reshape(count, 1, 1, 3)
    # The ink differs from the paper by at least _CONTRAST in each channel, up or down, and wraps inside 0..255.
    step = _CONTRAST + stream.integers(256 - 2 * _CONTRAST, count * 3).reshape(count, 1, 1, 3)
    ink = (paper + step) % 256
    amplitude, levels = _noise(stream, (count, *IMAGE_SHAPE))
    images = np.empty((count, *IMAGE_SHAPE), np.uint8)
    for first in range(0, count, _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        pixels = np.where(masks[some, ..., np.newaxis], ink[some], paper[some])
        pixels += (levels[some] * (2 * amplitude[some]) >> 8) - amplitude[some]
        images[some] = np.clip(pixels, 0, 255)
    return images, labels


def _masks(stream: Stream, labels: Ints) -> Mask:
    """(N, 32, 32): where each image's shape lies."""
    height, width, _ = IMAGE_SHAPE
    radius, top, left = (
        (low + stream.integers(span, len(labels))).reshape(-1, 1, 1) for low, span in ((5, 6), (11, 10), (11, 10))
    )
    masks = np.empty((len(labels), height, width), bool)
    y, x = np.arange(height, dtype=np.int32)[:, np.newaxis], np.arange(width, dtype=np.int32)
    for label, shape in enumerate(_SHAPES.values()):
        rows = labels == label
        masks[rows] = shape(x - left[rows], y - top[rows], radius[rows])
    return masks


def _noise(stream: Stream, shape: tuple[int, ...]) -> tuple[Ints, NDArray[np.uint8]]:
    """Each image's amplitude, and uniform noise from 0 to 255: eight values from each word, in little-endian order."""
    heavy = stream.integers(_HEAVY_ONE_IN, shape[0]) == 0
    amplitude = np.where(heavy, _HEAVY_NOISE, _NOISE).astype(np.int32).reshape(-1, 1, 1, 1)
    count = math.prod(shape)
    levels = stream.words(-(-count // 8)).astype("<u8").view(np.uint8)[:count].reshape(shape)
    return amplitude, levels
