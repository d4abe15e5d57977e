"""Discrete choices that two sides make differently: the sign that a ReLU sees, the winner of a pooling window.

Training is smooth between such choices. A rounding-sized difference changes no result by more than its own size, until
it moves a pre-activation across 0, or one element of a window past another: then a gradient goes another way, and two
honest float32 twins, which stayed within 1e-6 for a thousand steps, part at once. The forward pass hardly notices,
since both values are next to the switch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.contract import StepTrace

__all__ = ["Flip", "find_flips"]

POOLED = ("conv1", "conv2")
"""Layers whose outputs go through a ReLU and a 2x2 max-pool."""

RECTIFIED = ("fc1", "fc2")
"""Layers whose outputs go through a ReLU."""

ROUNDING = 256
"""Differences of a layer up to so many eps of its root mean square are rounding.

They begin at a few eps and grow slowly; honest float32 twins were found at 2 to 59 eps when their first flip came. They
cannot get far beyond: the CNN has 6,600 units an example next to a switch each, so that differences of 256 eps (3e-5 in
float32) flip some unit in about every second step of batch 4.
"""

ORDINARY = 50
"""How many times the layer's root mean square difference a flipped unit's own difference may be and still be rounding.

The largest of 10^6 Gaussian draws is 4.9 standard deviations; the differences of a layer have no single scale (they
grow with the values that are added), which the factor of ten is for. A fault that reaches a single unit exceeds it.
"""


@dataclass(frozen=True, kw_only=True)
class Flip:
    """One choice that the sides make differently.

    Args:
        kind: "ReLU" or "max-pool".
        sample: which example of the batch.
        layer: whose output it is.
        unit: index in the layer's output: (feature,) or (channel, row, column).
        rival: for a pool, the unit that wins on the second side; None for a ReLU.
        a: distance from the switch on the first side, signed: a pre-activation, or by how much the first side's winner
            is ahead.
        b: on the second side; of the other sign, or 0.
        scale: root mean square of the layer's output.
        typical: root mean square of the two sides' differences in this layer.
    """

    kind: str
    sample: int
    layer: str
    unit: tuple[int, ...]
    rival: tuple[int, ...] | None
    a: float
    b: float
    scale: float
    typical: float

    def ordinary(self, eps: float) -> bool:
        """Whether rounding explains it, in a dtype of this eps.

        The layer's differences must be small, and the one at this unit like the others.
        """
        return self.typical <= ROUNDING * eps * self.scale and abs(self.a - self.b) <= ORDINARY * self.typical

    def __str__(self) -> str:
        unit = f"{self.layer}[{', '.join(map(str, self.unit))}]"
        if self.rival is None:
            what = f"the ReLU after {unit} sees {self.a:+.2e} and {self.b:+.2e}"
        else:
            rival = f"[{', '.join(map(str, self.rival))}]"
            what = f"in the pool, {unit} leads {rival} by {self.a:+.2e} and {self.b:+.2e}"
        return f"sample {self.sample}, {what} (layer rms {self.scale:.1e}, typical difference {self.typical:.1e})"


def find_flips(a: StepTrace, b: StepTrace) -> tuple[Flip, ...]:
    """The choices on which two sides' forward passes differ, in the order of the layers; the CNN's only.

    Args:
        a: one side's step.
        b: the other side's, on the same examples in the same order.
    """
    return tuple(_flips(a, b))


def _flips(a: StepTrace, b: StepTrace) -> Iterator[Flip]:
    for layer in (*POOLED, *RECTIFIED):
        if layer not in a.activations or layer not in b.activations:
            continue
        first, second = (np.asarray(trace.activations[layer], np.float64) for trace in (a, b))
        if first.shape != second.shape:
            continue
        scale, typical = _rms(np.concatenate([first, second])), _rms(first - second)
        found = _pool_flips(first, second) if layer in POOLED else _relu_flips(first, second)
        for kind, sample, unit, rival, x, y in found:
            yield Flip(
                kind=kind, sample=sample, layer=layer, unit=unit, rival=rival, a=x, b=y, scale=scale, typical=typical
            )


Found = tuple[str, int, tuple[int, ...], tuple[int, ...] | None, float, float]


def _relu_flips(a: NDArray[np.float64], b: NDArray[np.float64]) -> Iterator[Found]:
    """(batch, features) pre-activations of different sign."""
    for sample, feature in np.argwhere((a > 0) != (b > 0)).tolist():
        yield "ReLU", sample, (feature,), None, float(a[sample, feature]), float(b[sample, feature])


def _pool_flips(a: NDArray[np.float64], b: NDArray[np.float64]) -> Iterator[Found]:
    """(batch, channels, height, width) pre-activations: windows that pass another element on, or none."""
    windows_a, windows_b = _windows(a), _windows(b)
    winner_a, winner_b = windows_a.argmax(-1), windows_b.argmax(-1)
    open_a, open_b = windows_a.max(-1) > 0, windows_b.max(-1) > 0
    different = (open_a != open_b) | (open_a & open_b & (winner_a != winner_b))
    for index in np.argwhere(different).tolist():
        at = tuple(index)
        sample, channel, row, column = index
        x, y = windows_a[at], windows_b[at]
        first, second = int(winner_a[at]), int(winner_b[at])
        if open_a[at] != open_b[at]:
            passed = first if open_a[at] else second  # the element that one side's ReLU lets through
            yield "ReLU", sample, _position(channel, row, column, passed), None, float(x[passed]), float(y[passed])
        else:
            unit, rival = (_position(channel, row, column, winner) for winner in (first, second))
            yield "max-pool", sample, unit, rival, float(x[first] - x[second]), float(y[first] - y[second])


def _windows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(batch, channels, height, width) -> (batch, channels, rows, columns, 4): each 2x2 window in row-major order."""
    batch, channels, height, width = values.shape
    split = values.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return split.transpose(0, 1, 2, 4, 3, 5).reshape(batch, channels, height // 2, width // 2, 4)


def _position(channel: int, row: int, column: int, winner: int) -> tuple[int, int, int]:
    return channel, 2 * row + winner // 2, 2 * column + winner % 2


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
