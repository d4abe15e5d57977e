"""Runs a page: its files are written, its Python goes to one session, its commands to bash, all in one folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.docs.pages import Block, blocks, commands, is_as_shown

__all__ = ["Ran", "run_page"]

ROOT = Path(__file__).parents[2]

GO_ON = """
parity_docs_run() {
    printf '\\036%s\\036' "$1"
    (exit "$parity_docs_status")
    eval "$1"
    parity_docs_status=$?
    printf '\\036%s\\036' "$parity_docs_status"
}
parity_docs_status=0
"""
"""Runs one command of a block in the block's shell, so that `cd`, variables and $? hold; ASCII's separators around."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A block's Python or one of its commands: what the page shows and what was printed, and whether it may be so."""

    block: Block
    source: str
    shown: str
    printed: str
    passed: bool

    @property
    def as_shown(self) -> bool:
        """Whether it printed what the page shows."""
        return is_as_shown(self.block, self.shown, self.printed)


def run_page(text: str, folder: Path, *, leave_out: Callable[[Block], bool] = lambda _: False) -> Iterator[Ran]:
    """Run the page's blocks in order, in this folder, but for those that are left out."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # The installed package may be another checkout's.
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "GITHUB_STEP_SUMMARY": str(folder / "step-summary.md"),
        "MPLBACKEND": "agg",
        "COLUMNS": "80",
    }
    with _Session(folder, environment) as session:
        for block in blocks(text):
            if leave_out(block):
                continue
            if block.caption:
                _write(folder / block.caption, block.text)
            if block.language == "python" and not block.caption:
                yield session.run(block)
            elif block.language == "console":
                yield from _run_commands(block, folder, environment)
            elif block.language == "yaml":
                yield from _run_workflow(block, folder, environment)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class _Session:
    """The page's Python, started when its first block comes."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()

    def run(self, block: Block) -> Ran:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("session.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self._folder,
                env=self._environment,
            )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"source": block.text, "name": f"line {block.line}"}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Ran(block=block, source=block.text, shown=block.output, **answer)


def _run_commands(block: Block, folder: Path, environment: dict[str, str]) -> Iterator[Ran]:
    """Each command of a block; one may fail only if the next is "echo $?", which shows that it does."""
    given = commands(block)
    script = GO_ON + "".join(f"parity_docs_run {_quoted(one.command)}\n" for one in given)
    done = _bash(script, folder, environment)
    pieces = done.split("\036")[1:]
    followers = [*(one.command for one in given[1:]), ""]
    for number, (one, follower) in enumerate(zip(given, followers, strict=True)):
        printed, status = pieces[4 * number + 1 : 4 * number + 3]
        passed = status == "0" or follower == "echo $?"
        yield Ran(block=block, source=one.command, shown=one.output, printed=printed, passed=passed)


def _run_workflow(block: Block, folder: Path, environment: dict[str, str]) -> Iterator[Ran]:
    """The steps of a GitHub workflow that run something; what they install is there already."""
    for job in yaml.safe_load(block.text)["jobs"].values():
        for step in job["steps"]:
            if "run" in step and not step["run"].startswith("pip install "):
                done = _bash(f"set -e\n{step['run']}\nprintf '\\036'", folder, environment)
                yield Ran(block=block, source=step["run"], shown="...", printed=done, passed=done.endswith("\036"))


def _bash(script: str, folder: Path, environment: dict[str, str]) -> str:
    return subprocess.run(
        ["bash", "-c", f"exec 2>&1\n{script}"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
    ).stdout


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"
