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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.compare import relative_difference
from parity.contract import Weights
from parity.trace.projection import columns_of
from parity.trace.reader import Trace

__all__ = ["SUM_ROUNDING", "Common", "Distances", "distances", "loss_distances"]

_LOSS_FLOOR = 1e-3
# Moves are added up in float64, 250 at most, and each addition rounds by 2**-53 of the number: in random directions, in
# both traces, 2**-48.5 in all. The projections' own sums are pairwise and round by less.
SUM_ROUNDING = 2.0**-46


@dataclass(frozen=True, kw_only=True, eq=False)
class Distances:
    """Relative distances of two traces.

    Args:
        losses: (steps,).
        counts: (recorded,) steps done at each recorded state.
        tensors: names of the columns of `parameters` and `rounding`.
        parameters: (recorded, tensors).
        rounding: (recorded, tensors) the part of `parameters` that may come from storing them; 0 where `exact`.
        buffers: names of the columns of `momentum`; none where neither side keeps any.
        momentum: (recorded, buffers).
        exact: (recorded,) whether parameters and momentum are compared in full.
    """

    losses: NDArray[np.float64]
    counts: NDArray[np.int64]
    tensors: tuple[str, ...]
    parameters: NDArray[np.float64]
    rounding: NDArray[np.float64]
    buffers: tuple[str, ...]
    momentum: NDArray[np.float64]
    exact: NDArray[np.bool_]

    def is_zero(self) -> bool:
        """Whether not one number differs."""
        return not (self.losses.any() or self.parameters.any() or self.momentum.any())


@dataclass(frozen=True, kw_only=True, eq=False)
class Common:
    """What several traces of one run all hold.

    Args:
        steps: so many first steps.
        counts: (recorded,) these states.
        tensors: parameters by name, with their shapes.
        buffers: momentum tensors likewise; a trace without any stands at zero.
    """

    steps: int
    counts: NDArray[np.int64]
    tensors: Mapping[str, tuple[int, ...]]
    buffers: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, traces: Sequence[Trace]) -> Common:
        """What these traces have in common; they are of the same run."""
        counts = traces[0].counts
        for trace in traces[1:]:
            counts = np.intersect1d(counts, trace.counts)
        return cls(
            steps=min(len(trace.losses) for trace in traces),
            counts=counts,
            tensors=traces[0].manifest.tensors,
            buffers=next((trace.manifest.momentum for trace in traces if trace.manifest.momentum), {}),
        )


def distances(a: Trace, b: Trace, common: Common) -> Distances:
    """How far two traces are apart, in what these and others have in common; the order does not matter."""
    counts, losses = common.counts, (a.losses[: common.steps], b.losses[: common.steps])
    estimates = [_estimated(a, b, name, counts) for name in common.tensors]
    parameters, rounding = (np.stack(part, axis=1) for part in zip(*estimates, strict=True))
    norms = (_momentum_norms(a, common), _momentum_norms(b, common))
    momentum = _relative(np.abs(norms[0] - norms[1]), *norms)
    exact = np.array([count in a.full and count in b.full for count in counts.tolist()])
    for row in np.flatnonzero(exact):
        ours, theirs = a.full[int(counts[row])], b.full[int(counts[row])]
        parameters[row] = _exact(ours.weights, theirs.weights, common.tensors)
        momentum[row] = _exact(ours.momentum, theirs.momentum, common.buffers)
        rounding[row] = 0
    return Distances(
        losses=loss_distances(*losses),
        counts=counts,
        tensors=tuple(common.tensors),
        parameters=parameters,
        rounding=rounding,
        buffers=tuple(common.buffers),
        momentum=momentum,
        exact=exact,
    )


def loss_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(steps,) relative distances of losses, of which small ones have lost digits."""
    return _relative(np.abs(a - b), a, b, floor=_LOSS_FLOOR)


def _relative(
    difference: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64], floor: float = 0.0
) -> NDArray[np.float64]:
    """The difference over the larger of two sizes; 0 where both are 0."""
    scale = np.maximum(np.maximum(np.abs(a), np.abs(b)), floor)
    relative: NDArray[np.float64] = difference / np.where(scale == 0, 1.0, scale)
    return relative


def _rows(trace: Trace, counts: NDArray[np.int64]) -> NDArray[np.intp]:
    """The trace's rows that hold these recorded states."""
    return np.searchsorted(trace.counts, counts)


def _momentum_norms(trace: Trace, common: Common) -> NDArray[np.float64]:
    """(recorded, buffers)."""
    if not trace.manifest.momentum:
        return np.zeros((len(common.counts), len(common.buffers)))
    columns = [list(trace.manifest.momentum).index(name) for name in common.buffers]
    return trace.momentum_norms[_rows(trace, common.counts)][:, columns]


def _estimated(
    a: Trace, b: Trace, name: str, counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(recorded,) distances of one parameter by its projections, and the rounding in them."""
    projected, rounded, norms = [], [], []
    for trace in (a, b):
        rows, columns = _rows(trace, counts), columns_of(trace.manifest.tensors)[name]
        projected.append(trace.projections(columns)[rows])
        rounded.append(trace.rounding(columns)[rows])
        norms.append(trace.norms[rows, list(trace.manifest.tensors).index(name)])
    gap = np.sqrt(np.square(projected[0] - projected[1]).sum(axis=1))
    size = np.maximum(*norms)
    return _relative(gap, size, size), _relative(rounded[0] + rounded[1], size, size) + SUM_ROUNDING


def _exact(a: Weights, b: Weights, shapes: Mapping[str, tuple[int, ...]]) -> NDArray[np.float64]:
    """(tensors,) distances of full states; buffers that a side does not keep stand at zero."""
    zeros = {name: np.zeros(shape) for name, shape in shapes.items()}
    return np.array([relative_difference((a or zeros)[name], (b or zeros)[name]) for name in shapes])
