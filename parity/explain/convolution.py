"""Another padding, stride or dilation of a convolution.

    y[n, o, i] = bias[o] + sum_ck w[o, c, k] x[n, c, s i + d k - p]        x = 0 outside; more dimensions likewise

Under one word frameworks pad otherwise: "SAME" with a stride puts the odd zero behind the last element, (1, 2), where
torch's padding=2 puts (2, 2). No side records its geometry, but each records what it has computed from the input and
the kernel, and mostly one geometry alone makes that of them.

Each geometry is tried on one window in the middle first, then on everything.

Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.conv_general_dilated.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from parity.explain.fit import ALLOWED, far
from parity.oracle.layers import Array

__all__ = ["Geometry", "Other", "other_convolution"]

STRIDES = range(1, 9)
"""That are tried, the same in all dimensions; and a stride as large as the kernel, which cuts images into patches."""

DILATIONS = range(1, 5)
"""That are tried, the same in all dimensions."""

SMALL = 7
"""A kernel may be as large as this, or as its input: larger ones are kernels whose axes are read in another order."""

PROBE = 1e-6
"""Of the largest that one window can make: what is further away than that is of another geometry."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where the windows of a convolution are, dimension by dimension.

    Args:
        sizes: of the input.
        kernel: sizes of the kernel.
        before: zeros before the first element.
        outputs: how many windows.
        stride: from one window to the next.
        dilation: from one element of a window to the next.
    """

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    before: tuple[int, ...]
    outputs: tuple[int, ...]
    stride: int
    dilation: int

    @property
    def starts(self) -> tuple[range, ...]:
        """Of the windows: the element that each begins with, below 0 in the padding."""
        pairs = zip(self.before, self.outputs, strict=True)
        return tuple(range(-p, self.stride * (count - 1) - p + 1, self.stride) for p, count in pairs)

    @property
    def reaches(self) -> tuple[int, ...]:
        """From the first element of a window to its last."""
        return tuple(self.dilation * (size - 1) for size in self.kernel)

    @property
    def behind(self) -> tuple[int, ...]:
        """The fewest zeros behind the last element with which there are so many windows."""
        pairs = zip(self.starts, self.reaches, self.sizes, strict=True)
        return tuple(max(starts[-1] + reach + 1 - size, 0) for starts, reach, size in pairs)

    @property
    def parts(self) -> dict[str, str]:
        """Stride, dilation and padding, as they are told."""
        padding = list(map(self._padding, range(len(self.sizes))))
        told = padding[:1] if len(set(padding)) == 1 else padding
        return {"stride": str(self.stride), "dilation": str(self.dilation), "padding": " and ".join(told)}

    def _padding(self, axis: int) -> str:
        """One number where as many zeros at both ends make so many windows; else before and behind, the fewest."""
        size, before, outputs, reach = (x[axis] for x in (self.sizes, self.before, self.outputs, self.reaches))
        if (size + 2 * before - reach - 1) // self.stride + 1 == outputs:
            return str(before)
        same = -(-size // self.stride)
        total = max(self.stride * (same - 1) + reach + 1 - size, 0)
        name = ' ("SAME")' if (before, outputs) == (total // 2, same) else ""
        return f"({before}, {self.behind[axis]}){name}"

    def alike(self, other: Geometry) -> bool:
        """Whether both read the same elements."""
        return (self.starts, self.dilation) == (other.starts, other.dilation)

    def within(self, other: Geometry) -> bool:
        """Whether the other has all of these windows: cutting its outputs makes these."""
        pairs = zip(self.starts, other.starts, strict=True)
        return self.dilation == other.dilation and all(set(mine) <= set(theirs) for mine, theirs in pairs)


@dataclass(frozen=True, kw_only=True)
class Other:
    """Two convolutions of the same values with the same kernel.

    Args:
        meant: the first side's geometry.
        held: the second's.
        name: of the second's activation.
        residual: what is left of that, relative.
    """

    meant: Geometry
    held: Geometry
    name: str
    residual: float

    @property
    def differences(self) -> list[tuple[str, str, str]]:
        """Of stride, dilation and padding those that differ, as they are told: part, meant, held."""
        held = self.held.parts
        return [(part, told, held[part]) for part, told in self.meant.parts.items() if told != held[part]]

    @property
    def cut(self) -> bool:
        """Whether one makes a part of what the other makes: cutting that is another way to the same."""
        return self.meant.within(self.held) or self.held.within(self.meant)


@dataclass(frozen=True, eq=False)
class _Layer:
    """An input and a kernel that fit each other.

    Args:
        images: (batch, channels, ...).
        kernel: (filters, channels / groups, ...).
        biases: (number, filters), those that may be added, zeros first.
    """

    images: Array
    kernel: Array
    biases: Array
    _known: dict[tuple[int, ...], Array] = field(default_factory=dict)

    @property
    def groups(self) -> int:
        """Of channels."""
        return int(self.images.shape[1] // self.kernel.shape[1])

    @cached_property
    def example(self) -> int:
        """The largest: one of zeros fits any geometry."""
        return int(np.square(self.images).reshape(len(self.images), -1).sum(axis=1).argmax())

    @cached_property
    def largest(self) -> float:
        """That one window can make, and a bias."""
        sums = np.abs(self.kernel).reshape(len(self.kernel), -1).sum(axis=1)
        return float(sums.max() * np.abs(self.images).max() + np.abs(self.biases).max())

    def one(self, dilation: int, start: tuple[int, ...]) -> Array:
        """(filters,): what one window of the example makes, the bias aside."""
        key = (dilation, *start)
        if key not in self._known:
            patch = self.images[self.example]
            for axis, (first, size) in enumerate(zip(start, self.kernel.shape[2:], strict=True), start=1):
                reads = first + dilation * np.arange(size)
                inside = (reads >= 0) & (reads < patch.shape[axis])
                values = patch.take(reads, axis, mode="clip")
                patch = values * inside.reshape(-1, *[1] * (patch.ndim - 1 - axis))
            kernel = self.kernel.reshape(self.groups, len(self.kernel) // self.groups, -1)
            self._known[key] = (kernel @ patch.reshape(self.groups, -1, 1)).ravel()
        return self._known[key]

    def all(self, geometry: Geometry) -> Array:
        """(batch, filters, ...): what all windows make, the bias aside. An element of the kernel at a time.

        And an example at a time: what all windows see takes many times the memory of the images.
        """
        filters = len(self.kernel) // self.groups
        made = np.zeros((len(self.images), self.groups, filters, int(np.prod(geometry.outputs))))
        kernel = self.kernel.reshape(self.groups, -1, *self.kernel.shape[1:])
        ends = zip(geometry.before, geometry.behind, strict=True)
        padding = [(0, 0), *ends]
        for example, image in enumerate(self.images):
            padded = np.pad(image, padding)
            for tap in np.ndindex(geometry.kernel):
                first = [geometry.dilation * k for k in tap]
                pairs = zip(first, geometry.outputs, strict=True)
                seen = padded[:, *(slice(k, k + geometry.stride * (n - 1) + 1, geometry.stride) for k, n in pairs)]
                made[example] += kernel[:, :, :, *tap] @ seen.reshape(self.groups, self.kernel.shape[1], -1)
        return made.reshape(len(self.images), len(self.kernel), *geometry.outputs)


def other_convolution(
    inputs: Sequence[NDArray[np.generic]],
    weights: Mapping[str, NDArray[np.generic]],
    meant: str,
    activations: tuple[Mapping[str, NDArray[np.generic]], Mapping[str, NDArray[np.generic]]],
) -> Other | None:
    """The geometries of two sides that convolve the same values with the same kernel otherwise.

    Args:
        inputs: what may be convolved, (batch, channels, ...) or (batch, ..., channels).
        weights: by name, with kernels as (filters, channels / groups, ...) or (..., channels / groups, filters).
        meant: name of the first side's activation.
        activations: both sides', by name; all that could be such convolutions are (batch, filters, ...) or
            (batch, ..., filters).

    Returns:
        None where `meant` is no convolution of these, or the second side holds it too, or no other one.
    """
    first, second = activations
    for layer in (layer for x in inputs for layer in _layers(x, weights)):
        own = _found(layer, first[meant])
        if not own:
            continue
        others = [(name, *each) for name, value in second.items() for each in _found(layer, value)]
        if any(geometry.alike(each) for _, geometry, _ in others for each, _ in own):
            continue
        known = [geometry for name, value in first.items() if name != meant for geometry, _ in _found(layer, value)]
        others = [each for each in others if not any(each[1].alike(geometry) for geometry in known)]
        pairs = [
            Other(meant=mine, held=theirs, name=name, residual=residual)
            for (mine, _), (name, theirs, residual) in product(own, others)
        ]
        # Of one window alone the stride does not show: then it is taken to be the other side's.
        return min(pairs, key=lambda pair: len(pair.differences), default=None)
    return None


def _layers(x: NDArray[np.generic], weights: Mapping[str, NDArray[np.generic]]) -> Iterator[_Layer]:
    """The kernels among the weights that fit an input, in the layouts that are usual."""
    if x.ndim < 3 or not np.any(x):
        return
    values = [np.asarray(value, np.float64) for value in weights.values()]
    layouts = (np.asarray(x, np.float64), np.moveaxis(np.asarray(x, np.float64), -1, 1))
    for w in (value for value in values if value.ndim == x.ndim and value.any()):
        for images, kernel in product(layouts, (w, np.moveaxis(w, (-1, -2), (0, 1)))):
            groups, rest = divmod(images.shape[1], kernel.shape[1])
            sizes = zip(kernel.shape[2:], images.shape[2:], strict=True)
            if rest or len(kernel) % groups or any(k > max(n, SMALL) for k, n in sizes):
                continue
            biases = [np.zeros(len(kernel)), *(value for value in values if value.shape == (len(kernel),))]
            yield _Layer(images, np.ascontiguousarray(kernel), np.stack(biases))


def _found(layer: _Layer, value: NDArray[np.generic]) -> list[tuple[Geometry, float]]:
    """The geometries with which this is the layer's output, channels first or last, and what is left of it."""
    if value.ndim != layer.images.ndim or len(value) != len(layer.images) or not value.size:
        return []
    found = []
    for axis in (1, -1):
        target = np.moveaxis(np.asarray(value, np.float64), axis, 1)
        if target.shape[1] == len(layer.kernel):
            geometries = _geometries(layer.images.shape[2:], layer.kernel.shape[2:], target.shape[2:])
            left = ((geometry, _left(layer, geometry, target)) for geometry in geometries)
            found += [(geometry, residual) for geometry, residual in left if residual <= ALLOWED]
    return found


def _geometries(sizes: tuple[int, ...], kernel: tuple[int, ...], outputs: tuple[int, ...]) -> Iterator[Geometry]:
    """Those that make so many windows."""
    strides = sorted({*STRIDES, max(kernel)})
    for dilation, stride in product(DILATIONS if max(kernel) > 1 else DILATIONS[:1], strides):
        axes = zip(sizes, kernel, outputs, strict=True)
        paddings = [_paddings(size, dilation * (k - 1), stride, count) for size, k, count in axes]
        for before in product(*paddings):
            yield Geometry(sizes=sizes, kernel=kernel, before=before, outputs=outputs, stride=stride, dilation=dilation)


def _paddings(size: int, reach: int, stride: int, outputs: int) -> list[int]:
    """Zeros before the first element, of all the zeros at both ends that make so many windows: half, all or none.

    Either half where their number is odd.
    """
    fewest = stride * (outputs - 1) + reach + 1 - size
    totals = range(max(fewest, 0), fewest + stride)
    likely = [total for total in (totals if stride in STRIDES else totals[:1]) if total <= 2 * max(reach, 1)]
    return sorted({part for total in likely for part in (0, total // 2, total - total // 2, total)})


def _left(layer: _Layer, geometry: Geometry, target: Array) -> float:
    """What a geometry leaves of an output: infinite, if the window in the middle shows that it is another one."""
    middle = tuple(count // 2 for count in geometry.outputs)
    start = tuple(starts[place] for starts, place in zip(geometry.starts, middle, strict=True))
    held: Array = np.moveaxis(target[layer.example], 0, -1)[middle]
    away = np.abs(layer.one(geometry.dilation, start) + layer.biases - held).max(axis=1)
    fitting = layer.biases[away <= PROBE * layer.largest]
    if not len(fitting):
        return float("inf")
    made = layer.all(geometry)
    column = [1] * len(geometry.outputs)
    return min(far(target, made + bias.reshape(-1, *column)) for bias in fitting)
