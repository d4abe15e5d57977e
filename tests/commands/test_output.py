"""Where output goes: pipes, files and terminals of their own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import tempfile
import termios

import numpy as np
import pytest

from tests.conftest import small_arrays
from tests.test_cli import FAKES, PARITY, RUN, parity

NOISY = """
import os
from fakes import Fake

class Noisy(Fake):
    def run(self, state, data, plan):
        print("from Python")
        os.write(1, b"from native code\\n")
        return super().run(state, data, plan)

impl = Noisy()
"""


@pytest.fixture
def folder(tmp_path):
    shutil.copy(FAKES, tmp_path)
    (tmp_path / "noisy.py").write_text(NOISY)
    np.savez(tmp_path / "small.npz", **small_arrays())
    return tmp_path


def on_terminal(folder, *arguments, piped=False, **environment):
    """Exit code, what a terminal of 80 columns shows, and what a file for standard output receives."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    # A variable that is empty stands for one that is not set: https://no-color.org
    plain = {"NO_COLOR": "", "FORCE_COLOR": "", "TERM": "xterm", "COLUMNS": "80"}
    # A file, not a pipe: what fills a pipe that nobody reads yet would wait for ever.
    with tempfile.TemporaryFile() as file:
        process = subprocess.Popen(
            [PARITY, *arguments],
            cwd=folder,
            stdin=theirs,
            stdout=file if piped else theirs,
            stderr=theirs,
            env=os.environ | plain | environment,
        )
        os.close(theirs)
        shown = b""
        try:
            while block := os.read(ours, 65536):
                shown += block
        except OSError:  # Linux says so when the other end is closed
            pass
        os.close(ours)
        code = process.wait()
        file.seek(0)
        return code, shown.decode(), file.read().decode()


BAR = "training, float32"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_a_terminal_shows_a_bar_for_each_side(folder):
    code, shown, _ = on_terminal(folder, *RUN, "--epochs", "40")
    assert code == 0
    frames = ESCAPE.sub("", shown)
    for side in ("fakes:honest#1", "fakes:honest#2"):
        assert re.search(rf"{side} .*/1,040 +[\d,.]+ steps/s +\d+:\d\d left", frames)
    assert re.search(rf"{BAR} .*/1,040 +[\d,.]+ steps/s +\d+:\d\d left", frames)
    assert "\x1b[?25l" not in shown, "the cursor stays: a side may end the process while it is hidden"
    # What is printed stands by itself; the last picture of the bars is wiped away.
    assert re.search(r"[\r\n]\[1, +\d+\] loss: ", frames)
    assert max(len(line) for line in re.split(r"[\r\n]", frames)) <= 80


def test_bars_never_reach_a_pipe(folder):
    code, shown, received = on_terminal(folder, *RUN, "--epochs", "40", piped=True)
    assert code == 0
    assert BAR in shown
    assert BAR not in received
    assert "\x1b" not in received
    *_, verdict, page = received.splitlines()
    assert verdict.startswith("verdict: match: ")
    assert page == "wrote report.html: the report as a page"


@pytest.mark.parametrize(("option", "environment"), [(["--quiet"], {}), ([], {"TERM": "dumb"})])
def test_no_bars_where_they_are_not_wanted(folder, option, environment):
    code, shown, _ = on_terminal(folder, *RUN, "--epochs", "40", *option, **environment)
    assert code == 0
    assert BAR not in shown
    assert "\x1b[2K" not in shown


def test_a_recording_and_a_check_have_bars(folder):
    run = ("--data", "small.npz", "--epochs", "40", "--dtype", "float64", "--out", "trace")
    assert re.search(r"recording .*/1,040", ESCAPE.sub("", on_terminal(folder, "record", "parity.oracle", *run)[1]))
    check = on_terminal(folder, "check", "parity.oracle", "parity.oracle", "--data", "small.npz")[1]
    assert re.search(r"steps in float64 .*\d/6", ESCAPE.sub("", check))


GREEN = "\x1b[32m\x1b[1mverdict: match\x1b[0m"


def test_colours(folder):
    assert GREEN in on_terminal(folder, *RUN, "-q")[1]
    assert "\x1b" not in on_terminal(folder, *RUN, "-q", NO_COLOR="1")[1]
    piped = on_terminal(folder, *RUN, "-q", piped=True, FORCE_COLOR="1")[2]
    assert piped.startswith(GREEN)
    different = on_terminal(folder, "run", "fakes", "fakes:wrong_lr", "--data", "small.npz", "-q")
    assert (different[0], different[1].startswith("\x1b[31m")) == (1, True)


def test_quiet_leaves_the_verdict_alone(folder):
    code, out, err = parity(folder, *RUN, "--quiet")
    assert (code, err) == (0, "")
    assert out == "verdict: match: same formula in float64, inside its own envelope in float32 (all steps)\n"
    check = ("check", "parity.oracle", "parity.oracle", "--data", "small.npz")
    code, out, err = parity(folder, *check, "--quiet", "--json", "c.json")
    assert (code, err, len(out.splitlines())) == (0, "", 1)
    assert out.startswith("verdict: match")
    code, out, err = parity(folder, *RUN, "--quiet", "--data", "none.npz")
    assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_json_alone_on_standard_output(folder):
    code, out, err = parity(folder, "run", "noisy", "fakes", "--data", "small.npz", "--json", "-")
    assert code == 0
    assert json.loads(out)["ending"]["exit_code"] == 0
    assert "from Python" in err
    assert "from native code" in err
    assert "verdict: match" in err


@pytest.mark.parametrize(
    "command",
    [
        ("check", "parity.oracle", "parity.oracle", "--data", "small.npz"),
        ("drill", "parity.oracle", "--fault", "ascent", "--data", "small.npz"),
    ],
)
def test_every_report_can_have_standard_output(folder, command):
    code, out, err = parity(folder, *command, "--json", "-", "--quiet")
    assert code == 0
    assert json.loads(out)["exit_code"] == 0
    assert len(err.splitlines()) == 1
    assert err.startswith("verdict: ")


def test_only_one_report_can_have_standard_output(folder):
    code, out, err = parity(folder, *RUN, "--json", "-", "--summary", "-")
    assert (code, out) == (2, "")
    assert err == "parity: --summary -: --json has standard output to itself; name a file for one of them\n"


def test_a_refusal_leaves_standard_output_empty(folder):
    code, out, err = parity(folder, *RUN, "--json", "-", "--lr", "-1")
    assert (code, out) == (2, "")
    assert "--lr -1.0" in err


def test_summaries(folder):
    """A file is replaced; what GitHub has named is added to, since other commands of the step write there too."""
    step = folder / "step.md"
    step.write_text("before\n")
    environment = os.environ | {"GITHUB_STEP_SUMMARY": str(step)}
    for name in ("step.md", "own.md", "own.md"):
        command = [PARITY, *RUN, "--steps", "5", "--summary", name]
        assert subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode == 0
    assert step.read_text().startswith("before\n### parity run: `fakes:honest#1` and `fakes:honest#2`\n\n**match**: ")
    assert (folder / "own.md").read_text().count("### parity run") == 1
    code, out, _ = parity(folder, "run", "fakes", "fakes:wrong_lr", "--data", "small.npz", "--summary", "-")
    assert code == 1
    assert out.startswith("### parity run: `fakes` and `fakes:wrong_lr`\n\n**differs in formula at step 0, update, ")
