"""Plotly figures as plain dictionaries, checked by Plotly's own validators; and long series made short.

Colours are the page's, by name ("var(--a)"): the page resolves them, and again when its theme changes. The first side
is always --a and drawn whole, the second --b and dashed, so that colour is not all that tells them apart.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "POINTS",
    "A",
    "B",
    "Band",
    "Values",
    "band",
    "counted",
    "every",
    "figure",
    "finite",
    "log_ticks",
    "positive",
    "short",
]

A, B = "var(--a)", "var(--b)"

POINTS = 800
"""Points of a line at most: more than a screen has pixels for."""

LABEL = 26
"""Characters of a tensor's name beside an axis."""

Row = TypeVar("Row")

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Band:
    """A series in buckets of equally many steps: (buckets,) each; where `width` is 1, it is the series itself."""

    steps: Values
    low: Values
    mean: Values
    high: Values
    width: int


def band(values: NDArray[np.floating], *, points: int = POINTS) -> Band:
    """A series, thinned so that no extreme is lost: minimum, mean and maximum of each bucket.

    Args:
        values: (steps,); those that are not finite are left out, a bucket of nothing else is NaN.
        points: buckets at most.

    >>> band(np.arange(6.0), points=3).high
    array([1., 3., 5.])
    """
    width = max(math.ceil(len(values) / points), 1)
    padded = np.full(math.ceil(len(values) / width) * width, np.nan)
    padded[: len(values)] = np.where(np.isfinite(values), values, np.nan)
    buckets = padded.reshape(-1, width)
    empty = np.isnan(buckets).all(axis=1)
    filled = np.where(empty[:, np.newaxis], 0.0, buckets)  # nan-functions warn of rows of NaN alone
    low, mean, high = (np.where(empty, np.nan, of(filled, axis=1)) for of in (np.nanmin, np.nanmean, np.nanmax))
    ends = np.minimum(np.arange(1, len(buckets) + 1) * width, len(values))
    return Band(steps=(np.arange(len(buckets)) * width + ends - 1) / 2, low=low, mean=mean, high=high, width=width)


def every(rows: Sequence[Row], *, most: int = 60) -> list[Row]:
    """Of too many rows of a table the last of equally many; the very last is always there.

    >>> every(range(7), most=3)
    [0, 3, 6]
    """
    width = max(math.ceil(len(rows) / most), 1)
    return list(rows[::-1][::width][::-1])


def positive(values: Sequence[float] | NDArray[np.floating]) -> Values:
    """For a log axis: NaN in place of what is not above 0, or not finite."""
    numbers = np.asarray(values, np.float64)
    return np.where(np.isfinite(numbers) & (numbers > 0), numbers, np.nan)


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "run"), counted(1200, "step")
    ('1 run', '1,200 steps')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def finite(value: float, digits: str = ".2e") -> str:
    """A difference in digits, or in words where it has none.

    >>> finite(0.5), finite(float("inf"))
    ('5.00e-01', 'not finite')
    """
    return format(value, digits) if math.isfinite(value) else "not finite"


def log_ticks(low: int, high: int) -> dict[str, list[Any]]:
    """Ticks of a colour bar whose values are powers of ten, four at most: a phone has room for no more."""
    step = max(math.ceil((high - low) / 3), 1)
    ticks = list(range(low, high + 1, step))
    return {"tickvals": ticks, "ticktext": [f"1e{tick}" for tick in ticks]}


def short(name: str) -> str:
    """A name beside an axis: its middle left out where it is long."""
    return name if len(name) <= LABEL else f"{name[: LABEL // 2]}…{name[-LABEL // 2 + 1 :]}"


TEXTS = ("customdata", "name", "text", "ticktext", "tickvals", "x", "y")
"""Where names stand, a user's among them; templates and titles are ours."""


def _escaped(part: Mapping[str, Any]) -> dict[str, Any]:
    """With markup in names written out: Plotly draws <b> in bold, and takes <a> for a link."""
    return {
        key: _text(value) if key in TEXTS else _escaped(value) if isinstance(value, Mapping) else value
        for key, value in part.items()
    }


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return [_text(part) for part in value] if isinstance(value, list | tuple) else value


def figure(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> dict[str, Any]:
    """The figure as the page takes it; arrays are packed, and names are text, whatever they hold.

    Raises:
        ValueError: Plotly knows no such attribute.
    """
    import plotly.graph_objects as go  # slow to import, and only needed here

    made = json.loads(
        go.Figure(data=[_escaped(trace) for trace in traces], layout=_escaped(layout)).to_json(engine="json")
    )
    made["layout"].pop("template", None)  # the page's own style stands for it
    return {"data": made["data"], "layout": made["layout"]}
