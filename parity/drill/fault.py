"""A fault as data: what is changed, on which problem it can be seen, and where the ladder of stages shows it first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, AnyImplementation
from parity.problem import Problem
from parity.settings import Settings

__all__ = ["ANY", "CNN", "ORACLE", "PRECISION", "UNKNOWN", "Benign", "Fault", "Host", "Mutation", "Probe"]

ANY = "any"
"""Planted by the methods of the protocol alone: in any program, those with their own data included."""

CNN = "cnn"
"""By the protocol too, but it needs the CNN's tensors, or its optimizer."""

ORACLE = "oracle"
"""Planted in the oracle's operations, and held against another program."""

PRECISION = "precision"
"""A program of lower precision, named like any other; seen in float32."""

UNKNOWN = "unknown"
"""The name of a fault that no catalogue holds."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What makes a fault visible.

    The defaults make short epochs that the batch does not divide: steps of 4, 4 and 2 images, so that seven steps
    cross two epochs' ends. The last step has half its images (`parity.checking`).
    """

    sgd: SGD = field(default_factory=lambda: SGD(lr=0.01))
    images: int = 10
    batch_size: int = 4
    steps: int = 7
    weights_scale: float = 1.0

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch, the last partial batch included."""
        return -(-self.images // self.batch_size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Host:
    """Where a fault is planted: the program, and what it will be checked on.

    `batches` are the rows of `problem.train` that each step sees.
    """

    implementation: AnyImplementation
    problem: Problem
    settings: Settings
    batches: Sequence[NDArray[np.int32]]
    steps_per_epoch: int


Mutation = Callable[[Host], AnyImplementation]
"""Makes the program with the fault; the given one stays as it is. Raises `Inapplicable`."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A porting mistake.

    Args:
        key: its name, in kebab case.
        title: what the port does, in a few words.
        stage: where the ladder can first show it.
        first: the first step at which it can.
        plant: makes the program that has it.
        phase: what it is seen in, where that is not the ordinary steps: "tie probe", "repeat".
        names: keys of causes that count as its name: itself if none is given, and what cannot be told apart from it.
        probe: what makes it visible.
        scope: `ANY`, `CNN`, `ORACLE` or `PRECISION`.
        own: makes it of a program with its own optimizer, where `plant` cannot; None where nothing does.
    """

    key: str
    title: str
    stage: str
    first: int
    plant: Mutation
    phase: str = ""
    names: frozenset[str] = frozenset()
    probe: Probe = field(default_factory=Probe)
    scope: str = CNN
    own: Mutation | None = None

    @property
    def right_names(self) -> frozenset[str]:
        """The names that count."""
        return self.names or frozenset({self.key})


@dataclass(frozen=True, kw_only=True)
class Benign:
    """A change that is no fault: it must match, and be called nothing. As `Fault`, where the names are the same."""

    key: str
    title: str
    plant: Mutation
    probe: Probe = field(default_factory=Probe)
    scope: str = CNN
