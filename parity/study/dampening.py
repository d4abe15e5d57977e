"""Dampening, and its first step: torch lets the first gradient into the buffer whole, other forms do not.

With dampening d the buffer's first values, for a constant gradient g, are in units of g:

    torch       1, mu + (1 - d), ...                       the first is not dampened
    scaled      1 - d, (1 - d)(mu + 1), ...                the gradient is scaled before a buffer that begins at 0
    debiased    1, 1, ...                                  (d = mu) an exponential mean over the sum of its weights

All three go to (1 - d) / (1 - mu) g, but not by the same way: torch's first gradient is weighted 1 / (1 - d) times as
much as any other, and remembered as long.
"""

from __future__ import annotations

import numpy as np

from parity.contract import SGD
from parity.study.experiment import Array, Bench, Curve, Experiment, Figure, Outcome, Panel, Table
from parity.study.problems import Quadratic
from parity.study.rules import Rule, debiased, descend, scaled, torch_form

__all__ = ["EXPERIMENT", "response"]

MOMENTUM = DAMPENING = 0.9
LR = 0.05
PROBLEM = Quadratic(condition=20.0)
STEPS, QUICK_STEPS = 60, 25

SGD_DAMPENED = SGD(lr=LR, momentum=MOMENTUM, dampening=DAMPENING)
RULES: dict[str, Rule] = {
    "torch: first gradient whole": torch_form(SGD_DAMPENED),
    "scaled: from the first on": scaled(SGD_DAMPENED),
    "debiased: mean of those seen": debiased(SGD_DAMPENED),
}


def study(bench: Bench) -> Outcome:
    """The three forms on a constant gradient and on the quadratic."""
    steps = QUICK_STEPS if bench.quick else STEPS
    paths = {label: descend(PROBLEM, rule, steps) for label, rule in RULES.items()}
    reference = next(iter(paths.values()))
    apart = {label: np.linalg.norm(path - reference, axis=1) for label, path in paths.items()}
    figure = Figure(
        name="dampening",
        title="Dampening's first step",
        caption=(
            f"Momentum and dampening {MOMENTUM:g}. Left: the step that each form makes of a gradient that is always 1, "
            "in units of lr. torch.optim.SGD puts the first gradient into the buffer whole, so its first step is "
            f"{1 / (1 - DAMPENING):.0f} times as long as that of a form which scales every gradient by 1 - dampening; "
            "torch's form and an exponential mean, divided by the sum of its weights, both step 1 throughout. Middle: "
            f"the distance to the optimum of f(x, y) = (x² + 20 y²) / 2, lr {LR:g}: there those two differ as well, "
            f"because torch remembers its first gradient {1 / (1 - DAMPENING):.0f} times as strongly as any other. "
            "Right: how far the other forms' parameters are from torch's there, in the same colours."
        ),
        panels=(_response_panel(steps), _distance_panel(paths), _apart_panel(apart)),
        columns=3,
    )
    rows = [
        (label, float(response(rule, 1)[0]), float(response(rule, 200)[-1]), float(apart[label].max()))
        for label, rule in RULES.items()
    ]
    columns = ("form", "first step on g = 1 (lr)", "200th step on g = 1 (lr)", "largest distance from torch's path")
    return Outcome(figures=(figure,), table=Table(columns=columns, rows=tuple(rows)))


def response(rule: Rule, steps: int, lr: float = LR) -> Array:
    """(steps,) the steps, in units of lr, that a rule makes of a gradient that is always 1."""
    p, b = np.zeros(1), None
    path = [p]
    for t in range(steps):
        p, b = rule(p, np.ones(1), b, t)
        path.append(p)
    taken: Array = -np.diff(np.concatenate(path)) / lr
    return taken


def _response_panel(steps: int) -> Panel:
    counts = np.arange(1, steps + 1, dtype=np.float64)
    curves = [
        Curve(x=counts, y=response(rule, steps), label=label, color=number, dashed=number == 0)
        for number, (label, rule) in enumerate(RULES.items())
    ]
    return Panel(
        title="step on a constant gradient of 1",
        x_label="update (steps)",
        y_label="step (lr)",
        curves=tuple(curves),
        y_limits=(0.0, None),
        legend=False,
    )


def _distance_panel(paths: dict[str, Array]) -> Panel:
    curves = [
        Curve(
            x=np.arange(len(path), dtype=np.float64),
            y=np.linalg.norm(path - PROBLEM.optimum, axis=1),
            label=label,
            color=number,
            dashed=number == 0,
        )
        for number, (label, path) in enumerate(paths.items())
    ]
    return Panel(
        title="on the quadratic",
        x_label="update (steps)",
        y_label="distance to the optimum (Euclidean)",
        curves=tuple(curves),
    )


def _apart_panel(apart: dict[str, Array]) -> Panel:
    others = list(apart.items())[1:]
    curves = [
        Curve(x=np.arange(len(gap), dtype=np.float64), y=gap, label=label, color=number)
        for number, (label, gap) in enumerate(others, 1)
    ]
    return Panel(
        title="distance from torch's parameters",
        x_label="update (steps)",
        y_label="distance (Euclidean)",
        curves=tuple(curves),
        legend=False,
    )


EXPERIMENT = Experiment(
    name="dampening", question="dampening's first step: whole in torch, scaled elsewhere", run=study
)
