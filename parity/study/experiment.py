"""What an experiment is given, and what it gives back: figures as numbers and words, and a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from parity.contract import InputError, initial_weights
from parity.data import Dataset
from parity.registry import resolve
from parity.running.history import Run
from parity.running.lockstep import train
from parity.settings import Settings, Side

__all__ = ["Array", "Bench", "Curve", "Experiment", "Figure", "Landscape", "Outcome", "Panel", "Table"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points (x, y), each (n,), that belong together; gaps where either is NaN.

    Args:
        x: in the panel's unit.
        y: likewise.
        label: for the legend; "" for none.
        color: which colour of the palette; 0 is what others are compared with, -1 is grey.
        marks: whether points are drawn instead of a line.
        dashed: whether the line is; of marks, whether they are crosses.
        solid: whether the line is, whatever its colour.
        beyond: whether the points are only known to lie higher: drawn as arrows.
        thin: whether it stands behind the others: a thin line in a tone of grey, told from others by dash and marker.
        low, high: the ends of each point's interval, (n,); None for none.
    """

    x: Array
    y: Array
    label: str = ""
    color: int = 0
    marks: bool = False
    dashed: bool = False
    solid: bool = False
    beyond: bool = False
    thin: bool = False
    low: Array | None = None
    high: Array | None = None


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """A function of two variables: z (len(y), len(x)) over a grid, and where it is least."""

    x: Array
    y: Array
    z: Array
    optimum: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes.

    Args:
        title: what is shown.
        x_label: the quantity, with its unit.
        y_label: likewise.
        curves: in the order in which they are drawn.
        log_x: whether the axis is logarithmic.
        log_y: likewise.
        landscape: drawn beneath as contours of equal logarithmic distance.
        y_limits: None to fit the curves; likewise where one of both is None.
        x_ticks: the only values that the x axis names; () to choose.
        legend: whether there is one.
        direct: whether each line's name stands at its end instead, for many lines.
    """

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    log_x: bool = False
    log_y: bool = False
    landscape: Landscape | None = None
    y_limits: tuple[float | None, float | None] = (None, None)
    x_ticks: tuple[float, ...] = ()
    legend: bool = True
    direct: bool = False


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Panels in rows of `columns`, and a caption that can be read without anything else.

    `name` is that of its files.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    columns: int = 2


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under named columns, with units in the names; a missing value is None."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an experiment shows."""

    figures: tuple[Figure, ...]
    table: Table


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What experiments are made with.

    Args:
        dataset: images for the CNN; None where no experiment that was asked for needs them.
        seed: of the CNN's weights and batches, and of nudges, >= 0.
        quick: whether to take fewer steps and fewer runs: the same figures, in seconds.
        names: the implementations that train the CNN, MODULE or MODULE:ATTRIBUTE.
    """

    dataset: Dataset | None = None
    seed: int = 0
    quick: bool = False
    names: tuple[str, str] = ("torch_impl:eager", "jax_impl")

    def side(self, number: int) -> Side:
        """The first or the second implementation.

        Raises:
            InputError: there is none of that name.
        """
        name = self.names[number]
        return Side(name=name, implementation=resolve(name))

    def train(self, sides: Sequence[Side], settings: Settings) -> Run:
        """Train the CNN from the settings' seed, for as many epochs as the steps take; without an evaluation.

        Raises:
            InputError: a side cannot start, or brings its own data.
            KeyboardInterrupt: it was interrupted, so that there is nothing to show.
        """
        size = len(self.images.train_labels)
        whole = replace(settings, epochs=-(-(settings.steps or 1) * settings.batch_size // size) + 1)
        run = train(sides, self.images, whole, initial_weights(settings.seed), evaluate=False)
        if run.interrupted:
            raise KeyboardInterrupt
        return run

    @property
    def images(self) -> Dataset:
        """The data set.

        Raises:
            InputError: there is none.
        """
        if self.dataset is None:
            raise InputError("data", None, "this experiment trains the CNN", "give a data set")
        return self.dataset


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A name, one line on the question that it answers, and how; `trains` says whether it trains the CNN."""

    name: str
    question: str
    run: Callable[[Bench], Outcome]
    trains: bool = False
