"""Another epsilon in a normalisation: of a layer, of groups, of a batch, or of root mean squares.

    y = (x - mean) / sqrt(var + eps)        or      y = x / sqrt(mean(x^2) + eps)

Frameworks have other defaults: torch.nn.LayerNorm 1e-5, flax 1e-6. No side records its epsilon, but each records the
root, its inverse or the sum below it on the way: from one of these and the moment of a common x, the epsilon follows.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html,
https://flax.readthedocs.io/en/stable/api_reference/flax.nnx/nn/normalization.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from parity.explain.fit import ALLOWED, far
from parity.oracle.layers import Array

__all__ = ["other_epsilon"]

Arrays = Sequence[NDArray[np.generic]]

FEWEST = 3
"""Elements of a moment: two unequal ones would be enough for an epsilon, and a third shows that it is one."""

FORMS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "inverse root": (lambda total: 1 / np.sqrt(total), lambda value: 1 / np.square(value)),
    "root": (np.sqrt, np.square),
    "sum": (lambda total: total, lambda value: value),
}
"""What is recorded of moment + eps, and the sum from that."""


def other_epsilon(inputs: Arrays, first: Arrays, second: Arrays) -> tuple[float, float, float] | None:
    """The epsilons of two sides that normalise the same values otherwise.

    Args:
        inputs: what both may normalise.
        first: the first side's activations.
        second: the second's.

    Returns:
        The first side's epsilon, the second's, and what is left of the second's recorded root or sum, relative; None
        where they do not normalise these values, or with equal epsilons.
    """
    for moment in (each for x in inputs for each in _moments(np.asarray(x, np.float64))):
        a, b = _epsilon(moment, first), _epsilon(moment, second)
        if a and b and abs(a[0] - b[0]) > ALLOWED * moment[-1]:  # what rounding makes of the difference of two sums
            return a[0], b[0], b[1]
    return None


def _moments(x: Array) -> Iterator[Array]:
    """Variances and mean squares that x may be divided by, each sorted: they say nothing of the order of axes."""
    for grouped in _groupings(x):
        for moment in (grouped.var(axis=1), np.square(grouped).mean(axis=1)):
            if len(moment) >= FEWEST and moment.min() > 0 and moment.max() > moment.min():
                yield np.sort(moment)


def _groupings(x: Array) -> Iterator[Array]:
    """The values as (groups, values of a group)."""
    for axes in range(1, x.ndim):
        yield x.reshape(int(np.prod(x.shape[:-axes])), -1)  # a layer's
    for channel in {1, x.ndim - 1} if x.ndim > 1 else ():
        by_channel = np.moveaxis(x, channel, 1)
        yield np.moveaxis(x, channel, 0).reshape(x.shape[channel], -1)  # a batch's
        channels = by_channel.shape[1]
        for groups in (number for number in range(2, channels) if channels % number == 0):
            yield by_channel.reshape(len(x) * groups, -1)  # those of a group norm


def _epsilon(moment: Array, activations: Arrays) -> tuple[float, float] | None:
    """The epsilon that was added to the moment, and what it leaves of the activation that shows it, relative."""
    for value in activations:
        if np.size(value) != len(moment):
            continue
        ordered = np.sort(np.asarray(value, np.float64), axis=None)
        if not ordered[0] > 0:
            continue
        for make, total_of in FORMS.values():
            epsilon = float(np.median(np.sort(total_of(ordered)) - moment))
            if not epsilon > ALLOWED * moment[-1]:  # the moment itself, but for rounding
                continue
            residual = far(ordered, np.sort(make(moment + epsilon)))
            if residual <= ALLOWED:
                return epsilon, residual
    return None
