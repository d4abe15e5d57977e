"""`parity bench` as users meet it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.bench.contestants import CHILD
from tests.bench.test_process import alive
from tests.conftest import small_arrays
from tests.test_cli import parity, start

ROOT = Path(__file__).parents[2]

HONEST, FASTER = "tests.bench.contestants:honest", "tests.bench.contestants:faster"
WITH = ("--compare", "old.json", "--with", "new.json")
QUICK = (
    *("--data", "small.npz", "--dtype", "float64", "--batch-sizes", "2", "--rounds", "5", "--round-seconds", "0.02"),
    *("--threads", "1", "--no-reference"),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    np.savez(tmp_path / "small.npz", **small_arrays())
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for tests.bench.contestants
    return tmp_path


def test_a_benchmark_prints_a_table_and_writes_what_was_asked_for(folder):
    code, out, err = parity(folder, "bench", HONEST, *QUICK, "--json", "new.json", "--figures", "figures")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "data: small.npz, 102 + 40 images"
    assert lines[2].startswith("float64, batch 2, cpu: floor ")
    assert lines[3].split()[:3] == ["us/step", "95", "%"]
    assert lines[4].startswith(HONEST)
    assert "limits, measured here:" in lines
    assert max(map(len, lines)) <= 80
    assert json.loads((folder / "new.json").read_text())["command"][:2] == ["parity", "bench"]
    assert {path.name for path in (folder / "figures").iterdir()} == {"throughput.png", "throughput.svg"}
    assert f"{HONEST} alone was timed, at batch 2" in (folder / "report.html").read_text()
    code, out, err = parity(folder, "bench", "--compare", "new.json", "--with", "new.json", "--report", "change.html")
    assert (code, err) == (0, "")
    assert "What has changed" in (folder / "change.html").read_text()
    assert out.splitlines()[1].startswith(f"same    {HONEST}, float64, batch 2: ")
    code, out, _ = parity(folder, "bench", HONEST, *QUICK, "--compare", "new.json")
    assert code == 0
    assert f"{HONEST}, float64, batch 2: " in out


def test_what_computes_something_else_is_exit_code_1(folder):
    code, out, _ = parity(folder, "bench", HONEST, FASTER, *QUICK)
    assert code == 1
    assert f"{FASTER}: differs, not compared: " in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--peers", "nobody"), "--peers nobody: there is no such peer; give some of: tutorial, tutorial-0, eager, "),
        (("--batch-sizes", "4,x"), "--batch-sizes 4,x: it is no list of numbers; give them as 4,32,128"),
        (("--batch-sizes", "0"), "--batch-sizes 0: it is out of range; give sizes from 1 on, with commas between them"),
        (("--dtype", "half"), "--dtype half: it is out of range; give one of: float32, float64"),
        (("--rounds", "4"), "--rounds 4: it is out of range; give 5 or more: fewer have no interval of 95 %"),
        (("--dtype", "tf32"), "--dtype tf32: only a GPU has it; give --device cuda too, or float32"),
        (("--dtype", "tf32", "--device", "cpu"), "--dtype tf32: only a GPU has it; give --device cuda too, or float32"),
        (("--dtype", "tf32", "--device", "cuda", "--scaling"), "--dtype tf32: programs of other widths have no such"),
        (("--with", "new.json"), "--with new.json: there is nothing to compare it with; give --compare too"),
        (("--compare", "none.json"), "--compare none.json: No such file or directory"),
        (("--judge", "--scaling"), "--judge True: --scaling measures something else; give one of them"),
        (("--judge", HONEST), f"names {HONEST}: two sides are judged; name two implementations, or none"),
        (("--peers", "nnx", "--scaling"), "--peers nnx: --scaling does not use it; leave it out"),
        (("--batch-sizes", "4", "--judge"), "--batch-sizes 4: --judge does not use it; leave it out"),
        (("--no-reference", "--judge"), "--reference False: --judge does not use it; leave it out"),
        (("--dtype", "float32", "--dtype", "float64", "--judge"), "--dtype float32, float64: --judge does not use it"),
        (
            ("--dtype", "float32", "--dtype", "float64", "--scaling"),
            "--dtype float32, float64: --scaling measures in one",
        ),
        (("--figures", "f", "--judge"), "--figures f: --judge does not use it; leave it out"),
        ((HONEST, *WITH), f"names {HONEST}: --with does not use it; leave it out"),
        (WITH, "--data small.npz: --with does not use it; leave it out"),
        (("--json", "."), "--json .: it is a folder; name a file"),
    ],
)
def test_bad_input_is_one_line(folder, arguments, line):
    code, out, err = parity(folder, "bench", *arguments, "--data", "small.npz")
    assert (code, out) == (2, "")
    assert err.startswith(f"parity: {line}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_what_contestants_have_started(number, folder, monkeypatch):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("what begins these tests ignores this signal, as nohup does, and so does all that they start")
    monkeypatch.setenv(CHILD, str(folder / "child"))
    running = start(folder, "bench", "tests.bench.contestants:hangs", *QUICK)
    child = int(_soon((folder / "child").read_text))
    running.send_signal(number)
    assert running.wait(timeout=60) == 128 + number
    running.communicate()
    _soon(lambda: "gone" if not alive(child) else "")


def _soon(look):
    """What it sees, once that is something."""
    for _ in range(1200):
        try:
            if found := look():
                return found
        except FileNotFoundError:
            pass
        time.sleep(0.05)
    pytest.fail("nothing happened for a minute")


def test_where_nothing_is_timed_no_figure_is_drawn(folder):
    code, out, err = parity(folder, "bench", "tests.bench.contestants:raises", *QUICK, "--figures", "figures")
    assert (code, err) == (2, "")
    assert out.splitlines()[-2:] == ["no figure: nothing was timed", "wrote report.html: the report as a page"]
    assert not (folder / "figures").exists()


def test_a_batch_larger_than_the_set_is_one_line(folder):
    code, _, err = parity(folder, "bench", HONEST, "--data", "small.npz", "--batch-sizes", "4,1000")
    assert code == 2
    assert err == "parity: --batch-sizes 1000: the training set has 102 images; give 1 to 102\n"


def _without(package, folder, *arguments):
    """A benchmark where a package is not installed."""
    code = (
        "import importlib.util as u; found = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name == '{package}' else found(name, *rest)\n"
        "from parity.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "bench", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_reference_that_is_not_installed_is_a_line(folder):
    arguments = [argument for argument in QUICK if argument != "--no-reference"]
    done = _without("numba", folder, HONEST, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "reference: left out, numba is not installed: pip install '.[bench]'"


def test_bad_input_is_one_line_where_no_reference_is_installed(folder):
    done = _without("numba", folder, "--rounds", "4", "--data", "small.npz")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("parity: --rounds 4: it is out of range")


def test_all_peers_where_none_is_installed(folder):
    done = _without("parity_peers", folder, "--peers", "all", "--data", "small.npz")
    assert done.returncode == 2
    assert "tutorial: left out, parity_peers is not installed: pip install '.[bench]'" in done.stdout
    assert done.stderr == "parity: --peers all: none of them is installed; pip install '.[bench]'\n"
