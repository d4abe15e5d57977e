"""How far two traces are apart, at each step and in each tensor; relative, as everywhere in `parity.compare`.

- Losses: |a - b| / max(|a|, |b|, 1e-3). Below 1e-3 a loss is nearly all cancellation (log of almost 1), and two honest
  sides agree in units of the logits' rounding rather than of the loss.
- Parameters: from the full states where both traces have them; otherwise |P a - P b| / max(|a|, |b|), P the projection
  (see projection.py), which estimates the distance to 9 %.
- Momentum: from the full states; otherwise ||a| - |b|| / max(|a|, |b|), which the distance cannot be below.

What is stored of projections is rounded, so each estimate comes with the most that the rounding can add: each number
lies within half an ulp of its last move of the true one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.compare import relative_difference
from parity.contract import Weights
from parity.trace.projection import columns_of
from parity.trace.reader import Trace

__all__ = ["Distances", "common_counts", "distances"]

_LOSS_FLOOR = 1e-3
# Moves are added up in float64, 250 at most, and each addition rounds by 2**-53 of the number: in random directions, in
# both traces, 2**-48.5 in all. The projections' own sums are pairwise and round by less.
_SUM_ROUNDING = 2.0**-46


@dataclass(frozen=True, kw_only=True, eq=False)
class Distances:
    """Relative distances of two traces.

    Args:
        losses: (steps,).
        counts: (recorded,) steps done at each recorded state.
        tensors: names of the columns of the following.
        parameters: (recorded, tensors).
        momentum: (recorded, tensors).
        rounding: (recorded, tensors) the part of `parameters` that may come from storing them; 0 where `exact`.
        exact: (recorded,) whether parameters and momentum are compared in full.
    """

    losses: NDArray[np.float64]
    counts: NDArray[np.int64]
    tensors: tuple[str, ...]
    parameters: NDArray[np.float64]
    momentum: NDArray[np.float64]
    rounding: NDArray[np.float64]
    exact: NDArray[np.bool_]

    def is_zero(self) -> bool:
        """Whether not one number differs."""
        return not (self.losses.any() or self.parameters.any() or self.momentum.any())


def common_counts(traces: Sequence[Trace]) -> tuple[int, NDArray[np.int64]]:
    """How many steps all traces hold, and the recorded states that they all have."""
    counts = traces[0].counts
    for trace in traces[1:]:
        counts = np.intersect1d(counts, trace.counts)
    return min(len(trace.losses) for trace in traces), counts


def distances(a: Trace, b: Trace, steps: int, counts: NDArray[np.int64]) -> Distances:
    """How far two traces of the same tensors are apart.

    Args:
        a: one.
        b: the other; the order does not matter.
        steps: that many first steps are compared.
        counts: these recorded states are compared; both have them.
    """
    tensors = tuple(a.manifest.tensors)
    columns = [_parameters(a, b, name, counts) for name in tensors]
    parameters, rounding = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
    momentum = np.stack(
        [_norm_gap(*(_column(t, t.momentum_norms, name, counts) for t in (a, b))) for name in tensors], 1
    )
    exact = np.array([count in a.full and count in b.full for count in counts.tolist()])
    for row in np.flatnonzero(exact):
        mine, other = a.full[int(counts[row])], b.full[int(counts[row])]
        parameters[row] = _exact(mine.weights, other.weights, a, tensors)
        momentum[row] = _exact(mine.momentum, other.momentum, a, tensors)
        rounding[row] = 0
    return Distances(
        losses=_relative(np.abs(a.losses[:steps] - b.losses[:steps]), a.losses[:steps], b.losses[:steps], _LOSS_FLOOR),
        counts=counts,
        tensors=tensors,
        parameters=parameters,
        momentum=momentum,
        rounding=rounding,
        exact=exact,
    )


def _relative(
    difference: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64], floor: float = 0.0
) -> NDArray[np.float64]:
    """The difference over the larger of two sizes; 0 where both are 0."""
    scale = np.maximum(np.maximum(np.abs(a), np.abs(b)), floor)
    relative: NDArray[np.float64] = difference / np.where(scale == 0, 1.0, scale)
    return relative


def _norm_gap(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return _relative(np.abs(a - b), a, b)


def _column(trace: Trace, values: NDArray[np.float64], name: str, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """A tensor's column of (recorded, tensors) values, at these recorded states."""
    column: NDArray[np.float64] = values[
        np.searchsorted(trace.counts, counts), list(trace.manifest.tensors).index(name)
    ]
    return column


def _parameters(
    a: Trace, b: Trace, name: str, counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(recorded,) estimated distances of one tensor, and the rounding in them."""
    projected, rounded = [], []
    for trace in (a, b):
        rows, columns = np.searchsorted(trace.counts, counts), columns_of(trace.manifest.tensors)[name]
        projected.append(trace.projections(columns)[rows])
        rounded.append(trace.rounding(columns)[rows])
    norms = (_column(a, a.norms, name, counts), _column(b, b.norms, name, counts))
    gap = np.sqrt(np.square(projected[0] - projected[1]).sum(axis=1))
    return _relative(gap, *norms), _relative(rounded[0] + rounded[1], *norms) + _SUM_ROUNDING


def _exact(a: Weights, b: Weights, trace: Trace, tensors: Sequence[str]) -> NDArray[np.float64]:
    """(tensors,) distances of full states; buffers that a side does not keep stand at zero."""
    zeros = {name: np.zeros(shape) for name, shape in trace.manifest.tensors.items()}
    return np.array([relative_difference((a or zeros)[name], (b or zeros)[name]) for name in tensors])
