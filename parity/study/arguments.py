"""What each argument of SGD does to one and the same descent: on two functions of two variables, and on the CNN.

Each descent differs from the reference, SGD with momentum 0.9, in one argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from parity.contract import SGD, Schedule, StepLR
from parity.settings import Settings
from parity.study.experiment import Array, Bench, Curve, Experiment, Figure, Outcome, Panel, Table
from parity.study.problems import Problem, Quadratic, Rosenbrock, distances, landscape
from parity.study.rules import descend, torch_form

__all__ = ["EXPERIMENTS", "stated"]

Change = Mapping[str, Any]

BUFFER = "what forms the step"
GRADIENT = "what forms the gradient"


@dataclass(frozen=True, kw_only=True)
class Plane:
    """A descent of two variables: the problem, the reference, the changes in two groups, and what is shown of it."""

    name: str
    title: str
    formula: str
    problem: Problem
    base: SGD
    changes: Mapping[str, Sequence[Change]]
    steps: int
    decay: str
    frame: tuple[float, float]
    x: tuple[float, float]
    y: tuple[float, float]


PLANES = (
    Plane(
        name="quadratic",
        title="a quadratic of condition number 20",
        formula="f(x, y) = (x² + 20 y²) / 2",
        problem=Quadratic(condition=20.0),
        base=SGD(lr=0.02, momentum=0.9),
        changes={
            BUFFER: (
                {"lr": 0.06},
                {"momentum": 0.0},
                {"dampening": 0.8},
                {"nesterov": True},
                {"schedule": StepLR(step_size=20, gamma=0.2)},
            ),
            GRADIENT: ({"weight_decay": 1.0}, {"maximize": True}, {"clip_norm": 3.0}, {"clip_value": 2.0}),
        },
        steps=120,
        decay="Weight decay pulls towards the origin, which is this function's optimum: it makes the walls steeper.",
        frame=(3e-5, 30.0),
        x=(-4.5, 2.5),
        y=(-2.0, 2.0),
    ),
    Plane(
        name="rosenbrock",
        title="Rosenbrock's function",
        formula="f(x, y) = (1 - x)² + 100 (y - x²)²",
        problem=Rosenbrock(),
        base=SGD(lr=3e-4, momentum=0.9),
        changes={
            BUFFER: (
                {"lr": 6e-4},
                {"momentum": 0.0},
                {"dampening": 0.8},
                {"nesterov": True},
                {"schedule": StepLR(step_size=250, gamma=0.3)},
            ),
            GRADIENT: ({"weight_decay": 0.1}, {"maximize": True}, {"clip_norm": 5.0}, {"clip_value": 3.0}),
        },
        steps=2000,
        decay="Weight decay pulls towards the origin: its descent ends elsewhere, because it moves the optimum itself.",
        frame=(3e-3, 10.0),
        x=(-1.8, 1.6),
        y=(-0.6, 2.2),
    ),
)

NEAR = 0.01
"""Of the distance at the start: the table says when a descent stays within it."""


def stated(change: Change) -> str:
    """A change as it is written in Python.

    >>> stated({"lr": 0.1, "schedule": StepLR(step_size=5)})
    'lr=0.1, StepLR(step_size=5, gamma=0.1)'
    """
    return ", ".join(_stated(name, value) for name, value in named(change))


def _stated(name: str, value: Any) -> str:
    if isinstance(value, Schedule):
        return str(value)
    return f"{name}={value}" if isinstance(value, bool) else f"{name}={value:g}"


def named(change: Change) -> list[tuple[str, Any]]:
    """The arguments of a change in the order of `SGD`'s."""
    return [(argument.name, change[argument.name]) for argument in fields(SGD) if argument.name in change]


def study_plane(plane: Plane, bench: Bench) -> Outcome:
    """The paths of all descents, and their distances to the optimum."""
    steps = plane.steps // 4 if bench.quick else plane.steps
    reference = _path(plane, {}, steps)
    paths = {key: [(change, _path(plane, change, steps)) for change in group] for key, group in plane.changes.items()}
    flat = [pair for group in paths.values() for pair in group]
    return Outcome(
        figures=(_paths_figure(plane, reference, flat, steps), _distance_figure(plane, reference, paths, steps)),
        table=_plane_table(plane, [({}, reference), *flat]),
    )


def _path(plane: Plane, change: Change, steps: int) -> Array:
    sgd = replace(plane.base, **change)
    path = descend(plane.problem, torch_form(sgd), steps, clipping=sgd)
    return np.where(np.isfinite(path), path, np.nan)


def _base_text(sgd: SGD) -> str:
    return stated({"lr": sgd.lr, "momentum": sgd.momentum})


def _paths_figure(plane: Plane, reference: Array, paths: Sequence[tuple[Change, Array]], steps: int) -> Figure:
    ground = landscape(plane.problem, plane.x, plane.y)
    panels = [
        Panel(
            title=stated(change),
            x_label="x (no unit)",
            y_label="y (no unit)",
            curves=(
                Curve(x=reference[:, 0], y=reference[:, 1], label="reference", color=-1),
                Curve(x=path[:, 0], y=path[:, 1], label="with the change", color=1),
            ),
            landscape=ground,
            legend=number == 0,
        )
        for number, (change, path) in enumerate(paths)
    ]
    return Figure(
        name=f"{plane.name}-paths",
        title=f"What each argument of SGD does to a descent on {plane.title}",
        caption=(
            f"The first {steps:,} steps on {plane.formula}. Grey: the reference, SGD({_base_text(plane.base)}), the "
            "same in every panel. Orange: with the one change that the panel's title names. The circle is where all "
            "descents begin, the star is the optimum; the contours are equally spaced in log f. Gradients are exact: "
            "the only differences are the update's. A path that leaves the frame is cut there."
        ),
        panels=tuple(panels),
        columns=3,
    )


def _distance_figure(
    plane: Plane, reference: Array, paths: Mapping[str, Sequence[tuple[Change, Array]]], steps: int
) -> Figure:
    first = _distance_curve(plane, reference, "reference", 0)
    panels = [
        Panel(
            title=f"{group}",
            x_label="update (steps)",
            y_label="distance to the optimum (Euclidean)",
            curves=(
                first,
                *(
                    _distance_curve(plane, path, stated(change), number)
                    for number, (change, path) in enumerate(members, 1)
                ),
            ),
            log_y=True,
            y_limits=plane.frame,
        )
        for group, members in paths.items()
    ]
    return Figure(
        name=f"{plane.name}-distance",
        title=f"How far from the optimum: {plane.title}",
        caption=(
            f"The distance of each of {steps:,} steps on {plane.formula} from its optimum, on a logarithmic axis. "
            f"Black: the reference, SGD({_base_text(plane.base)}); each other curve changes one argument. Left: "
            "arguments that turn gradients into a step. Right: arguments that change the gradient before it enters the "
            f"buffer. {plane.decay} A climb (maximize) is cut where it leaves the frame."
        ),
        panels=tuple(panels),
    )


def _distance_curve(plane: Plane, path: Array, label: str, color: int) -> Curve:
    steps = np.arange(len(path), dtype=np.float64)
    return Curve(x=steps, y=distances(plane.problem, path), label=label, color=color)


def _plane_table(plane: Plane, paths: Sequence[tuple[Change, Array]]) -> Table:
    rows = []
    for change, path in paths:
        away = distances(plane.problem, path)
        ends = float(away[-1]) if np.isfinite(away[-1]) else None
        rows.append((stated(change) or f"reference: {_base_text(plane.base)}", len(path) - 1, ends, _arrival(away)))
    columns = ("change", "steps", "distance at the end", f"steps until it stays within {NEAR:.0%} of the start's")
    return Table(columns=columns, rows=tuple(rows))


def _arrival(away: Array) -> int | None:
    """From which step on the distance stays below NEAR of the first; None where it does not."""
    outside = np.flatnonzero(~(away <= NEAR * away[0]))
    return int(outside[-1]) + 1 if outside[-1] + 1 < len(away) else None


CNN_BASE = SGD(lr=0.01, momentum=0.9)
CNN_BATCH = 8
CNN_STEPS, CNN_QUICK_STEPS, CNN_WINDOW = 1500, 40, 50
CNN_CHANGES: Mapping[str, Sequence[Change]] = {
    BUFFER: (
        {"lr": 0.02},
        {"momentum": 0.8},
        {"dampening": 0.5},
        {"nesterov": True},
        {"schedule": StepLR(step_size=750, gamma=0.1)},
    ),
    GRADIENT: ({"weight_decay": 0.005}, {"maximize": True}, {"clip_norm": 0.5}, {"clip_value": 0.02}),
}


def study_cnn(bench: Bench) -> Outcome:
    """The losses of the CNN, which one implementation trains on the same batches again and again."""
    steps, width = (CNN_QUICK_STEPS, 10) if bench.quick else (CNN_STEPS, CNN_WINDOW)
    reference = _losses(bench, {}, steps)
    groups = {key: [(change, _losses(bench, change, steps)) for change in group] for key, group in CNN_CHANGES.items()}
    flat = [pair for group in groups.values() for pair in group]
    panels = [
        Panel(
            title=group,
            x_label="update (steps)",
            y_label=f"mean cross-entropy of {width} steps (nats)",
            curves=(
                _loss_curve(reference, width, "reference", 0),
                *(_loss_curve(losses, width, stated(change), n) for n, (change, losses) in enumerate(members, 1)),
            ),
            y_limits=(0.0, 3.0),
        )
        for group, members in groups.items()
    ]
    figure = Figure(
        name="cnn-loss",
        title="What each argument of SGD does to the CNN's loss",
        caption=(
            f"Training loss of the tutorial's CNN by {bench.names[0]}, float32, on {bench.images.origin}, batches of "
            f"{CNN_BATCH}, seed {bench.seed}: means of {width} steps each. Black: SGD({_base_text(CNN_BASE)}); each "
            "other curve changes one argument, from the same weights on the same batches. 2.30 is the loss of a guess "
            "among ten classes. The climb (maximize) ends where its loss stops being finite."
        ),
        panels=tuple(panels),
    )
    rows = [_cnn_row(change, losses, width) for change, losses in [({}, reference), *flat]]
    columns = ("change", "steps", f"mean loss of the last {width} steps (nats)", "largest loss (nats)")
    return Outcome(figures=(figure,), table=Table(columns=columns, rows=tuple(rows)))


def _losses(bench: Bench, change: Change, steps: int) -> Array:
    """Of each step; shorter where the loss stops being finite."""
    sgd, size = replace(CNN_BASE, **change), min(CNN_BATCH, len(bench.images.train_labels))
    settings = Settings(sgd=sgd, batch_size=size, steps=steps, seed=bench.seed, device="cpu")
    run = bench.train([bench.side(0)], settings)
    losses: Array = run.sides[0].losses.astype(np.float64)
    return losses


def _loss_curve(losses: Array, width: int, label: str, color: int) -> Curve:
    means = losses[: len(losses) // width * width].reshape(-1, width).mean(axis=1)
    middles = np.arange(len(means), dtype=np.float64) * width + width / 2
    return Curve(x=middles, y=means, label=label, color=color)


def _cnn_row(change: Change, losses: Array, width: int) -> tuple[str, int, float | None, float | None]:
    text = stated(change) or f"reference: {_base_text(CNN_BASE)}"
    if not len(losses):
        return text, 0, None, None
    return text, len(losses), float(losses[-width:].mean()), float(losses.max())


EXPERIMENTS = (
    *(
        Experiment(
            name=plane.name, question=f"what each argument does on {plane.title}", run=partial(study_plane, plane)
        )
        for plane in PLANES
    ),
    Experiment(name="cnn", question="what each argument does to the CNN's loss", run=study_cnn, trains=True),
)
