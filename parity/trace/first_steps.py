"""The first steps of a trace in full, if they are its own: the same tensors, from the same initial weights.

Losses and later states are not asked for here. Where they are others, `run` is not `observe`, and that is a cause.
Neither are batches: a side may have been fed what was not due.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.compare.measure import frobenius
from parity.contract import StepTrace, Tensors
from parity.trace.beside import refusal
from parity.trace.distances import SUM_ROUNDING
from parity.trace.gradients import GRADIENTS
from parity.trace.projection import Projector, columns_of
from parity.trace.reader import Trace
from parity.trace.stages import read_stages

__all__ = ["first_steps"]


def first_steps(trace: Trace, *, argument: str = "trace") -> tuple[StepTrace, ...]:
    """The steps that were recorded with all their stages; () where none were.

    Raises:
        InputError: a file of them is missing, truncated or edited, or is of another recording.
    """
    start, steps = read_stages(trace.path, argument=argument)
    if steps and (problem := _contradiction(trace, start, steps)):
        raise refusal(argument, trace.path, f"{GRADIENTS} is of another recording: {problem}")
    return steps


def _contradiction(trace: Trace, start: Tensors, steps: tuple[StepTrace, ...]) -> str | None:
    """In what they and the trace contradict each other; None if in nothing."""
    shapes = trace.manifest.tensors
    if len(steps) > trace.manifest.limit:
        return f"it holds {len(steps)} steps, where {trace.manifest.limit} were planned"
    for number, step in enumerate(steps):
        if _shapes(step.weights) != shapes or _shapes(step.parameters) != shapes:
            return f"its parameters in step {number} are not those of the manifest"
        if not _shapes(step.gradients).items() <= shapes.items():
            return f"its gradients in step {number} are not of the manifest's parameters"
    weights = {name: np.asarray(value, np.float64) for name, value in start.items()}
    columns, base, seen = columns_of(shapes), trace.chunks[0].base, Projector(shapes)(weights)
    for name, value in weights.items():
        # The same sums of the same numbers, but perhaps on another machine, whose additions have another order.
        if not frobenius(seen[columns[name]] - base[columns[name]]) <= SUM_ROUNDING * frobenius(value):
            return f"it begins with other weights ({name})"
    return None


def _shapes(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in tensors.items()}
