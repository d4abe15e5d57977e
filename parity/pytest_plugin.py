"""A pytest plugin that keeps what every `assert_parity` finds.

The verdict, and where and why two programs part, become properties of the test, and so part of `--junitxml`. The whole
report is written with --parity-report DIR, or `parity_report` in the ini.

It is loaded whenever pytest starts where parity is installed, so it imports nothing that takes time.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from parity.artifacts import listening

if TYPE_CHECKING:
    from parity.result import CheckReport

__all__ = [
    "ReportKeeper",
    "VerdictRecorder",
    "pytest_addoption",
    "pytest_configure",
    "report_name",
    "verdict_properties",
]

PROPERTY = "parity_report"
"""Under this name a test's properties, and so JUnit's XML, name its report; pytest-xdist carries them home."""

PREFIX = "parity_"
"""Of the other properties' names: parity_verdict, parity_step, ...; of a test's second report parity_verdict_2, ..."""

LONGEST = 100  # characters of a test's name that a file name keeps: file systems allow 255 bytes


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the ini key."""
    about = "write the report of each assert_parity into this folder, as JSON"
    parser.getgroup("parity").addoption("--parity-report", metavar="DIR", help=about)
    parser.addini("parity_report", about)


def pytest_configure(config: pytest.Config) -> None:
    """Record verdicts; keep reports, if a folder is given; one in the ini is relative to the ini file."""
    config.pluginmanager.register(VerdictRecorder(), "parity-verdict-recorder")
    given = config.getoption("--parity-report")
    from_ini = config.getini("parity_report")
    if given or from_ini:
        folder = config.invocation_params.dir / given if given else config.rootpath / from_ini
        config.pluginmanager.register(ReportKeeper(folder), "parity-report-keeper")


class VerdictRecorder:
    """Writes the verdict of each report into the properties of the test that made it."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Around a test with its fixtures."""
        numbers = itertools.count(1)

        def record(report: CheckReport) -> None:
            number = next(numbers)
            suffix = f"_{number}" if number > 1 else ""
            found = verdict_properties(report)
            item.user_properties.extend((f"{PREFIX}{name}{suffix}", value) for name, value in found.items())

        with listening(record):
            return (yield)


def verdict_properties(report: CheckReport) -> dict[str, str]:
    """The verdict as names and texts: "verdict", and where two programs part "step", "stage", "tensor" and "cause".

    What is not known is left out: the step of a difference that all steps show alike, for example.
    """
    check = report.check
    found = {"verdict": check.finding.line if check.finding else check.line}
    if check.finding:
        found |= {"step": str(check.finding.step)} if check.finding.step is not None else {}
        found |= {"stage": check.finding.place.stage, "tensor": check.finding.place.tensor}
    if check.explanation:
        found["cause"] = check.explanation.line
    return found


class ReportKeeper:
    """Writes the reports of each test, passed or failed, and lists them at the end.

    Args:
        folder: made when there is something to write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: dict[str, None] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Around a test with its fixtures."""
        count = 0

        def keep(report: CheckReport) -> None:
            nonlocal count
            count += 1
            item.user_properties.append((PROPERTY, str(self._write(report_name(item.nodeid, count), report))))

        with listening(keep):
            return (yield)

    def _write(self, name: str, report: CheckReport) -> Path:
        from parity.result import write_json  # who made a report has imported it already

        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        write_json(path, report)
        return path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the names; here also those of other processes."""
        self.written |= {str(value): None for name, value in report.user_properties if name == PROPERTY}

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List what was written."""
        if self.written:
            terminalreporter.section("parity reports")
            for path in self.written:
                terminalreporter.line(path)


def report_name(test: str, number: int) -> str:
    """A file name for a test's report that every file system takes, and that no other test has.

    Args:
        test: pytest's node id.
        number: of the test's reports, counted from 1.

    >>> report_name("tests/test_port.py::test_match[float64/batch 4]", 1)
    'tests-test_port.py-test_match-float64-batch-4-8f1933f0.json'
    """
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", test).strip("-.")[-LONGEST:]
    digest = hashlib.sha256(test.encode()).hexdigest()[:8]
    return f"{readable}-{digest}{f'-{number}' if number > 1 else ''}.json"
