"""The layers of the CNN for one image, or for the linear ones a batch: forward, and the gradients by hand.

How the data lie decides the speed, so each array has the layout that its reader wants; 16 is a vector's length:

| array | layout |
| --- | --- |
| `pixels` | (32, 32, 3): what the gradient of conv1's kernel reads, 15 numbers of a window's row at a time |
| `planes` | (2, 3, 32, 16): even and odd columns apart, so that the four elements of a pool are four vectors |
| `pool1` | (6, 14, 16), two columns unused |
| `pool1_last` | (14, 14, 6), channels last: as `pixels`, for conv2 |
| `pool2` | (25, 16), channels last: one vector for each place |
| `kernel1`, `kernel2` | (filters, 5, 16) and (filters, 5, 32): a window's row, channels last, and unused numbers |
| `taps1`, `taps2` | the same as (channels, 5, 5, filters) |

Only a pool's winner has a gradient, so the convolutions' gradients go over the winners: a quarter of the arithmetic.

Equations: `parity.oracle.layers` has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from parity_peers.reference.simd import (
    LANES,
    axpy,
    fma,
    load,
    load_tile,
    outer,
    pool,
    positive,
    repeat,
    splats,
    store,
    store_sums,
    zero,
)

__all__ = [
    "PIXELS_ROW",
    "POOL1_ROW",
    "channels_last",
    "compiled",
    "conv1",
    "conv1_backward",
    "conv2",
    "conv2_backward",
    "cross_entropy",
    "linear",
    "linear_input_gradient",
    "mask",
    "normalise",
]


def compiled(function: Callable[..., Any]) -> Any:
    """Compiled when first called; divisions are IEEE's, as in NumPy."""
    return numba.njit(error_model="numpy")(function)


PIXELS_ROW = 32 * 3
POOL1_ROW = 14 * 6
PLANE = 3 * 32 * 16


@compiled
def normalise(pixels: Any, full: Any, half: Any, out: Any) -> None:
    """(x / 255 - 0.5) / 0.5, of which the last division is a doubling; rounded as `normalisation_table` is."""
    for i in range(pixels.size):
        centred = pixels[i] / full - half
        out[i] = centred + centred


@compiled
def conv1(planes: Any, taps: Any, bias: Any, pool1: Any, winners: Any) -> None:
    """Convolution, pool and ReLU; 24 vectors at a time: 6 filters of a row of pools' four elements.

    `winners` (6, 14, 16): where in `pixels` a pool's winner's window begins, from the first element's on.
    """
    for row in range(14):
        upper = splats(bias, 0, 6, 2)
        lower = upper
        for channel in range(3):
            for i in range(5):
                line = (channel * 32 + 2 * row + i) * LANES
                for j in range(5):
                    left = line + (j % 2) * PLANE + j // 2
                    right = line + ((j + 1) % 2) * PLANE + (j + 1) // 2
                    tap = ((channel * 5 + i) * 5 + j) * 6
                    upper = fma(upper, (load(planes, left), load(planes, right)), taps, tap, 1)
                    lower = fma(lower, (load(planes, left + LANES), load(planes, right + LANES)), taps, tap, 1)
        values, places = pool(upper, lower, 3, PIXELS_ROW)
        store(pool1, row * LANES, 14 * LANES, values)
        store(winners, row * LANES, 14 * LANES, places)


@compiled
def channels_last(pool1: Any, out: Any) -> None:
    """(6, 14, 16) -> (14, 14, 6)."""
    for row in range(14):
        for column in range(14):
            for channel in range(6):
                out[(row * 14 + column) * 6 + channel] = pool1[(channel * 14 + row) * LANES + column]


@compiled
def conv2(pool1: Any, taps: Any, bias: Any, pool2: Any, winners: Any) -> None:
    """Convolution, pool and ReLU; 20 vectors at a time: 16 filters at the places of two rows.

    `winners` (25, 16): where in `pool1_last` a pool's winner's window begins, from the first element's on.
    """
    for row in range(5):
        upper = repeat(load(bias, 0), 10)
        lower = upper
        for channel in range(6):
            for i in range(5):
                line = (channel * 14 + 2 * row + i) * LANES
                for j in range(5):
                    filters = (load(taps, ((channel * 5 + i) * 5 + j) * LANES),)
                    upper = fma(upper, filters, pool1, line + j, 1)
                    lower = fma(lower, filters, pool1, line + j + LANES, 1)
        values, places = pool(upper, lower, 6, POOL1_ROW)
        store(pool2, row * 5 * LANES, LANES, values)
        store(winners, row * 5 * LANES, LANES, places)


@compiled
def mask(gradient: Any, output: Any) -> None:
    """The gradient by a ReLU's input, in place: 0 where its output is."""
    for i in range(0, gradient.size, LANES):
        store(gradient, i, LANES, (positive(load(gradient, i), load(output, i)),))


@compiled
def conv2_backward(
    upstream: Any, winners: Any, pool1_last: Any, kernel: Any, by_input: Any, by_kernel: Any, by_bias: Any
) -> None:
    """Adds up the gradients by kernel and bias; sets that by the input, (14, 14, 6).

    `upstream`, (25, 16), is the gradient by the winners.
    """
    by_input[:] = 0
    for i in range(25 * LANES):
        by_bias[i % LANES] += upstream[i]
    for channel in range(16):
        begin = channel * 5 * 32
        left, right = load_tile(by_kernel, begin, 32, 5), load_tile(by_kernel, begin + LANES, 32, 5)
        for place in range(25):
            gradient = upstream[place * LANES + channel]
            if gradient == 0:  # the ReLU is closed: on real images, after some training, for four in five
                continue
            first = (place // 5 * POOL1_ROW + place % 5 * 6) * 2 + winners[place * LANES + channel]
            left = axpy(left, gradient, load_tile(pool1_last, first, POOL1_ROW, 5))
            right = axpy(right, gradient, load_tile(pool1_last, first + LANES, POOL1_ROW, 5))
            a = load_tile(by_input, first, POOL1_ROW, 5)
            b = load_tile(by_input, first + LANES, POOL1_ROW, 5)
            store(by_input, first, POOL1_ROW, axpy(a, gradient, load_tile(kernel, begin, 32, 5)))
            store(by_input, first + LANES, POOL1_ROW, axpy(b, gradient, load_tile(kernel, begin + LANES, 32, 5)))
        store(by_kernel, begin, 32, left)
        store(by_kernel, begin + LANES, 32, right)


@compiled
def conv1_backward(upstream: Any, winners: Any, pixels: Any, by_kernel: Any, by_bias: Any) -> None:
    """Adds up the gradients by kernel and bias. `upstream`, (14, 14, 6), is the gradient by the winners."""
    for channel in range(6):
        begin = channel * 5 * LANES
        rows = load_tile(by_kernel, begin, LANES, 5)
        total = by_bias[channel]
        for row in range(14):
            for column in range(14):
                gradient = upstream[(row * 14 + column) * 6 + channel]
                place = winners[(channel * 14 + row) * LANES + column]
                first = (row * PIXELS_ROW + column * 3) * 2 + place
                rows = axpy(rows, gradient, load_tile(pixels, first, PIXELS_ROW, 5))
                total += gradient
        store(by_kernel, begin, LANES, rows)
        by_bias[channel] = total


@compiled
def linear(x: Any, weight: Any, bias: Any, y: Any) -> None:
    """Y = x weight^T + bias: (batch, inputs), (outputs, inputs) -> (batch, outputs); by 4 samples and 4 outputs."""
    (outputs, inputs), columns = weight.shape, y.shape[1]
    for n in range(0, x.shape[0], 4):
        for o in range(0, outputs, 4):
            total = repeat(zero(weight), 16)
            for i in range(0, inputs, LANES):
                samples = load_tile(x, n * inputs + i, inputs, 4)
                total = outer(total, samples, load_tile(weight, o * inputs + i, inputs, 4))
            for k in range(4):
                for j in range(4):
                    y[n + k, o + j] = bias[o + j]
            store_sums(y, n * columns + o, columns, total)


@compiled
def linear_input_gradient(upstream: Any, weight: Any, by_x: Any) -> None:
    """by_x = upstream weight, by 4 samples."""
    (outputs, inputs), columns = weight.shape, upstream.shape[1]
    for n in range(0, upstream.shape[0], 4):
        for i in range(0, inputs, LANES):
            total = repeat(zero(weight), 4)
            for o in range(outputs):
                row = (load(weight, o * inputs + i),)
                total = fma(total, row, upstream, n * columns + o, columns)
            store(by_x, n * inputs + i, inputs, total)


@compiled
def cross_entropy(logits: Any, labels: Any, gradient: Any) -> Any:
    """The mean over the batch, len(labels); sets the gradient by the logits, (p - [c = label]) / batch."""
    total = 0.0
    for n in range(labels.size):
        largest = logits[n, :10].max()
        shifted = logits[n, :10] - largest
        exponentials = np.exp(shifted)
        mass = exponentials.sum()
        total += np.log(mass) - shifted[labels[n]]
        gradient[n, :10] = exponentials / (mass * labels.size)
        gradient[n, labels[n]] -= 1 / logits.dtype.type(labels.size)
    return total / labels.size
