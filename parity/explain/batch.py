"""Why a side's batches are not those that it was given: other rows, another order of pixels, another scale, labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.compare import Stage
from parity.explain.cause import Cause, Unknown
from parity.explain.evidence import Evidence
from parity.explain.fit import ALLOWED, Deviation, Fit, far, first_deviation, settle
from parity.explain.network import Reading
from parity.explain.relayout import FORMATS, format_key, image_readings, round_to
from parity.oracle.layers import Array

__all__ = ["explain_batch", "image_variants", "label_variants"]

Rows = list[NDArray[np.int64]]


def explain_batch(evidence: Evidence) -> list[Cause | Unknown]:
    """Causes of the images, then of the labels."""
    images = [np.asarray(trace.batch["images"], np.float64) for trace in evidence.traces]
    labels = [np.asarray(trace.batch["labels"]) for trace in evidence.traces]
    if _as_due(evidence, images, labels):
        return []
    # Equal images count as one: an image comes once in each epoch.
    known: dict[bytes, int] = {}
    first = np.array([known.setdefault(image.tobytes(), row) for row, image in enumerate(evidence.images)], np.int64)
    given = [first[np.asarray(rows, np.int64)] for rows in evidence.rows]
    rows = [_reordered(evidence, *step) for step in zip(given, images, labels, strict=True)]
    everything = np.arange(len(evidence.images))
    found_rows = [_rows_of(evidence, batch, among=everything) for batch in images]
    seen = [None if each is None else first[each] for each in found_rows]
    found = _explain_images(evidence, images, rows, seen, labels)
    # Labels belong to the images that were taken, be they those whose turn it is or not; of an overwritten buffer they
    # are the ones that are due.
    reused = any(isinstance(cause, Cause) and cause.key in (REUSED, MISALIGNED) for cause in found)
    taken = [each if own is None or reused else own for own, each in zip(seen, rows, strict=True)]
    return [*found, *_explain_labels(evidence, labels, [evidence.labels[each] for each in taken])]


def _as_due(evidence: Evidence, images: Sequence[Array], labels: Sequence[NDArray[np.generic]]) -> bool:
    """Whether every batch is the one that is due, in its order: by far the most common, and quickly seen."""
    steps = zip(images, labels, evidence.rows, strict=True)
    return all(far(x, evidence.images[r]) <= ALLOWED and np.array_equal(y, evidence.labels[r]) for x, y, r in steps)


REUSED, MISALIGNED = "buffer-reused", "images-beside-other-labels"


def _reordered(
    evidence: Evidence, rows: NDArray[np.int64], images: Array, labels: NDArray[np.generic]
) -> NDArray[np.int64]:
    """The rows in the order in which the batch has them, where it is another order of the same examples."""
    found = _rows_of(evidence, images, among=rows)
    same = found is not None and np.array_equal(np.sort(found), np.sort(rows))
    return found if found is not None and same and np.array_equal(evidence.labels[found], labels) else rows


def _rows_of(evidence: Evidence, images: Array, *, among: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Which of these rows each image is; None where one is none of them."""
    known = evidence.images[among]
    if images.shape[1:] != known.shape[1:]:
        return None
    x, y = images.reshape(len(images), -1), known.reshape(len(known), -1)
    nearest = np.argmin(np.sum(y * y, axis=1) - 2 * x @ y.T, axis=1)  # |x - y|^2 but for |x|^2
    if any(far(image, known[number]) > ALLOWED for image, number in zip(images, nearest, strict=True)):
        return None
    rows = among[nearest]
    return np.array(rows, np.int64)


def _explain_images(
    evidence: Evidence,
    images: Sequence[Array],
    rows: Rows,
    seen: Sequence[NDArray[np.int64] | None],
    labels: Sequence[NDArray[np.generic]],
) -> list[Cause | Unknown]:
    deviations = [
        Deviation(
            side=evidence.side,
            step=evidence.first_step + step,
            place=Stage(stage="batch", tensor="images"),
            difference=far(found, evidence.images[each]),
        )
        for step, (found, each) in enumerate(zip(images, rows, strict=True))
    ]
    deviation = first_deviation(deviations)
    if deviation is None:
        return []
    fits = [*_other_rows(evidence, seen, rows, labels), *_changed_images(evidence, images, rows)]
    return [settle(deviation, fits)]


def _other_rows(
    evidence: Evidence,
    seen: Sequence[NDArray[np.int64] | None],
    rows: Rows,
    labels: Sequence[NDArray[np.generic]],
) -> Iterator[Fit]:
    """The images are the set's, but not those whose turn it is."""
    found = [each for each in seen if each is not None]
    if len(found) < len(seen):
        return
    due = all(np.array_equal(own, evidence.labels[each]) for own, each in zip(labels, rows, strict=True))
    own = all(np.array_equal(own, evidence.labels[each]) for own, each in zip(labels, found, strict=True))
    if due and not own:
        yield _beside_labels(found, rows)
        return
    key, sentence = _order(evidence, found, rows)
    yield Fit(key=key, sentence=sentence, residual=0.0)


def _beside_labels(seen: Rows, rows: Rows) -> Fit:
    """Images that are not those of the labels: a buffer that is written to again holds another whole batch."""
    if all(_overwritten(a, step, rows) for step, a in enumerate(seen)):
        sentence = "has the images of another batch beside the labels that are due: its buffer is overwritten in use"
        return Fit(key=REUSED, sentence=sentence, residual=0.0)
    a, b = (", ".join(map(str, batch[:4])) for batch in (seen[0], rows[0]))
    sentence = f"has the images of rows {a} beside the labels of rows {b}"
    return Fit(key=MISALIGNED, sentence=sentence, residual=0.0)


def _overwritten(seen: NDArray[np.int64], step: int, rows: Rows) -> bool:
    """Whether every image that is not due stands where another batch has it, the same one for all."""
    due = rows[step]
    wrong = np.flatnonzero(seen != due) if seen.shape == due.shape else np.arange(len(seen))
    others = [batch for number, batch in enumerate(rows) if number != step and len(batch) > wrong.max(initial=-1)]
    return not wrong.size or any(np.array_equal(seen[wrong], batch[wrong]) for batch in others)


def _order(evidence: Evidence, seen: Rows, rows: Rows) -> tuple[str, str]:
    """In which order the batches come instead."""

    def same(first: Sequence[NDArray[np.int64]], second: Sequence[NDArray[np.int64]]) -> bool:
        # One may be a part of the other: where the batches' sizes differ, for example after a shift.
        pairs = [(set(a.tolist()), set(b.tolist())) for a, b in zip(first, second, strict=True)]
        return len(pairs) > 0 and all(a <= b or b <= a for a, b in pairs)

    full = [batch for batch in rows if len(batch) == evidence.batch_size]
    if len(full) < len(rows) and same(seen[: len(full)], full):
        return (
            "last-batch-dropped",
            f"leaves out batches of fewer than {evidence.batch_size}: the next one comes instead",
        )
    if same(seen[:-1], rows[1:]):
        return "batch-skipped", "is one batch ahead: it has skipped one"
    if same(seen[1:], rows[:-1]):
        return "other-order", "is one batch behind: it has seen one twice"
    for length in range(1, len(rows)):
        if same(seen, [rows[step % length] for step in range(len(rows))]):
            if length == 1:
                return "no-reshuffle", "takes the first batch again in every step"
            return "no-reshuffle", f"takes the images in the order of the first epoch again, from its step {length} on"
    step = next(step for step, (a, b) in enumerate(zip(seen, rows, strict=True)) if not np.array_equal(a, b))
    a, b = (", ".join(map(str, batch[:4])) for batch in (seen[step], rows[step]))
    return "other-order", f"takes the images in another order: rows {a} where rows {b} are due"


@dataclass(frozen=True)
class _Change:
    """The elements of an image in another order, then times a factor plus a constant, each channel its own."""

    reading: Reading
    slope: Array
    shift: Array

    def of(self, images: Array) -> Array:
        moved = _moved(self.reading, images)
        changed: Array = moved * self.slope[:, np.newaxis, np.newaxis] + self.shift[:, np.newaxis, np.newaxis]
        return changed


def _moved(reading: Reading, images: Array) -> Array:
    return np.stack([reading.read(image) for image in images])


def _changed_images(evidence: Evidence, images: Sequence[Array], rows: Rows) -> Iterator[Fit]:
    """The images whose turn it is, changed; fitted to the first batch, which has to hold for all."""
    expected = [evidence.images[each] for each in rows]
    broken = next(n for n, (x, y) in enumerate(zip(images, expected, strict=True)) if far(x, y) > ALLOWED)
    if any(x.shape != y.shape for x, y in zip(images, expected, strict=True)):
        return
    for name, bits in FORMATS.items():
        made = [_normalised_in(bits, y) for y in expected]
        ways = zip(*made, strict=True)
        residual = min(max(far(x, each) for x, each in zip(images, way, strict=True)) for way in ways)
        key, sentence = _in_format(name)
        yield Fit(key=key, sentence=sentence, residual=residual)
    for reading in image_readings(expected[0].shape[1:]):
        change = _fitted(reading, images[broken], expected[broken])
        residual = max(far(x, change.of(y)) for x, y in zip(images, expected, strict=True))
        key, sentence = _described(change)
        yield Fit(key=key, sentence=sentence, residual=residual)


def _in_format(name: str) -> tuple[str, str]:
    return f"{format_key(name)}-preprocessing", f"normalises the images in {name}"


def image_variants() -> Iterator[tuple[str, str, Callable[[Array], Array]]]:
    """What ports feed in place of the images, where that has no constants to fit: key, sentence, and the change."""
    for name, bits in FORMATS.items():
        for way in range(WAYS):
            yield *_in_format(name), _way(bits, way)
    for reading in image_readings((3, 32, 32)):
        for deviation, mean in SCALES:
            slope = 0.5 / np.array(deviation)
            change = _Change(reading, slope, 2 * slope * (0.5 - np.array(mean)))
            if reading.order or (deviation, mean) != SCALES[0]:
                yield *_described(change), change.of


def _way(bits: int, number: int) -> Callable[[Array], Array]:
    return lambda images: _normalised_in(bits, images)[number]


WAYS = 5
"""Of writing the normalisation."""

SCALES = (
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ((1 / 255,) * 3, (0.0,) * 3),
    ((1.0,) * 3, (0.0,) * 3),
    ((128 / 255,) * 3, (128 / 255,) * 3),
    ((0.247, 0.2435, 0.2616), (0.4914, 0.4822, 0.4465)),
    ((0.2023, 0.1994, 0.2010), (0.4914, 0.4822, 0.4465)),
    ((0.229, 0.224, 0.225), (0.485, 0.456, 0.406)),
)
"""Standard deviations and means that pixels from 0 to 1 are normalised with: the one that is meant, pixels as they are
from 0 to 255 and from 0 to 1, a division by 256, CIFAR-10's own as they are quoted in two ways, and ImageNet's."""


def _normalised_in(bits: int, images: Array) -> list[Array]:
    """(x/255 - 0.5) / 0.5 with each operation rounded, in the ways in which that is written; and the result rounded."""

    def to(values: Array) -> Array:
        return round_to(values, bits)

    pixels = np.rint((images + 1) * 127.5)
    inverse = float(to(np.array(1 / 255)))
    return [
        to(images),
        to(to(to(pixels / 255) - 0.5) / 0.5),
        to(to(to(pixels * inverse) - 0.5) / 0.5),
        to(to(pixels / 127.5) - 1),
        to(to(to(pixels / 255) * 2) - 1),
    ]


def _fitted(reading: Reading, found: Array, expected: Array) -> _Change:
    """Slope and shift by least squares, channel by channel; 1 and 0 where they are that to rounding."""
    moved = _moved(reading, expected)
    x, y = (values.swapaxes(0, 1).reshape(values.shape[1], -1) for values in (moved, found))
    slope = np.array([_slope(*channel) for channel in zip(x, y, strict=True)])
    known = slope[np.isfinite(slope)]
    slope = np.where(np.isfinite(slope), slope, known[0] if known.size else 1.0)
    shift = np.mean(y - slope[:, np.newaxis] * x, axis=1)
    plain = np.allclose(slope, 1, rtol=0, atol=1e-10) and np.allclose(shift, 0, rtol=0, atol=1e-10)
    return _Change(reading, np.ones_like(slope), np.zeros_like(shift)) if plain else _Change(reading, slope, shift)


def _slope(x: Array, y: Array) -> float:
    """Of the line through these pixels; NaN where they are all equal: any slope goes through them."""
    (_, slope), (_, rank, *_) = np.polynomial.polynomial.polyfit(x, y, 1, full=True)
    return float(slope) if rank == 2 else float("nan")


def _described(change: _Change) -> tuple[str, str]:
    """Pixels are meant to be (x/255 - 0.5) / 0.5; what is found is slope times that plus shift."""
    scale = _scale(change.slope, change.shift)
    name = change.reading.name
    if not name:
        return scale or ("", "feeds the images as they are")
    key = {"with the channels in the order B,G,R": "bgr", "with height and width swapped": "image-axes-swapped"}.get(
        name, "planar-reshape" if name.startswith("reshaped") else "images-relaid"
    )
    more = f", and {scale[1]}" if scale else ""
    return key, f"feeds the images {name}{more}"


def _scale(slope: Array, shift: Array) -> tuple[str, str] | None:
    if np.array_equal(slope, np.ones_like(slope)) and not shift.any():
        return None
    deviation, mean = 0.5 / slope, 0.5 - 0.5 * shift / slope
    even = np.ptp(slope) <= 1e-10 * abs(slope[0]) and np.ptp(shift) <= 1e-10 * max(abs(slope[0]), 1.0)
    if even and np.isclose(deviation[0], 1 / 255, rtol=1e-10) and abs(mean[0]) < 1e-10:
        return "raw-pixels", "feeds pixels from 0 to 255"
    if even and np.isclose(deviation[0], 1, rtol=1e-10) and abs(mean[0]) < 1e-10:
        return "no-shift", "feeds pixels from 0 to 1: they are divided by 255, and not shifted"
    if even and np.isclose(shift[0], slope[0] - 1, rtol=0, atol=1e-10):
        divisor = 255 / slope[0]
        key = "divided-by-256" if np.isclose(divisor, 256, rtol=1e-10) else "other-divisor"
        return key, f"divides pixels by {divisor:.6g}, not 255"
    means, deviations = (", ".join(f"{value:.5g}" for value in values) for values in (mean, deviation))
    return (
        "other-normalisation",
        f"normalises with mean ({means}) and standard deviation ({deviations}), not 0.5 and 0.5",
    )


Relabel = Callable[[NDArray[np.integer]], NDArray[np.integer]]


def label_variants() -> Iterator[tuple[str, str, Relabel]]:
    """What ports take for a batch's labels: key, sentence, and the change.

    An offset is taken around the end of the ten classes, or not.
    """
    for offset in range(1, 10):
        named = offset if offset <= 5 else offset - 10
        key = "label-plus-one" if offset == 1 else "label-offset"
        yield key, f"has labels {named:+d}, modulo 10", _moved_by(offset, 10)
    for offset in (-1, 1):
        key = "one-based-label" if offset == -1 else "label-offset"
        yield key, f"has labels {offset:+d}", _moved_by(offset)
    for shift in (1, -1):
        sentence = f"has each image's label at the {'next' if shift == 1 else 'previous'} image of the batch"
        yield "labels-rolled", sentence, _rolled_by(shift)


def _moved_by(offset: int, classes: int | None = None) -> Relabel:
    return lambda y: (y + offset) % classes if classes else y + offset


def _rolled_by(shift: int) -> Relabel:
    return lambda y: np.roll(y, shift)


def _explain_labels(
    evidence: Evidence, labels: Sequence[NDArray[np.generic]], expected: Sequence[NDArray[np.integer]]
) -> list[Cause | Unknown]:
    deviations = [
        Deviation(
            side=evidence.side,
            step=evidence.first_step + step,
            place=Stage(stage="batch", tensor="labels"),
            difference=float("inf") if found.shape != given.shape else float(np.mean(found != given)),
            allowed=0.0,
        )
        for step, (found, given) in enumerate(zip(labels, expected, strict=True))
    ]
    deviation = first_deviation(deviations)
    if deviation is None:
        return []
    return [settle(deviation, list(_label_fits(labels, expected)))]


def _label_fits(labels: Sequence[NDArray[np.generic]], expected: Sequence[NDArray[np.integer]]) -> Iterator[Fit]:
    """What all batches have in common."""

    def left(changed: Sequence[NDArray[np.generic]]) -> float:
        return max(float(np.mean(x != y)) if x.shape == y.shape else 1.0 for x, y in zip(labels, changed, strict=True))

    for key, sentence, change in label_variants():
        yield Fit(key=key, sentence=sentence, residual=left([change(y) for y in expected]))
