"""How well the two sides classify: accuracy per class side by side, and the confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from parity.compare import Distribution, predictions
from parity.data import Dataset
from parity.report.figures import A, B, counted, every, figure, short
from parity.report.page import Block, Chart, Charts, Section, Table, Text
from parity.result import Predictions, Report
from parity.running.history import Run

__all__ = ["accuracy_section"]

Matrix = NDArray[np.int64]

COUNTED = 12
"""Classes whose confusion matrix has numbers in its cells."""


def accuracy_section(report: Report, run: Run | None, dataset: Dataset | None) -> Section:
    """Everything on the test set; one line where it was not evaluated."""
    results = [(side.name, side.predictions) for side in report.sides if side.predictions]
    title = "Accuracy on the test images"
    if not results:
        return Section(title=title, blocks=(Text(lines=("The run ended before its outputs were evaluated.",)),))
    blocks: list[Block] = [_summary(report), _per_class(results, report.data.classes)]
    blocks += _distributions(report)
    if run and dataset and all(side.logits is not None for side in run.sides):
        blocks.append(_confusions(report, run, dataset))
    blocks += _epochs(report)
    return Section(title=title, blocks=tuple(blocks))


def _summary(report: Report) -> Text:
    shares = [f"{side.name} {_percent(side.predictions.accuracy)}" for side in report.sides if side.predictions]
    line = f"Of {report.data.test_size:,} images: {', '.join(shares)}."
    agreement = report.comparison.agreement if report.comparison else None
    same = "" if agreement is None else f" Both predict the same class for {_percent(agreement)}."
    return Text(lines=(line + same,))


def _per_class(results: Sequence[tuple[str, Predictions]], classes: Sequence[str]) -> Chart:
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "y": list(range(len(classes))),
            "customdata": list(classes),
            "x": [None if share is None else 100 * share for share in side.accuracy_per_class],
            "name": name,
            "marker": {
                "color": color,
                "pattern": {"shape": pattern, "fillmode": "overlay", "size": 6, "solidity": 0.25},
            },
            "hovertemplate": "%{customdata}: %{x:.2f} %<extra>%{fullData.name}</extra>",
        }
        for (name, side), color, pattern in zip(results, (A, B), ("", "/"), strict=False)
    ]
    listed = "; ".join(
        f"{label}: " + ", ".join(_percent(side.accuracy_per_class[number]) for _, side in results)
        for number, label in enumerate(classes)
    )
    return Chart(
        name="classes",
        figure=figure(
            traces,
            {
                "margin": {"l": 10, "r": 14, "t": 34, "b": 46},
                "bargap": 0.25,
                "bargroupgap": 0.05,
                "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"},
                "xaxis": {"title": {"text": "correct, %"}, "range": [0, 100]},
                "yaxis": _class_axis(classes, reverse=True) | {"showgrid": False},
            },
        ),
        caption="Accuracy by class.",
        alt=f"Accuracy by class of {' and '.join(name for name, _ in results)}. {listed}.",
        height=34 * len(classes) + 100,
    )


def _class_axis(classes: Sequence[str], *, reverse: bool) -> dict[str, object]:
    """By number: two classes may have one name."""
    ticks = {"tickvals": list(range(len(classes))), "ticktext": list(map(short, classes)), "tickfont": {"size": 12}}
    return {
        "type": "linear",
        "automargin": True,
        "zeroline": False,
        **ticks,
        **({"autorange": "reversed"} if reverse else {}),
    }


def _distributions(report: Report) -> list[Block]:
    """The ensemble's judgement of these figures."""
    around = report.judgement.envelope if report.judgement else None
    if around is None or not around.distributions:
        return []
    rows = tuple(_distribution_row(figure) for figure in around.distributions)
    columns = ("figure", "the other side", "the ensemble's runs", "allowed", "inside")
    caption = (
        f"Figures of the other side among those of {around.side} and its {counted(around.members, 'run')} one ulp away"
    )
    return [Table(caption=caption, columns=columns, rows=rows, folded=True)]


def _distribution_row(figure: Distribution) -> tuple[str, ...]:
    runs = f"{_percent(min(figure.ensemble))} to {_percent(max(figure.ensemble))}"
    allowed = f"{_percent(max(figure.lowest, 0))} to {_percent(min(figure.highest, 1))}"
    return figure.name, _percent(figure.value), runs, allowed, "yes" if figure.inside else "no"


def _confusions(report: Report, run: Run, dataset: Dataset) -> Charts:
    """Each side's, and of two sides the second's less the first's."""
    classes = report.data.classes
    counted = [
        _confusion(side.logits, dataset.test_labels, len(classes)) for side in run.sides if side.logits is not None
    ]
    charts = [
        _matrix_chart(f"confusion-{number}", side.name, matrix, classes, signed=False)
        for number, (side, matrix) in enumerate(zip(run.sides, counted, strict=True))
    ]
    if len(counted) == 2:
        title = f"{run.sides[1].name} less {run.sides[0].name}"
        charts.append(_matrix_chart("confusion-difference", title, counted[1] - counted[0], classes, signed=True))
    return Charts(charts=tuple(charts))


def _confusion(logits: NDArray[np.floating], labels: NDArray[np.integer], classes: int) -> Matrix:
    """(classes, classes): images by true class (row) and predicted class (column)."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels.astype(np.int64), predictions(logits)), 1)
    return matrix


def _matrix_chart(name: str, title: str, matrix: Matrix, classes: Sequence[str], *, signed: bool) -> Chart:
    reach = max(int(np.abs(matrix).max()), 1)
    scale = [(0, "var(--minus)"), (0.5, "var(--zero)"), (1, "var(--plus)")]
    text = [[f"{value:+d}" if value else "" for value in row] if signed else row for row in matrix.tolist()]
    trace = {
        "type": "heatmap",
        "z": matrix.tolist(),
        "x": list(range(len(classes))),
        "y": list(range(len(classes))),
        "customdata": [[f"{true}, predicted {predicted}" for predicted in classes] for true in classes],
        "zmin": -reach if signed else 0,
        "zmax": reach,
        "colorscale": scale if signed else [(0, "var(--low)"), (0.5, "var(--mid)"), (1, "var(--high)")],
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": "%{customdata}: %{z}<extra></extra>",
    }
    if len(classes) <= COUNTED:
        trace |= {"text": text, "texttemplate": "%{text}", "textfont": {"size": 10}}
    axes = {"showgrid": False, "fixedrange": True}
    layout = {
        "margin": {"l": 10, "r": 8, "t": 8, "b": 10},
        "xaxis": {"title": {"text": "predicted"}, "tickangle": -60, **_class_axis(classes, reverse=False), **axes},
        "yaxis": {"title": {"text": "true"}, **_class_axis(classes, reverse=True), **axes},
    }
    return Chart(
        name=name,
        figure=figure([trace], layout),
        caption=f"Confusion matrix: {title}." + (" All cells are 0." if signed and not matrix.any() else ""),
        alt=f"Confusion matrix, {title}. {_most(matrix, classes, signed=signed)}",
        height=370,
    )


def _most(matrix: Matrix, classes: Sequence[str], *, signed: bool) -> str:
    """What is most often taken for what."""
    if signed and not matrix.any():
        return "All cells are 0."
    others = np.abs(matrix) if signed else matrix * (1 - np.eye(len(matrix), dtype=np.int64))
    row, column = divmod(int(others.argmax()), len(others))
    value = f"{int(matrix[row, column]):+d}" if signed else str(int(matrix[row, column]))
    if signed:
        return f"Largest difference: {classes[row]} predicted as {classes[column]}, {value}."
    error = f"{classes[row]} as {classes[column]}, {value}"
    return f"{int(np.trace(matrix))} on the diagonal; the most frequent error is {error}."


def _epochs(report: Report) -> list[Block]:
    if not report.epochs:
        return []
    rows = tuple(
        (
            str(epoch.epoch),
            *map(_percent, epoch.accuracies),
            *((_percent(epoch.agreement),) if epoch.agreement is not None else ()),
        )
        for epoch in every(report.epochs)
    )
    agreement = ("equal predictions",) if report.epochs[0].agreement is not None else ()
    columns = ("epoch", *(side.name for side in report.sides), *agreement)
    shown = f"; {len(rows)} of {len(report.epochs):,} epochs" if len(rows) < len(report.epochs) else ""
    return [Table(caption=f"Accuracy after each epoch{shown}", columns=columns, rows=rows, folded=True)]


def _percent(share: float | None) -> str:
    return "no images" if share is None else f"{100 * share:.2f} %"
