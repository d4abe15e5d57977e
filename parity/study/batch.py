"""Where two float32 programs part, and what the batch size has to do with it.

Honest twins stay within rounding of each other until one choice (a ReLU's sign, the winner in a pooling window) falls
the other way on one side. A batch of n images asks n times as many such questions in a step, and its mean gradient
weighs the answer to each 1/n: larger batches part in an earlier step, by a smaller jump.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from parity.compare import StateGap
from parity.contract import SGD, InputError
from parity.settings import Settings
from parity.study.experiment import Array, Bench, Curve, Experiment, Figure, Outcome, Panel, Table

__all__ = ["EXPERIMENT", "Twins"]

STEPS: Mapping[int, int] = {1: 2000, 4: 1500, 16: 500, 64: 200}
"""By batch size: about as long as it takes to see most runs part, and no longer: a step of many images takes long."""

SEEDS = 3
QUICK: Mapping[int, int] = {2: 60, 8: 60}

SETTINGS = SGD(lr=0.001, momentum=0.9)


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Two programs trained on the same batches.

    Args:
        batch: images in a step.
        seed: of weights and batches.
        gaps: the states' distance after each chunk.
        parting: the step at which they part, from 0; None where they do not.
        jump: the relative gap of a gradient in that step.
        before: the largest in the steps of the chunk before it.
        steps: how many they took.
    """

    batch: int
    seed: int
    gaps: tuple[StateGap, ...]
    parting: int | None
    jump: float | None
    before: float | None
    steps: int

    @property
    def curve(self) -> tuple[Array, Array]:
        """Steps, and the relative distance of the parameters after them."""
        pairs = [(gap.steps, gap.parameters.difference) for gap in self.gaps]
        steps, distances = np.array(pairs, np.float64).reshape(-1, 2).T
        return steps, np.where(distances > 0, distances, np.nan)


def study(bench: Bench) -> Outcome:
    """The twins at each batch size."""
    size = len(bench.images.train_labels)
    plan = {batch: steps for batch, steps in (QUICK if bench.quick else STEPS).items() if batch <= size}
    if not plan:
        raise InputError("data", bench.images.origin, f"it has {size} training images", "give a larger set")
    seeds = [bench.seed + number for number in range(1 if bench.quick else SEEDS)]
    twins = [_twins(bench, batch, steps, seed) for batch, steps in plan.items() for seed in seeds]
    first, second = bench.names
    figure = Figure(
        name="batch",
        title="The batch size, and where float32 twins part",
        caption=(
            f"{first} and {second} train the tutorial's CNN side by side in float32 from the same weights on the same "
            f"batches ({bench.images.origin}), SGD(lr={SETTINGS.lr:g}, momentum={SETTINGS.momentum:g}); for each "
            f"batch size a curve for each seed from {seeds[0]} to {seeds[-1]}. Left and middle: the largest relative "
            "distance of a parameter tensor, over steps and over images seen. They stay within rounding (float32's eps "
            "is 1.2e-7), until one choice in a ReLU or a pooling window falls the other way on one side; then the "
            "distance jumps. Right: the step of that flip, a circle for each seed; an arrow: not within the steps "
            "taken. A larger batch makes more choices in a step, and weighs each of them less."
        ),
        panels=(
            _gap_panel(twins, seeds[0], images=False),
            _gap_panel(twins, seeds[0], images=True),
            _parting_panel(twins),
        ),
        columns=3,
    )
    return Outcome(figures=(figure,), table=_table(twins))


def _twins(bench: Bench, batch: int, steps: int, seed: int) -> Twins:
    settings = Settings(sgd=SETTINGS, batch_size=batch, steps=steps, seed=seed, device="cpu")
    run = bench.train([bench.side(0), bench.side(1)], settings)
    if run.failure is not None:
        raise run.failure
    parting = run.parting
    return Twins(
        batch=batch,
        seed=seed,
        gaps=run.gaps,
        parting=parting.step if parting else None,
        jump=parting.gap if parting else None,
        before=parting.before if parting else None,
        steps=run.steps,
    )


def _gap_panel(twins: list[Twins], first_seed: int, *, images: bool) -> Panel:
    colors = {batch: number for number, batch in enumerate(dict.fromkeys(pair.batch for pair in twins))}
    curves = []
    for pair in twins:
        steps, distances = pair.curve
        label = f"batch {pair.batch}" if pair.seed == first_seed else ""  # one entry for all seeds
        x = steps * pair.batch if images else steps
        curves.append(Curve(x=x, y=distances, label=label, color=colors[pair.batch]))
    return Panel(
        title="over images seen" if images else "over steps",
        x_label="images seen (count)" if images else "update (steps)",
        y_label="relative distance of the parameters",
        curves=tuple(curves),
        log_x=True,
        log_y=True,
        legend=not images,
    )


def _parting_panel(twins: list[Twins]) -> Panel:
    colors = {batch: number for number, batch in enumerate(dict.fromkeys(pair.batch for pair in twins))}
    curves = [
        Curve(
            x=np.array([float(pair.batch)]),
            y=np.array([float(pair.steps if pair.parting is None else pair.parting + 1)]),
            color=colors[pair.batch],
            marks=True,
            beyond=pair.parting is None,
        )
        for pair in twins
    ]
    return Panel(
        title="step of the first flip",
        x_label="batch size (images)",
        x_ticks=tuple(float(batch) for batch in colors),
        y_label="step (the first is 1)",
        curves=tuple(curves),
        log_x=True,
        log_y=True,
        legend=False,
    )


def _table(twins: list[Twins]) -> Table:
    rows = []
    for pair in twins:
        seen = None if pair.parting is None else pair.parting * pair.batch
        rows.append((pair.batch, pair.seed, pair.steps, pair.parting, seen, pair.before, pair.jump))
    columns = (
        "batch",
        "seed",
        "steps",
        "step of the flip",
        "images before it",
        "gradients' gap before",
        "gradients' gap in it",
    )
    return Table(columns=columns, rows=tuple(rows))


EXPERIMENT = Experiment(
    name="batch", question="the batch size, and the step at which float32 twins part", run=study, trains=True
)
