"""torch's form of momentum beside Keras': the learning rate outside the buffer, or inside.

    torch   b <- mu b + g,         p <- p - eta_t b
    Keras   b <- mu b - eta_t g,   p <- p + b

With a constant eta they are one: Keras' buffer is -eta times torch's. Where eta changes, torch's whole buffer is
rescaled at once, while in Keras' the old gradients keep the rate that they came with, and are forgotten at mu a step.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from parity.contract import SGD, CosineAnnealingLR, Schedule, StepLR
from parity.oracle.schedule import learning_rates
from parity.study.experiment import Array, Bench, Curve, Experiment, Figure, Outcome, Panel, Table
from parity.study.problems import Quadratic
from parity.study.rules import descend, keras, torch_form

__all__ = ["EXPERIMENT"]

BASE = SGD(lr=0.01, momentum=0.9)
PROBLEM = Quadratic(condition=20.0)
STEPS, EVERY = 60, 20


def schedules(every: int) -> dict[str, Schedule | None]:
    """By label."""
    return {
        "constant": None,
        f"StepLR({every}, gamma=0.1)": StepLR(step_size=every, gamma=0.1),
        f"StepLR({every}, gamma=0.5)": StepLR(step_size=every, gamma=0.5),
        f"CosineAnnealingLR({3 * every})": CosineAnnealingLR(T_max=3 * every),
    }


def study(bench: Bench) -> Outcome:
    """Both forms under each schedule."""
    every = EVERY // 2 if bench.quick else EVERY
    steps = 3 * every
    pairs = {label: _both(replace(BASE, schedule=kind), steps) for label, kind in schedules(every).items()}
    sharp = replace(BASE, schedule=StepLR(step_size=every, gamma=0.1))
    panels = (
        _rates_panel(every, steps),
        _updates_panel(sharp, steps),
        _apart_panel(pairs),
    )
    figure = Figure(
        name="forms",
        title="The learning rate outside the momentum buffer (torch) and inside (Keras)",
        caption=(
            f"SGD(lr={BASE.lr:g}, momentum={BASE.momentum:g}) on f(x, y) = (x² + 20 y²) / 2 in float64, from the same "
            "point. Left: the learning rates, in the colours of the right panel. Middle: the length of each update "
            "under the sharpest of them. When the rate falls tenfold, so does torch's update, at once; Keras' buffer "
            "holds gradients that were already multiplied by the old rate, and forgets them at 0.9 a step. Right: the "
            "distance between the two forms' parameters, relative to their distance from the optimum at the start. "
            f"With a constant rate it is rounding ({float(_apart(*pairs['constant']).max()):.0e} at most); once the "
            "rate changes, the two forms are different optimizers. A distance of exactly 0 is not drawn."
        ),
        panels=panels,
        columns=3,
    )
    rows = [(label, steps, float(_apart(*pair).max()), float(_apart(*pair)[-1])) for label, pair in pairs.items()]
    columns = ("schedule", "steps", "largest relative distance", "relative distance at the end")
    return Outcome(figures=(figure,), table=Table(columns=columns, rows=tuple(rows)))


def _both(sgd: SGD, steps: int) -> tuple[Array, Array]:
    return descend(PROBLEM, torch_form(sgd), steps), descend(PROBLEM, keras(sgd), steps)


def _apart(torch_path: Array, keras_path: Array) -> Array:
    """(steps + 1,) the distance between two paths, relative to how far from the optimum they begin."""
    begin = np.linalg.norm(torch_path[0] - PROBLEM.optimum)
    apart: Array = np.linalg.norm(torch_path - keras_path, axis=1) / begin
    return apart


def _rates_panel(every: int, steps: int) -> Panel:
    counts = np.arange(steps)
    curves = [
        Curve(x=counts.astype(np.float64), y=learning_rates(replace(BASE, schedule=kind), counts), label=label, color=n)
        for n, (label, kind) in enumerate(schedules(every).items())
    ]
    return Panel(
        title="learning rate",
        x_label="update (steps)",
        y_label="learning rate (no unit)",
        curves=tuple(curves),
        y_limits=(0.0, 1.5 * BASE.lr),
    )


def _updates_panel(sgd: SGD, steps: int) -> Panel:
    counts = np.arange(1, steps + 1, dtype=np.float64)
    outside, inside = (np.linalg.norm(np.diff(path, axis=0), axis=1) for path in _both(sgd, steps))
    return Panel(
        title=f"length of an update, {sgd.schedule}",
        x_label="update (steps)",
        y_label="length of the update (Euclidean)",
        curves=(
            Curve(x=counts, y=outside, label="torch: outside", color=5),
            Curve(x=counts, y=inside, label="Keras: inside", color=4, dashed=True),
        ),
        log_y=True,
    )


def _apart_panel(pairs: dict[str, tuple[Array, Array]]) -> Panel:
    curves = []
    for number, (label, pair) in enumerate(pairs.items()):
        apart = _apart(*pair)
        steps = np.arange(len(apart), dtype=np.float64)
        curves.append(Curve(x=steps, y=np.where(apart > 0, apart, np.nan), label=label, color=number))
    return Panel(
        title="distance between the two forms",
        x_label="update (steps)",
        y_label="relative distance of the parameters",
        curves=tuple(curves),
        log_y=True,
        legend=False,
    )


EXPERIMENT = Experiment(name="forms", question="torch's form against Keras' when the learning rate changes", run=study)
