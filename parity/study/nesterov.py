"""Nesterov momentum: torch's form, and the look-ahead that textbooks write.

    textbook    g = gradient at q + mu v,   v <- mu v - eta g,   q <- q + v
    torch       b <- mu b + g,              p <- p - eta (g + mu b)

They are one rule for two variables: torch's p is the point that the textbook looks ahead to, p = q + mu v with
v = -eta b. So torch needs no gradient elsewhere, and its parameters are not the textbook's. With an eta that changes
they part, as the torch and Keras forms do.

Source: I. Sutskever, J. Martens, G. Dahl, G. Hinton, On the importance of initialization and momentum in deep learning,
ICML 2013, equations 3 and 4
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from parity.contract import SGD, StepLR
from parity.oracle.schedule import rates
from parity.study.experiment import Array, Bench, Curve, Experiment, Figure, Outcome, Panel, Table
from parity.study.problems import Problem, Quadratic, distances, landscape
from parity.study.rules import descend, torch_form

__all__ = ["EXPERIMENT", "look_ahead"]

BASE = SGD(lr=0.02, momentum=0.9)
PROBLEM = Quadratic(condition=20.0)
STEPS, QUICK_STEPS = 120, 30


def look_ahead(problem: Problem, sgd: SGD, steps: int) -> tuple[Array, Array]:
    """The textbook's points q and those that it looks ahead to, q + mu v; (steps + 1, 2) each."""
    q, v = problem.start, np.zeros(2)
    points, ahead = [q], [q]
    for t in range(steps):
        lr, momentum = rates(sgd, t)
        v = momentum * v - lr * problem.gradient(q + momentum * v)
        q = q + v
        points.append(q)
        ahead.append(q + momentum * v)
    return np.array(points), np.array(ahead)


def study(bench: Bench) -> Outcome:
    """Plain momentum, torch's nesterov, and the textbook's."""
    steps = QUICK_STEPS if bench.quick else STEPS
    plain = descend(PROBLEM, torch_form(BASE), steps)
    nesterov = descend(PROBLEM, torch_form(replace(BASE, nesterov=True)), steps)
    textbook, _ = look_ahead(PROBLEM, BASE, steps)
    changing = replace(BASE, schedule=StepLR(step_size=steps // 3, gamma=0.1))
    gaps = {
        "constant lr: torch's p, textbook's q + mu v": _apart(nesterov, BASE, 1),
        "constant lr: torch's p, textbook's q": _apart(nesterov, BASE, 0),
        f"StepLR({steps // 3}): torch's p, textbook's q + mu v": _apart(
            descend(PROBLEM, torch_form(replace(changing, nesterov=True)), steps), changing, 1
        ),
    }
    paths = {"momentum": plain, "nesterov (torch's p)": nesterov, "nesterov (textbook's q)": textbook}
    figure = Figure(
        name="nesterov",
        title="Nesterov momentum, in torch's form and in the textbook's",
        caption=(
            f"SGD(lr={BASE.lr:g}, momentum={BASE.momentum:g}) on f(x, y) = (x² + 20 y²) / 2 in float64. Left: paths, "
            "in the middle panel's colours (circle: start; star: optimum); nesterov damps the swing across the valley. "
            "Middle: the distance to the optimum. Right: how far torch's parameters are from the textbook's, of which "
            "q are the parameters and q + mu v the points where it takes the gradient. With a constant learning rate "
            "torch's p is q + mu v, up to rounding: the same rule in another variable. When the rate falls tenfold, "
            "the two part. A distance of exactly 0 is not drawn."
        ),
        panels=(_paths_panel(paths), _distance_panel(paths), _gap_panel(gaps)),
        columns=3,
    )
    rows = [(label, steps, float(gap.max())) for label, gap in gaps.items()]
    return Outcome(figures=(figure,), table=Table(columns=("compared", "steps", "largest distance"), rows=tuple(rows)))


def _apart(path: Array, sgd: SGD, which: int) -> Array:
    apart: Array = np.linalg.norm(path - look_ahead(PROBLEM, sgd, len(path) - 1)[which], axis=1)
    return apart


def _paths_panel(paths: dict[str, Array]) -> Panel:
    curves = [
        Curve(x=path[:, 0], y=path[:, 1], label=label, color=number, dashed=number == 2)
        for number, (label, path) in enumerate(paths.items())
    ]
    return Panel(
        title="paths",
        x_label="x (no unit)",
        y_label="y (no unit)",
        curves=tuple(curves),
        landscape=landscape(PROBLEM, (-4.5, 2.5), (-2.0, 2.0)),
        legend=False,
    )


def _distance_panel(paths: dict[str, Array]) -> Panel:
    curves = [
        Curve(
            x=np.arange(len(path), dtype=np.float64),
            y=distances(PROBLEM, path),
            label=label,
            color=number,
            dashed=number == 2,
        )
        for number, (label, path) in enumerate(paths.items())
    ]
    return Panel(
        title="distance to the optimum",
        x_label="update (steps)",
        y_label="distance (Euclidean)",
        curves=tuple(curves),
        log_y=True,
    )


def _gap_panel(gaps: dict[str, Array]) -> Panel:
    curves = [
        Curve(x=np.arange(len(gap), dtype=np.float64), y=np.where(gap > 0, gap, np.nan), label=label, color=number)
        for number, (label, gap) in enumerate(gaps.items(), 3)
    ]
    return Panel(
        title="distance between torch's form and the textbook's",
        x_label="update (steps)",
        y_label="distance (Euclidean)",
        curves=tuple(curves),
        log_y=True,
        y_limits=(1e-18, 10.0),
    )


EXPERIMENT = Experiment(name="nesterov", question="nesterov: what it damps, and what torch's parameters are", run=study)
