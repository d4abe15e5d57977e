"""The report of a run: everything that is printed, as plain dataclasses, and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parity.checking import Check
from parity.compare import Gap, Verdict
from parity.data import Dataset, replacing
from parity.drill import Drilled, Rates
from parity.environment import Environment
from parity.running.history import EpochResult, Window
from parity.running.judgement import Judgement
from parity.settings import Settings

__all__ = [
    "CHECK_FORMAT",
    "DRILL_FORMAT",
    "FORMAT",
    "CheckReport",
    "Comparison",
    "DataReport",
    "DrillReport",
    "Ending",
    "Predictions",
    "Report",
    "SideReport",
    "WeightsReport",
    "data_report",
    "plain",
    "shown",
    "write_json",
]

FORMAT = "parity.report/1"
CHECK_FORMAT = "parity.check/1"
DRILL_FORMAT = "parity.drill/1"


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """The data set: name, one line on its origin, sizes, class names, SHA-256 of all arrays."""

    name: str
    origin: str
    train_size: int
    test_size: int
    classes: tuple[str, ...]
    sha256: str


def data_report(dataset: Dataset) -> DataReport:
    """What a report says of a data set."""
    return DataReport(
        name=dataset.name,
        origin=dataset.origin,
        train_size=len(dataset.train_labels),
        test_size=len(dataset.test_labels),
        classes=dataset.classes,
        sha256=dataset.fingerprint(),
    )


@dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """The initial weights: one line on where they come from, and SHA-256 of names and values."""

    origin: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """A side's results on the test set: accuracies from 0 to 1 (None for a class without images).

    `first_batch` are the class numbers predicted for the first test batch.
    """

    accuracy: float
    accuracy_per_class: tuple[float | None, ...]
    first_batch: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SideReport:
    """One side: its name, how it computed, its last loss, its results, and seconds in training calls."""

    name: str
    description: str
    final_loss: float | None
    predictions: Predictions | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The two sides after the run, in the run's own precision.

    Differences are relative: of the losses at the step where they differ most, of the final states in the tensor where
    they differ most. `agreement` is the share of test images with equal predictions.
    """

    largest_loss: float
    largest_loss_step: int
    parameters: Gap | None
    momentum: Gap | None
    agreement: float | None


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How it ended, and the exit code.

    `kind` is "complete", "interrupted" or "not finite", `phase` "training" or "float64 check", the phase that it ended
    in; `detail` names the side and the step. Steps are counted from 0.
    """

    kind: str
    phase: str
    detail: str | None
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole run; `device` is the one used, `steps` those completed in the phase that it ended in.

    `verdict` (the first float64 steps), `judgement` (the whole run) and `comparison` are None for one side alone, or if
    the run ended before them.
    """

    command: tuple[str, ...]
    environment: Environment
    data: DataReport
    settings: Settings
    device: str
    weights: WeightsReport
    steps: int
    sides: tuple[SideReport, ...]
    ground_truth: tuple[int, ...]
    windows: tuple[Window, ...]
    epochs: tuple[EpochResult, ...]
    verdict: Verdict | None
    judgement: Judgement | None
    comparison: Comparison | None
    ending: Ending

    def to_json(self) -> str:
        """The report as a JSON object with a `format` key; numbers that JSON cannot hold become strings."""
        return json.dumps({"format": FORMAT, **plain(asdict(self))}, indent=2, allow_nan=False)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return shown(self)


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """A check: what it was run with, and everything that was compared.

    `data` is one line on the data set, `notes` on how the sides were brought together (own programs). `data_sha256` is
    of the arrays that both sides train on, `weights_sha256` of the initial weights; None where they were not counted.
    """

    command: tuple[str, ...]
    environment: Environment
    data: str
    settings: Settings
    names: tuple[str, str]
    notes: tuple[str, ...]
    check: Check
    data_sha256: str | None = None
    weights_sha256: str | None = None

    @property
    def exit_code(self) -> int:
        """0 for a match, 1 where the sides differ, 2 where nothing could be judged."""
        return {None: 0, "undecided": 2}.get(self.check.finding.kind if self.check.finding else None, 1)

    def to_json(self) -> str:
        """As a JSON object with a `format` key, the verdict line and the exit code; without the check's details."""
        ending = {"verdict": self.check.line, "exit_code": self.exit_code}
        content = plain(asdict(self))
        del content["check"]["details"]
        return json.dumps({"format": CHECK_FORMAT, **ending, **content}, indent=2, allow_nan=False)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return shown(self)


@dataclass(frozen=True, kw_only=True)
class DrillReport:
    """A drill: the program and the honest one beside it, each fault's result, and the rates.

    `data` is one line on the data set.
    """

    command: tuple[str, ...]
    environment: Environment
    data: str
    implementation: str
    partner: str
    results: tuple[Drilled, ...]
    rates: Rates

    @property
    def exit_code(self) -> int:
        """0 where every fault was found in its place and time and no benign change was, else 1."""
        return 0 if self.rates.complete else 1

    def to_json(self) -> str:
        """As a JSON object with a `format` key and the exit code."""
        content = {"format": DRILL_FORMAT, "exit_code": self.exit_code, **plain(asdict(self))}
        return json.dumps(content, indent=2, allow_nan=False)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return shown(self)


def shown(report: Any) -> str:
    """What a notebook shows of a report: of any for which `parity.report` has a page."""
    from parity.report import fragment  # slow to import, and needed in notebooks alone

    return fragment(report)


def write_json(path: Path, report: Report | CheckReport | DrillReport) -> None:
    """Write the report, in one piece or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(report.to_json() + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """A value as JSON holds it: tuples as lists, and numbers that it has none for as strings."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
