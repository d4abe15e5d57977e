"""The cheapest way to give each row a column of its own.

Source: the Hungarian method in its form by shortest augmenting paths, R. Jonker and A. Volgenant, "A shortest
    augmenting
path algorithm for dense and sparse linear assignment problems", Computing 38 (1987).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["assign"]


def assign(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    """Minimise the sum of cost[row, column[row]] over all ways to choose distinct columns.

    Args:
        cost: (rows, columns), finite, no more rows than columns.

    Returns:
        (rows,) the column of each row.
    """
    rows, columns = cost.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    owner = np.full(columns, -1)
    for row in range(rows):
        _augment(cost, row, row_price, column_price, owner)
    chosen = np.empty(rows, np.int64)
    taken = owner >= 0
    chosen[owner[taken]] = np.flatnonzero(taken)
    return chosen


def _augment(
    cost: NDArray[np.float64],
    start: int,
    row_price: NDArray[np.float64],
    column_price: NDArray[np.float64],
    owner: NDArray[np.int64],
) -> None:
    """Give row `start` a column, moving earlier rows along the shortest path to a free one; changes the last three."""
    columns = cost.shape[1]
    distance, previous = np.full(columns, np.inf), np.full(columns, -1)
    done = np.zeros(columns, bool)
    row, last, reached = start, -1, 0.0
    while True:
        reduced = reached + cost[row] - row_price[row] - column_price
        closer = ~done & (reduced < distance)
        distance[closer], previous[closer] = reduced[closer], last
        last = int(np.where(done, np.inf, distance).argmin())
        done[last], reached = True, distance[last]
        if owner[last] < 0:
            break
        row = int(owner[last])
    row_price[start] += reached
    for column in np.flatnonzero(done):
        if owner[column] >= 0:
            row_price[owner[column]] += reached - distance[column]
        column_price[column] -= reached - distance[column]
    while last >= 0:
        before = int(previous[last])
        owner[last] = start if before < 0 else owner[before]
        last = before
