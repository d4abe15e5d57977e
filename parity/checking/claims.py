"""What one side shows of itself, where the other side need not be asked.

A program is a function of its state and its batch, so the same step twice must be equal to the last bit; where it is
not (sums added in an order of the moment, an algorithm chosen anew each time), no comparison can be repeated. And a
program that states its accuracy (`parity.contract.Scored`) must state that of its own outputs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parity.compare import Finding, Stage, accuracy, predictions, relative_difference, stage_tensors
from parity.compare.formula import EPS, ULPS
from parity.contract import NUM_CLASSES, StepTrace
from parity.explain import Explanation, explain_score
from parity.pair import Pair

__all__ = ["explain_statement", "repeat_finding", "score_finding"]

Batch = NDArray[np.int32]


def repeat_finding(start: Pair, rows: Batch, opening: tuple[StepTrace, StepTrace]) -> Finding | None:
    """The first tensor of the first step that a side computes otherwise when it is asked again.

    Args:
        start: where the step began.
        rows: its rows.
        opening: what both sides computed in it before.
    """
    _, again = start.observe(rows)
    for name, first, second in zip(start.names, opening, again, strict=True):
        for place, difference in _unequal(first, second):
            return Finding(
                kind="precision",
                step=0,
                phase="repeat",
                place=place,
                difference=difference,
                allowed=0.0,
                local=None,
                off=(name,),
                detail=f"{name}: the same step twice is not equal to the last bit, but {difference:.1e} apart",
            )
    return None


def _unequal(first: StepTrace, second: StepTrace) -> Iterator[tuple[Stage, float]]:
    """The tensors that are not equal, NaN for NaN, and how far apart they are."""
    found = stage_tensors(second)
    for place, value in stage_tensors(first).items():
        other = found.get(place)
        if other is None or other.shape != value.shape:
            yield place, float("inf")
        elif not np.array_equal(value, other, equal_nan=True):
            yield place, relative_difference(value, other)


def known_labels(outputs: NDArray[np.floating]) -> NDArray[np.int32]:
    """Labels of which (N, classes) outputs get the first three quarters right, and no other."""
    labels = predictions(outputs).astype(np.int32)
    labels[-(-3 * len(labels) // 4) :] += 1
    return labels % NUM_CLASSES


def explain_statement(end: Pair, finding: Finding, batch_size: int) -> Explanation:
    """Why a side's accuracy is not that of its own outputs."""
    number = end.names.index(finding.off[0])
    lane, state = end.lanes[number], end.states[number]
    outputs = lane.logits(state)
    labels = known_labels(outputs)
    stated = lane.accuracy(state, (end.problem.test[0], labels)) or 0.0
    return explain_score(finding, stated, outputs, labels, batch_size)


def score_finding(end: Pair, steps: int) -> Finding | None:
    """The first side that states another accuracy than its outputs give, on labels of which it gets a known part right.

    After a few steps a model may get none right, and then every metric is 0. So the labels are its own predictions, and
    for the last quarter of the images other classes.

    Args:
        end: where the sides stand after the steps; only the CNN's classes are known.
        steps: how many those were.
    """
    if not end.problem.is_cnn:
        return None
    images = end.problem.test[0]
    for lane, state in zip(end.lanes, end.states, strict=True):
        outputs = lane.logits(state)
        labels = known_labels(outputs)
        stated = lane.accuracy(state, (images, labels))
        given = accuracy(predictions(outputs), labels)
        # A share of the same predictions, however it is summed up: rounding alone may differ.
        if stated is not None and not abs(stated - given) <= ULPS * EPS:
            return Finding(
                kind="formula",
                step=steps,
                phase="",
                place=Stage(stage="evaluation", tensor="accuracy"),
                difference=abs(stated - given),
                allowed=ULPS * EPS,
                local=None,
                off=(lane.side.name,),
                detail=f"{lane.side.name} states {stated:.6g}, its own outputs give {given:.6g}",
            )
    return None
