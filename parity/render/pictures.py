"""A run as pictures, PNG and SVG: losses and the gap between the sides, accuracy by class, sample predictions.

Drawn as `parity.render.figure` draws a study's figures; each can be read without the report.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from parity.compare import predictions
from parity.data import Dataset
from parity.render.figure import DASHES, GREY, LINE, PALETTE, draw, saved
from parity.render.grid import KINDS, draw_grid
from parity.result import Report
from parity.run import Result
from parity.running.history import SideRun
from parity.running.judgement import Envelope
from parity.study import Curve, Figure, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["pictures"]

POINTS = 200
"""Of a loss curve at most: single losses at batch 4 are noise."""

SHOWN = 24
"""Test images in the picture of predictions."""


def pictures(result: Result, dataset: Dataset) -> Iterator[tuple[str, bytes]]:
    """Each picture's file name and content; without an evaluation there are losses alone, without steps nothing.

    Args:
        result: a run of one or two sides.
        dataset: what it was trained on.
    """
    sides = [side for side in result.run.sides if len(side.losses)]
    for kind in KINDS if sides else ():
        yield f"loss.{kind}", draw(loss_figure(result), kind)
        if all(side.logits is not None for side in sides):
            yield f"accuracy.{kind}", draw_accuracy(result.report, kind)
            yield f"predictions.{kind}", draw_predictions(sides, result.report, dataset, kind)


def loss_figure(result: Result) -> Figure:
    """The sides' losses; beneath, how far their parameters are apart, and how far an ensemble lets them be."""
    report = result.report
    length = -(-result.run.steps // POINTS)
    losses = Panel(
        title="training loss",
        x_label="step",
        y_label=f"loss, mean of {length} steps" if length > 1 else "loss",
        curves=tuple(_loss_curve(side, length, number) for number, side in enumerate(result.run.sides)),
    )
    around = report.judgement.envelope if report.judgement else None
    gaps = (_gap_panel(result, around),) if result.run.gaps else ()
    return Figure(
        name="loss",
        title=" and ".join(side.name for side in report.sides),
        caption=_caption(report, "Losses of single batches, averaged." + _gap_caption(around, bool(gaps))),
        panels=(losses, *gaps),
        columns=1,
    )


def _loss_curve(side: SideRun, length: int, color: int) -> Curve:
    """Means over pieces of so many steps, each at its middle; the last piece may be shorter."""
    starts = np.arange(0, len(side.losses), length)
    counts = np.diff(np.append(starts, len(side.losses)))
    means = np.add.reduceat(side.losses.astype(np.float64), starts) / counts
    # Two sides that agree cover each other: the second is dashed.
    return Curve(
        x=starts + (counts - 1) / 2, y=means, label=side.name, color=_COLORS[color], solid=not color, dashed=color > 0
    )


_COLORS = (5, 4)
"""Of the sides in the palette: blue and vermilion."""


def _gap_panel(result: Result, around: Envelope | None) -> Panel:
    gaps = [(gap.steps, gap.parameters.difference) for gap in result.run.gaps]
    steps, values = (np.array(column, np.float64) for column in zip(*gaps, strict=True))
    curves = [Curve(x=steps, y=_above_zero(values), label="the two sides", color=0)]
    if around:
        limits = _above_zero(np.array(around.limits))
        label = f"allowed by {around.members} run{'s' if around.members > 1 else ''} one ulp apart"
        curves.append(Curve(x=np.array(around.steps, np.float64), y=limits, label=label, color=-1, dashed=True))
    return Panel(
        title="how far the parameters are apart",
        x_label="step",
        y_label="largest relative difference",
        curves=tuple(curves),
        log_y=True,
    )


def _above_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A logarithmic axis has no 0: a gap in the curve."""
    return np.where(values > 0, values, np.nan)


def _gap_caption(around: Envelope | None, drawn: bool) -> str:
    if not drawn:
        return ""
    text = " Beneath, the tensor whose relative difference (Frobenius norm) is the largest, after each chunk of steps."
    if around and around.horizon is not None:
        text += f" From step {around.horizon:,} on a comparison step by step means nothing."
    return text


def _caption(report: Report, text: str) -> str:
    settings = report.settings
    verdict = f" Verdict: {report.judgement.line}." if report.judgement else ""
    trained = (
        f"{settings.dtype}, batch {settings.batch_size}, lr {settings.sgd.lr:g}, momentum {settings.sgd.momentum:g}"
    )
    return f"{text} {trained}, seed {settings.seed}, {report.steps:,} steps; {report.data.origin}.{verdict}"


def draw_accuracy(report: Report, kind: str) -> bytes:
    """Each side's share of right predictions in every class, as bars beside each other."""
    import matplotlib as mpl  # slow to import, and only needed here
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    width, body = 7.2, 4.0
    caption = textwrap.wrap(
        _caption(
            report,
            f"Share of right predictions among each class' test images ({report.data.test_size:,} in all).",
        ),
        width=int(width * 14.2),
    )
    foot = LINE * (len(caption) + 0.6)
    with mpl.rc_context({"svg.hashsalt": "parity", "font.size": 9, "legend.fontsize": 8}):
        canvas = Canvas(figsize=(width, body + foot), layout="constrained")
        FigureCanvasAgg(canvas)
        top, bottom = canvas.subfigures(2, 1, squeeze=False, height_ratios=[body, foot])[:, 0]
        top.suptitle("Test accuracy by class", fontsize=12)
        _draw_bars(top.subplots(), report)
        bottom.text(0.012, 0.92, "\n".join(caption), va="top", fontsize=9, parse_math=False, linespacing=1.25)
        return saved(canvas, kind)


HATCHES = ("", "////")


def _draw_bars(axes: Axes, report: Report) -> None:
    results = [(side.name, side.predictions) for side in report.sides if side.predictions]
    thickness = 0.8 / len(results)
    places = np.arange(1 + len(report.data.classes), dtype=np.float64)
    for number, (name, found) in enumerate(results):
        shares = [found.accuracy, *found.accuracy_per_class]
        heights = [np.nan if share is None else 100 * share for share in shares]
        style: dict[str, Any] = {
            "color": PALETTE[_COLORS[number]],
            "hatch": HATCHES[number],
            "edgecolor": "#FFFFFF",
            "linewidth": 0,
        }
        shift = (number - (len(results) - 1) / 2) * thickness
        axes.bar(places + shift, heights, thickness, label=f"{name}: {100 * found.accuracy:.2f} %", **style)
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=DASHES[1])
    axes.set_xticks(
        places, ["all", *report.data.classes], rotation=35, ha="right", rotation_mode="anchor", parse_math=False
    )
    axes.set_ylabel("right, %")
    axes.set_ylim(0, 100)
    axes.grid(visible=True, axis="y", color="#E3E3E3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=2, frameon=False)


def draw_predictions(sides: Sequence[SideRun], report: Report, dataset: Dataset, kind: str) -> bytes:
    """Test images with what each side takes them for; those on which the sides disagree come first."""
    guesses = [predictions(side.logits) for side in sides if side.logits is not None]
    apart = np.flatnonzero(guesses[0] != guesses[-1])
    together = np.flatnonzero(guesses[0] == guesses[-1])
    # As many of both as there is room for: half of the picture, more where there are few of the others.
    first = apart[: max(SHOWN // 2, SHOWN - len(together))]
    rows = [*first, *together[: SHOWN - len(first)]]
    names = dataset.classes
    labels = [
        [(f"{'AB'[n]}: {names[g[row]]}", bool(g[row] == dataset.test_labels[row])) for n, g in enumerate(guesses)]
        for row in rows
    ]
    legend = ", ".join(f"{'AB'[number]}: {side.name}" for number, side in enumerate(sides))
    differ = _disagreement(len(apart), len(guesses[0])) if len(sides) > 1 else ""
    text = (
        f"Above each test image its class, beneath it what it is taken for ({legend}); \N{BALLOT X} is wrong.{differ}"
    )
    titles = [f"{row}: {names[dataset.test_labels[row]]}" for row in rows]
    return draw_grid(dataset.test_images[rows], titles, labels, caption=_caption(report, text), kind=kind)


def _disagreement(count: int, total: int) -> str:
    """How many come first, if any do."""
    if not count:
        return f" The two agree on all {total:,} test images."
    which = "that one comes" if count == 1 else "those come"
    return f" On {count:,} of {total:,} test images the two disagree; {which} first."
