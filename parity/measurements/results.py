"""The file of results: one entry for each part, its trials added one by one, so that a kill loses one trial at most."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parity.contract import InputError
from parity.data import replacing
from parity.environment import describe_environment
from parity.measurements.part import Bench, Part, Trial
from parity.result import plain

__all__ = ["FORMAT", "Results", "configuration"]

FORMAT = "parity.calibration/1"


def configuration(part: Part, bench: Bench) -> dict[str, Any]:
    """What decides a part's numbers, as JSON holds it: trials of two configurations are not mixed."""
    dataset = bench.dataset
    data = {
        "name": dataset.name,
        "origin": dataset.origin,
        "sha256": dataset.fingerprint(),
        "train_size": len(dataset.train_labels),
        "test_size": len(dataset.test_labels),
    }
    settings = {name: getattr(bench, name) for name in part.reads}
    packages = describe_environment().packages
    plain: dict[str, Any] = json.loads(json.dumps({"data": data, **settings, "packages": packages}))
    return plain


@dataclass(frozen=True, kw_only=True)
class Results:
    """One part's entry in a file that other processes may be adding to.

    Args:
        path: the file; made with the first trial.
        part: what is measured.
        configuration: see above.
        command: the command line that asked for it.
        planned: how many trials were asked for.
    """

    path: Path
    part: Part
    configuration: Mapping[str, Any]
    command: Sequence[str] = ()
    planned: int

    def trials(self) -> dict[int, Trial]:
        """Those in the file by number.

        Raises:
            InputError: the file is none of these results, or its trials were measured otherwise.
        """
        return self._trials(self._read())

    def add(self, number: int, trial: Trial) -> dict[str, Any]:
        """Keep a trial; returns the part's new entry."""
        with _locked(self.path.resolve().parent):
            document = self._read()
            trials = self._trials(document) | {number: plain({"number": number, **trial})}
            document["parts"][self.part.name] = entry = self._entry([trials[key] for key in sorted(trials)])
            with replacing(self.path) as temporary:
                temporary.write_text(_dump(document))
        return entry

    def entry(self) -> dict[str, Any]:
        """The part's entry, concluded from the trials in the file; at least one."""
        trials = self.trials()
        return self._entry([trials[key] for key in sorted(trials)])

    def _entry(self, trials: Sequence[Trial]) -> dict[str, Any]:
        concluded = self.part.conclude(trials)
        return {
            "bar": self.part.bar,
            "complete": len(trials) >= self.planned,
            "met": concluded.met,
            "summary": plain(dict(concluded.summary)),
            "configuration": dict(self.configuration),
            "command": list(self.command),
            "environment": asdict(describe_environment()),
            "trials": list(trials),
        }

    def _trials(self, document: Mapping[str, Any]) -> dict[int, Trial]:
        entry = document["parts"].get(self.part.name)
        if entry is None:
            return {}
        if entry["configuration"] != self.configuration:
            changed = [key for key, value in self.configuration.items() if entry["configuration"].get(key) != value]
            problem = f"its part {self.part.name} was measured with other {', '.join(changed) or 'settings'}"
            raise InputError("out", self.path, problem, "name another file")
        return {trial["number"]: trial for trial in entry["trials"]}

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {"format": FORMAT, "parts": {}}
        try:
            document = json.loads(self.path.read_text())
        except ValueError as error:
            raise InputError("out", self.path, f"it is not JSON ({error})", "name another file") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise InputError("out", self.path, f"its format is not {FORMAT}", "name another file")
        return document


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time in this folder: another part's trials, added between reading and writing, would be lost."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _dump(document: Mapping[str, Any]) -> str:
    """Indented JSON with one line for each trial."""
    trials = {name: entry["trials"] for name, entry in document["parts"].items()}
    parts = {name: {**entry, "trials": f"@{name}@"} for name, entry in document["parts"].items()}
    text = json.dumps({**document, "parts": parts}, indent=1, allow_nan=False)
    for name, rows in trials.items():
        lines = ",\n".join(f"    {json.dumps(row, allow_nan=False)}" for row in rows)
        text = text.replace(f'"@{name}@"', f"[\n{lines}\n   ]")
    return text + "\n"
