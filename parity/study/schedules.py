"""Learning-rate schedules as two implementations really take them, beside the closed form.

Without momentum and decay a step is dp = -eta g, so that eta = -<dp, g> / <g, g> over all parameters can be read off a
step that was taken: nothing is asked of the implementation's schedule.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from parity.compare import largest_gap
from parity.contract import (
    SGD,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    Schedule,
    SequentialLR,
    StepLR,
    StepTrace,
    initial_weights,
)
from parity.data import Loader
from parity.oracle.schedule import learning_rates
from parity.pair import Pair, start_pair
from parity.problem import cnn_problem
from parity.settings import Settings, require_cnn
from parity.study.experiment import Array, Bench, Curve, Experiment, Figure, Outcome, Panel, Table

__all__ = ["EXPERIMENT", "rate_taken"]

LR = 0.01
STEPS, QUICK_STEPS = 48, 12


def kinds(steps: int) -> dict[str, Schedule | None]:
    """One of each kind, by name, that does something within so many steps."""
    third = steps // 3
    warm_up = SequentialLR(
        schedules=(LinearLR(start_factor=0.1, total_iters=third), CosineAnnealingLR(T_max=steps - third)),
        milestones=(third,),
    )
    return {
        "constant": None,
        "StepLR": StepLR(step_size=third, gamma=0.3),
        "MultiStepLR": MultiStepLR(milestones=(third // 2, 2 * third), gamma=0.3),
        "ExponentialLR": ExponentialLR(gamma=0.02 ** (1 / steps)),
        "LinearLR": LinearLR(start_factor=0.1, total_iters=third),
        "PolynomialLR": PolynomialLR(total_iters=steps - third // 2, power=2.0),
        "CosineAnnealingLR": CosineAnnealingLR(T_max=2 * third),
        "OneCycleLR": OneCycleLR(max_lr=LR, total_steps=steps, cycle_momentum=False),
        "SequentialLR": warm_up,
    }


def study(bench: Bench) -> Outcome:
    """The rates that both sides' steps were taken with."""
    steps = QUICK_STEPS if bench.quick else STEPS
    panels, rows, largest = [], [], 0.0
    for name, schedule in kinds(steps).items():
        sgd = SGD(lr=LR, momentum=0.0, schedule=schedule)
        meant = learning_rates(sgd, np.arange(steps))
        taken, gap = _taken(bench, sgd, steps)
        panels.append(_panel(name, meant, taken, bench.names))
        off = [float(np.abs(side - meant).max() / meant.max()) for side in taken]
        rows.append((name, off[0], off[1], gap, str(schedule) if schedule else f"lr={LR:g}"))
        largest = max(largest, *off)
    first, second = bench.names
    figure = Figure(
        name="schedules",
        title="Learning rates that two implementations take, beside the closed form",
        caption=(
            f"The learning rate of each of {steps} steps of SGD without momentum on the tutorial's CNN (batch 2, "
            f"float64, {bench.images.origin}). Line: torch's schedule in closed form. Circles: {first}; crosses: "
            f"{second}; both are read off the steps that were taken, as -<dp, g> / <g, g>. CosineAnnealingLR rises "
            "again after T_max, as torch's does. The largest difference from the closed form, of any schedule on "
            f"either side, is {largest:.0e} of the schedule's highest rate."
        ),
        panels=tuple(panels),
        columns=3,
    )
    columns = (
        "schedule",
        f"{first}: largest error (of the highest rate)",
        f"{second}: likewise",
        "relative distance of the parameters",
        "arguments",
    )
    return Outcome(figures=(figure,), table=Table(columns=columns, rows=tuple(rows)))


def rate_taken(trace: StepTrace) -> float:
    """The learning rate of a step that was taken without momentum and decay."""
    along, square = 0.0, 0.0
    for name, gradient in trace.gradients.items():
        g = np.asarray(gradient, np.float64)
        moved = np.asarray(trace.parameters[name], np.float64) - np.asarray(trace.weights[name], np.float64)
        along += float(np.sum(moved * g))
        square += float(np.sum(g * g))
    return -along / square


def _taken(bench: Bench, sgd: SGD, steps: int) -> tuple[tuple[Array, Array], float]:
    """Each side's (steps,) rates, and the relative gap of their parameters at the end."""
    settings = Settings(sgd=sgd, batch_size=2, seed=bench.seed, dtype="float64", device="cpu")
    problem = cnn_problem(bench.images, initial_weights(bench.seed))
    sides = bench.side(0), bench.side(1)
    require_cnn(sides)
    pair = start_pair(sides, problem, settings, "cpu")
    rates = []
    for rows in islice(_batches(bench), steps):
        pair, traces = pair.observe(rows)
        rates.append([rate_taken(trace) for trace in traces])
    first, second = np.array(rates).T
    return (first, second), _gap(pair)


def _batches(bench: Bench) -> Iterator[NDArray[np.int32]]:
    """Rows of two images, epoch after epoch, for ever."""
    size = len(bench.images.train_labels)
    loader = Loader(size=size, batch_size=min(2, size), seed=bench.seed)
    for epoch in count():
        for plan in loader.plans(epoch):
            yield from plan


def _gap(pair: Pair) -> float:
    a, b = (lane.weights(state) for lane, state in zip(pair.lanes, pair.states, strict=True))
    gap = largest_gap(a, b)
    return gap.difference if gap else 0.0


def _panel(name: str, meant: Array, taken: tuple[Array, Array], names: tuple[str, str]) -> Panel:
    counts = np.arange(len(meant), dtype=np.float64)
    every = slice(None, None, 3)
    return Panel(
        title=name,
        x_label="step (from 0)",
        y_label="learning rate (no unit)",
        curves=(
            Curve(x=counts, y=meant, label="closed form", color=-1),
            Curve(x=counts[every], y=taken[0][every], label=names[0], color=5, marks=True),
            Curve(x=counts[every], y=taken[1][every], label=names[1], color=4, marks=True, dashed=True),
        ),
        y_limits=(0.0, 1.1 * LR),
        legend=name == "constant",
    )


EXPERIMENT = Experiment(
    name="schedules", question="each schedule's learning rate, as both implementations take it", run=study, trains=True
)
