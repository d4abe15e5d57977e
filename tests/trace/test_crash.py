"""Whatever ends a recording, what was complete by then can be read and compared."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from parity import oracle
from parity.contract import ParityError
from parity.settings import Settings, Side
from parity.trace import Manifest, compare_traces, read_gradients, read_trace, record
from parity.trace.stages import read_stages
from parity.trace.writer import CHUNK
from tests.trace.fakes import DISK_FULL_AT, interrupted

ROOT = Path(__file__).parents[2]
ENDLESS = 100_000  # epochs: more than any test waits for


def start(images, folder, implementation="impl"):
    command = ["-m", "parity", "record", f"tests.trace.fakes:{implementation}", "--data", str(images)]
    options = ["--epochs", str(ENDLESS), "--dtype", "float64", "--out", str(folder)]
    # Unmeasured: coverage writes a file of its own at the end, which the test of the full disk would refuse as well.
    measured = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
    kept = {name: value for name, value in os.environ.items() if name not in measured}
    environment = kept | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *command, *options], cwd=ROOT, env=environment, **pipes)


def wait_for_chunks(process, folder, count):
    deadline = time.monotonic() + 60
    while len(list(folder.glob("steps-*"))) < count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "the recording does not get on"
        time.sleep(0.01)


def killed(images, folder, chunks):
    with start(images, folder) as process:
        wait_for_chunks(process, folder, chunks)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    return read_trace(folder)


def test_a_killed_recording_is_readable_as_far_as_it_got(small_npz, tmp_path):
    a, b = (killed(small_npz, tmp_path / name, chunks) for name, chunks in (("a", 3), ("b", 5)))
    for trace, chunks in ((a, 2), (b, 4)):  # the last chunk may have been written, and not yet named in the manifest
        assert (trace.manifest.complete, trace.manifest.ending) == (False, "recording")
        assert trace.manifest.steps >= chunks * CHUNK
        assert trace.manifest.steps % CHUNK == 0
    found = compare_traces(a, b)
    common = min(a.manifest.steps, b.manifest.steps)
    assert (found.outcome, found.steps, found.recorded) == ("match", common, common)
    assert [(side.steps < side.planned) for side in found.sides] == [True, True]


def test_killed_at_any_moment_it_leaves_no_half_file_under_a_final_name(small_npz, tmp_path):
    for number, delay in enumerate((0.0, 0.013, 0.031)):
        folder = tmp_path / str(number)
        with start(small_npz, folder) as process:
            wait_for_chunks(process, folder, 1)
            time.sleep(delay)
            process.kill()
        named = {chunk.file for chunk in Manifest.read(folder).chunks}
        assert named <= {path.name for path in folder.iterdir()}
        if named:
            assert read_trace(folder).manifest.steps == len(named) * CHUNK


def test_a_full_disk_is_one_line_and_keeps_the_chunks_before(small_npz, tmp_path):
    """The limit of the process' file size stands for the disk: the kernel refuses the write, as it would there."""
    folder = tmp_path / "trace"
    with start(small_npz, folder, "fills_disk") as process:
        _, err = process.communicate(timeout=60)
    kept = DISK_FULL_AT // CHUNK * CHUNK
    assert process.returncode == 2
    line = f"steps-{kept:08d}-{kept + CHUNK - 1:08d}.safetensors cannot be written (File too large)"
    expected = f"parity: --out {folder}: {line}; the trace ends after {kept} steps; free space, or record elsewhere\n"
    assert err == expected
    trace = read_trace(folder)
    assert (trace.manifest.steps, trace.manifest.complete) == (kept, False)
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        *(chunk.file for chunk in trace.manifest.chunks),
    ]


def test_ctrl_c_keeps_every_step(small, tmp_path):
    """interrupted sends itself the signal that Ctrl-C sends, inside step 300."""
    recording = record(
        Side(name="x", implementation=interrupted), small, Settings(epochs=50, dtype="float64"), tmp_path / "trace"
    )
    assert recording.exit_code == 130
    assert (recording.manifest.ending, recording.manifest.complete) == ("interrupted", False)
    trace = read_trace(tmp_path / "trace")
    assert (len(trace.losses), len(trace.counts)) == (300, 300)


class BreaksObserving:
    """The oracle whose third observed step is not finished."""

    def __init__(self, error):
        self.error = error

    def __getattr__(self, name):
        return getattr(oracle.impl, name)

    def observe(self, state, data, rows):
        if state.steps == 2:
            raise self.error
        return oracle.impl.observe(state, data, rows)


def observed(folder, dataset, error):
    side = Side(name="x", implementation=BreaksObserving(error))
    return record(side, dataset, Settings(steps=4, epochs=10, dtype="float64"), folder, gradients=4)


def test_a_side_that_breaks_while_it_is_observed_leaves_nothing(small, tmp_path):
    with pytest.raises(ParityError, match="no such kernel"):
        observed(tmp_path / "trace", small, RuntimeError("no such kernel"))
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_steps_are_observed_keeps_those_that_were(small, tmp_path):
    recording = observed(tmp_path / "trace", small, KeyboardInterrupt())
    assert recording.exit_code == 130
    assert (recording.manifest.ending, recording.manifest.steps) == ("interrupted", 0)
    assert len(read_stages(tmp_path / "trace")[1]) == 2
    assert len(read_gradients(tmp_path / "trace")[1]) == 2
