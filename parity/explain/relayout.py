"""The orders in which elements are read by mistake, and the formats to which numbers are rounded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parity.explain.network import Reading
from parity.oracle.layers import Array

__all__ = [
    "FORMATS",
    "format_key",
    "image_readings",
    "kernel_readings",
    "linear_readings",
    "round_to",
    "rounded_format",
]

HALF_BITS = 11

FORMATS = {"float32": 24, "float16 or TF32": HALF_BITS, "bfloat16": 8}
"""Significant bits, the hidden one included."""

Order = NDArray[np.intp]


def format_key(name: str) -> str:
    """A format's name as a part of a cause's key."""
    return name.replace(" or ", "-or-")


def kernel_readings(shape: tuple[int, ...]) -> Iterator[Reading]:
    """Of a convolution's kernel, (filters, channels, rows, columns)."""
    return _distinct(_kernel_readings(shape))


def linear_readings(shape: tuple[int, ...], features: tuple[int, ...] | None = None) -> Iterator[Reading]:
    """Of a linear layer's weight, (outputs, inputs); `features` is what its inputs were flattened from, (C, H, W)."""
    return _distinct(_linear_readings(shape, features))


def image_readings(shape: tuple[int, ...]) -> Iterator[Reading]:
    """Of an image, (channels, height, width); the canonical order first."""
    return _distinct(_image_readings(shape))


def _distinct(readings: Iterator[Reading]) -> Iterator[Reading]:
    """Each order once, under its first name."""
    known: set[tuple[int, ...]] = set()
    for reading in readings:
        if reading.order not in known:
            known.add(reading.order)
            yield reading


def _kernel_readings(shape: tuple[int, ...]) -> Iterator[Reading]:
    numbers = _numbers(shape)
    yield _reading("with height and width swapped", numbers.swapaxes(2, 3))
    yield _reading("flipped in height and width", numbers[:, :, ::-1, ::-1])
    yield _reading("flipped in height", numbers[:, :, ::-1])
    yield _reading("flipped in width", numbers[:, :, :, ::-1])
    yield _reading("with its input channels reversed", numbers[:, ::-1])
    yield _reading("with its filters reversed", numbers[::-1])
    yield from _reshaped(shape, "OIHW")


def _linear_readings(shape: tuple[int, ...], features: tuple[int, ...] | None) -> Iterator[Reading]:
    numbers = _numbers(shape)
    yield from _reshaped(shape, ("out", "in"))
    yield _reading("with its inputs reversed", numbers[:, ::-1])
    yield _reading("with its outputs reversed", numbers[::-1])
    if features:
        for axes in list(itertools.permutations(range(3)))[1:]:
            order = "".join("CHW"[axis] for axis in axes)
            columns = _numbers(features).transpose(axes).reshape(-1)
            yield _reading(f"with its inputs taken for {','.join(order)} order", numbers[:, np.argsort(columns)])
            yield _reading(f"with its inputs in {','.join(order)} order", numbers[:, columns])


def _image_readings(shape: tuple[int, ...]) -> Iterator[Reading]:
    numbers = _numbers(shape)
    yield Reading()
    yield _reading("with the channels in the order B,G,R", numbers[::-1])
    for axes in ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1)):
        yield _reading(f"with the channels in the order {','.join('RGB'[axis] for axis in axes)}", numbers[list(axes)])
    yield _reading("with height and width swapped", numbers.swapaxes(1, 2))
    yield _reading("upside down", numbers[:, ::-1])
    yield _reading("mirrored", numbers[:, :, ::-1])
    yield _reading("turned by 180 degrees", numbers[:, ::-1, ::-1])
    yield from _reshaped(shape, "CHW")


def _numbers(shape: tuple[int, ...]) -> Order:
    return np.arange(int(np.prod(shape))).reshape(shape)


def _reading(name: str, numbers: Order) -> Reading:
    return Reading(name=name, order=tuple(numbers.reshape(-1).tolist()))


def _reshaped(shape: tuple[int, ...], names: str | tuple[str, ...]) -> Iterator[Reading]:
    """A tensor that lies in memory in one order of axes, and is reshaped to another one instead of transposed.

    Either way around: canonical data reshaped as if they lay so, and data that lie so reshaped to the canonical shape.
    """
    for axes in list(itertools.permutations(range(len(shape))))[1:]:
        order = ",".join(names[axis] for axis in axes)
        other = tuple(shape[axis] for axis in axes)
        yield _reading(
            f"reshaped to ({order}) where it should be transposed",
            _numbers(other).transpose(np.argsort(axes)),
        )
        yield _reading(
            f"reshaped from ({order}) where it should be transposed",
            _numbers(shape).transpose(axes).reshape(shape),
        )


def round_to(values: Array, bits: int) -> Array:
    """To so many significant bits, ties to even, with float64's range of exponents."""
    mantissa, exponent = np.frexp(values)
    rounded: Array = np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)
    return rounded


def rounded_near(found: Array, expected: Array, bits: int) -> Array:
    """What is expected, rounded to so many bits; where that hangs on expected's own rounding, as it was found.

    A number that falls next to the middle between two values may go either way, and is often rounded twice, through
    float32.
    """
    low, high = round_to(expected * (1 - DOUBLE_ROUNDING), bits), round_to(expected * (1 + DOUBLE_ROUNDING), bits)
    near: Array = np.where(found == low, low, np.where(found == high, high, round_to(expected, bits)))
    return near


DOUBLE_ROUNDING = 2.0**-24


def rounded_format(found: Array, expected: Array, *, sums: bool = True) -> str | None:
    """The coarsest format that holds every value found, and explains how far they are from what is expected.

    Each must be within one rounding of what is expected; of `sums`, which are computed from rounded values, within two
    of the largest.
    """
    size = float(np.abs(expected).max(initial=0.0))
    for name, bits in sorted(FORMATS.items(), key=lambda item: item[1]):
        if not _holds(found, bits):
            continue
        rounded = rounded_near(found, expected, bits)
        if np.array_equal(found, rounded) or _half(found, expected, bits):
            return name
        if sums and float(np.abs(found - expected).max(initial=0.0)) <= 2.0 ** (1 - bits) * size:
            return name
    return None


def _holds(found: Array, bits: int) -> bool:
    """Whether so many significant bits hold every value; float16 has fewer for small ones."""
    return bool(np.array_equal(round_to(found, bits), found))


def _half(found: Array, expected: Array, bits: int) -> bool:
    """Whether it is what float16 makes of it, whose small values are multiples of 2^-24."""
    with np.errstate(over="ignore"):
        return bits == HALF_BITS and bool(np.array_equal(expected.astype(np.float16).astype(np.float64), found))
