"""Weight decay before the momentum (coupled, torch's SGD) and after it (decoupled, as in AdamW).

    coupled     b <- mu b + (g + w p),  p <- p - eta b
    decoupled   b <- mu b + g,          p <- p - eta (b + w p)

Without momentum they are one. With it, the coupled decay goes through the buffer too, which makes it 1 / (1 - mu) times
as strong: the two end at the same point where the decoupled one is given w / (1 - mu).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from parity.contract import SGD
from parity.study.experiment import Array, Bench, Curve, Experiment, Figure, Outcome, Panel, Table
from parity.study.problems import Problem, Quadratic
from parity.study.rules import decoupled, descend, torch_form

__all__ = ["EXPERIMENT", "Shifted"]


class Shifted(Quadratic):
    """A quadratic whose optimum is not the origin, towards which decay pulls: f(p - c), c = (2, 1)."""

    @property
    def start(self) -> Array:
        """The origin."""
        return np.zeros(2)

    @property
    def optimum(self) -> Array:
        """See `Problem`."""
        return np.array([2.0, 1.0])

    def value(self, p: Array) -> Array:
        """See `Problem`."""
        return super().value(p - self.optimum)

    def gradient(self, p: Array) -> Array:
        """See `Problem`."""
        return super().gradient(p - self.optimum)


PROBLEM: Problem = Shifted(condition=4.0)
BASE = SGD(lr=0.02, momentum=0.9, weight_decay=0.5)
STEPS, QUICK_STEPS = 300, 80


def study(bench: Bench) -> Outcome:
    """Both places, with and without momentum, and the decoupled one made as strong."""
    steps = QUICK_STEPS if bench.quick else STEPS
    still = replace(BASE, momentum=0.0, lr=BASE.lr / (1 - BASE.momentum))
    strong = replace(BASE, weight_decay=BASE.weight_decay / (1 - BASE.momentum))
    with_momentum = {
        "no decay": descend(PROBLEM, torch_form(replace(BASE, weight_decay=0.0)), steps),
        "coupled, 0.5": descend(PROBLEM, torch_form(BASE), steps),
        "decoupled, 0.5": descend(PROBLEM, decoupled(BASE), steps),
        "decoupled, 5 = 0.5 / (1 - 0.9)": descend(PROBLEM, decoupled(strong), steps),
    }
    without = {
        "no decay": descend(PROBLEM, torch_form(replace(still, weight_decay=0.0)), steps),
        "coupled, 0.5": descend(PROBLEM, torch_form(still), steps),
        "decoupled, 0.5": descend(PROBLEM, decoupled(still), steps),
    }
    panels = (
        _norm_panel(f"momentum 0, lr {still.lr:g}", without, legend=False),
        _norm_panel(f"momentum {BASE.momentum:g}, lr {BASE.lr:g}", with_momentum, legend=True),
    )
    figure = Figure(
        name="decay",
        title="Weight decay before the momentum (coupled) and after it (decoupled)",
        caption=(
            "The norm of the parameters on f(x, y) = ((x - 2)² + 4 (y - 1)²) / 2, from the origin, in float64; without "
            "decay they go to (2, 1), whose norm is 2.24. Left: without momentum the two places are one rule (the "
            "curves lie on each other). Right: with momentum 0.9 the coupled decay (torch.optim.SGD) passes through "
            "the buffer and pulls ten times as hard as the same factor decoupled; the decoupled one with a ten times "
            "larger factor ends at the same point, by another way."
        ),
        panels=panels,
    )
    rows = [
        (f"momentum {momentum:g}", label, float(path[-1, 0]), float(path[-1, 1]), float(np.linalg.norm(path[-1])))
        for momentum, paths in ((0.0, without), (BASE.momentum, with_momentum))
        for label, path in paths.items()
    ]
    return Outcome(
        figures=(figure,), table=Table(columns=("momentum", "decay", "x", "y", "norm at the end"), rows=tuple(rows))
    )


def _norm_panel(title: str, paths: dict[str, Array], *, legend: bool) -> Panel:
    curves = [
        Curve(
            x=np.arange(len(path), dtype=np.float64),
            y=np.linalg.norm(path, axis=1),
            label=label,
            color=number,
            dashed=number == 2,
        )
        for number, (label, path) in enumerate(paths.items())
    ]
    return Panel(
        title=title,
        x_label="update (steps)",
        y_label="norm of the parameters (Euclidean)",
        curves=tuple(curves),
        legend=legend,
    )


EXPERIMENT = Experiment(name="decay", question="weight decay before the momentum and after it", run=study)
