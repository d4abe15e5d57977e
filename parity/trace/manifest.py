"""What is known of a trace beside its numbers: `manifest.json`, which names every file that belongs to the trace."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from parity.contract import SGD, InputError, nearest_file, schedule_from
from parity.environment import Environment
from parity.result import DataReport, WeightsReport
from parity.settings import Settings

__all__ = ["FORMAT", "MANIFEST", "ChunkFile", "Manifest"]

FORMAT = "parity.trace/1"
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class ChunkFile:
    """A file of the trace, its SHA-256, and its steps: from `first`, counted from 0, up to `stop`, not included."""

    file: str
    sha256: str
    first: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Who computed the trace, from what, with what, and which files it consists of.

    Args:
        command: the command line that recorded it.
        environment: versions and machine.
        implementation: its name as the user gave it.
        description: its own line on how it computes: framework, path, device, precision.
        device: the device used.
        settings: what was trained.
        data: the data set.
        weights: the initial weights, before any nudge.
        nudge: the seed of the directions in which each initial weight was moved by one ulp; None if none was.
        tensors: canonical name -> shape, in the order in which chunks hold them.
        momentum: the optimizer's tensors likewise; {} where the side keeps none.
        limit: steps planned.
        every: distance of recorded states.
        chunks: files, in order.
        complete: whether all steps planned are there.
        beside: SHA-256 of each file that holds the first steps in full, by its name; {} where none were kept so.
        ending: "complete", "recording" (or killed while it was), "interrupted", or why a loss stopped it.
    """

    command: tuple[str, ...]
    environment: Environment
    implementation: str
    description: str
    device: str
    settings: Settings
    data: DataReport
    weights: WeightsReport
    nudge: int | None
    tensors: dict[str, tuple[int, ...]]
    momentum: dict[str, tuple[int, ...]]
    limit: int
    every: int
    chunks: tuple[ChunkFile, ...] = ()
    complete: bool = False
    beside: Mapping[str, str] = field(default_factory=dict)
    ending: str = "recording"

    @property
    def steps(self) -> int:
        """Steps in complete chunks."""
        return self.chunks[-1].stop if self.chunks else 0

    def to_json(self) -> str:
        """A JSON object, which ends with the SHA-256 of the rest."""
        content = {"format": FORMAT, **asdict(self)}
        if not self.beside:  # as in traces of before
            del content["beside"]
        return json.dumps({**content, "sha256": _digest(content)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def read(cls, folder: Path, *, argument: str = "trace") -> Manifest:
        """Read a folder's manifest.

        Raises:
            InputError: there is none, it is not one, of an unknown format version, or edited.
        """

        def refuse(problem: str, fix: str = "record it again") -> InputError:
            return InputError(argument, folder, problem, fix)

        try:
            content = json.loads((folder / MANIFEST).read_bytes())
        except OSError as error:
            problem = f"{MANIFEST} cannot be read ({error.strerror})"
            otherwise = "name a folder that parity record wrote"
            fix = otherwise if folder.exists() else nearest_file(folder, otherwise)
            raise refuse(problem, fix) from error
        except ValueError as error:  # not JSON, or not text
            raise refuse(f"{MANIFEST} is damaged ({error})") from error
        if not isinstance(content, dict) or "format" not in content:
            raise refuse(f"{MANIFEST} does not say that it is a trace", "name a folder that parity record wrote")
        if (found := content["format"]) != FORMAT:
            raise refuse(f"the format is {found}, not {FORMAT}", "compare with the version of parity that wrote it")
        if content.pop("sha256", None) != _digest(content):
            raise refuse(f"{MANIFEST} was edited: its SHA-256 is another")
        del content["format"]
        try:
            return cls(**_parsed(content))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise refuse(f"{MANIFEST} does not hold what {FORMAT} promises ({error!r})") from error


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _parsed(content: dict[str, Any]) -> dict[str, Any]:
    settings = content["settings"]
    data = content["data"]
    return content | {
        "command": tuple(content["command"]),
        "environment": Environment(**content["environment"]),
        "settings": Settings(**settings | {"sgd": _sgd(settings["sgd"])}),
        "data": DataReport(**data | {"classes": tuple(data["classes"])}),
        "weights": WeightsReport(**content["weights"]),
        "tensors": _shapes(content["tensors"]),
        "momentum": _shapes(content["momentum"]),
        "beside": {str(file): str(digest) for file, digest in content.get("beside", {}).items()},
        "chunks": tuple(ChunkFile(**chunk) for chunk in content["chunks"]),
    }


def _sgd(content: Mapping[str, Any]) -> SGD:
    """Older traces know of no schedule, no clipping and no groups: there the defaults hold."""
    schedule = content.get("schedule")
    return SGD(**{**content, "schedule": schedule and schedule_from(schedule)})


def _shapes(content: Mapping[str, list[int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in content.items()}
