"""A contestant's process ends in many ways; each is a reason in one line, and nothing of it is left."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from parity.bench.contender import shared
from parity.bench.process import ContestantError, Process, thread_settings, with_memory
from parity.contract import SGD, initial_weights
from tests.bench.contestants import CHILD, LATE

LONG = 60.0
PLAN = np.zeros((1, 1), np.int32)


def started(process, small):
    process.ask("open", timeout=LONG)
    how = {"weights": initial_weights(0), "sgd": SGD(), "dtype": "float64", "device": "cpu"}
    with shared(small.train_images, small.train_labels) as files:
        process.ask("start", timeout=LONG, files=files, **how)


def reason(name, small, timeout=LONG):
    with Process(f"tests.bench.contestants:{name}", threads=1) as process:
        started(process, small)
        with pytest.raises(ContestantError) as caught:
            process.ask("run", timeout=timeout, plan=PLAN)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("crashes", "it ended with exit code 3: a last word"),
        ("killed", "it was killed (SIGKILL), as the system does where there is too little memory"),
        ("raises", "run() raised RuntimeError: its own fault"),
        ("leaves", "run() raised SystemExit: 0"),
        ("too_large", "too little memory: run() raised MemoryError: for 1 images"),
    ],
)
def test_each_ending_is_a_line(name, line, small):
    assert reason(name, small) == line


@pytest.mark.parametrize(
    "reason",
    [
        "it ended by signal 6 (SIGABRT): terminate called after throwing an instance of 'std::bad_alloc'",
        "run() raised RuntimeError: bad allocation",
        "run() raised RuntimeError: [enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: not enough memory",
        "run() raised RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "run() raised RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "run() raised OutOfMemoryError: CUDA out of memory.",
        "run() raised XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes.",
    ],
)
def test_a_lack_of_memory_is_known_by_its_words(reason):
    assert with_memory(reason) == f"too little memory: {reason}"


@pytest.mark.parametrize("reason", ["it ended by signal 11 (SIGSEGV)", "run() raised RuntimeError: allocated twice"])
def test_another_fault_is_no_lack_of_memory(reason):
    assert with_memory(reason) == reason


def test_a_signal_is_named(small):
    with Process("tests.bench.contestants:crashes_later", threads=1) as process:
        started(process, small)
        for _ in range(3):
            process.ask("run", timeout=LONG, plan=PLAN)
        with pytest.raises(ContestantError, match=r"it ended by signal 11 \(SIGSEGV\)"):
            process.ask("run", timeout=LONG, plan=PLAN)
        with pytest.raises(ContestantError, match="signal 11"):  # and again, for whoever asks again
            process.ask("run", timeout=LONG, plan=PLAN)


def test_what_hangs_is_ended_with_all_that_it_has_started(small, tmp_path, monkeypatch):
    monkeypatch.setenv(CHILD, str(tmp_path / "child"))
    assert reason("hangs", small, timeout=2.0) == "no answer within 2 s"
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not alive(child):
            return
        time.sleep(0.05)
    pytest.fail(f"process {child} is still there")


def alive(number):
    """A zombie, which nobody has waited for yet, is not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("needs_more", "No module named 'a_framework_that_nobody_has'"),
        ("tests.bench.contestants:nobody", "has no attribute 'nobody'"),
        ("tests.bench.contestants:incomplete", "has no method 'describe'; see parity.contract.Contestant"),
        ("tests.bench.contestants:Plain", "is a class"),
    ],
)
def test_what_is_no_contestant_says_so(name, part, tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import a_framework_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    with Process(name, threads=1) as process, pytest.raises(ContestantError) as caught:
        process.ask("open", timeout=LONG)
    assert part in str(caught.value)


def test_own_programs_are_refused_where_the_cnn_is_trained(small):
    name = "examples.mlp.torch_mlp"
    with Process(name, threads=1) as process, pytest.raises(ContestantError, match="brings its own weights"):
        started(process, small)


def test_threads_are_given_and_cores_taken_but_no_memory():
    assert set(thread_settings(3).values()) == {"3"}
    with Process("tests.bench.test_process:surroundings", threads=1) as process:
        assert process.ask("measure", timeout=LONG) == (1, "1", "false")


def test_cores_are_taken_before_numpy_is_imported():
    """A BLAS counts the cores that it may use when it is loaded."""
    code = (
        "import sys; sys.argv[1:] = ['nobody', '0', '1']\n"
        "import parity.bench.worker as worker\n"
        "class Pinned(Exception): pass\n"
        "def pin(threads): raise Pinned(sorted(sys.modules))\n"
        "worker.die_with_parent, worker.pin = lambda: None, pin\n"
        "try: worker.main()\n"
        "except Pinned as pinned: print(*pinned.args[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "parity.bench.worker" in done.stdout.split()
    assert "numpy" not in done.stdout.split()


def test_memory_is_the_processes_own():
    """Not that of the process which started it, which holds 400 MB here."""
    held = np.ones(400_000_000, np.uint8)
    with Process("parity.bench.contender:peak_host_bytes", threads=1) as process:
        found = process.ask("measure", timeout=LONG)
    assert held[-1] == 1
    assert 1e7 < found < 3e8


def test_a_contestants_peak_holds_no_copy_of_the_data_but_its_own():
    """Of 200 MB of images, of which the contestant keeps those that it looks at."""
    images, peaks = np.ones((200_000, 1000), np.uint8), []
    for name in ("frugal", "greedy"):
        with Process(f"tests.bench.contestants:{name}", threads=1) as process:
            how = {"weights": initial_weights(0), "sgd": SGD(), "dtype": "float64", "device": "cpu"}
            process.ask("open", timeout=LONG)
            with shared(images) as files:
                process.ask("start", timeout=LONG, files=files, **how)
            peaks.append(process.ask("memory", timeout=LONG).host)
    frugal, greedy = peaks
    assert frugal < 150e6
    assert 150e6 < greedy - frugal < 410e6  # its copy, and the pages of the file that it was copied from


def surroundings():
    variables = ("OMP_NUM_THREADS", "XLA_PYTHON_CLIENT_PREALLOCATE")
    return len(os.sched_getaffinity(0)), *map(os.environ.get, variables)


def test_an_answer_that_cannot_be_read_here_is_a_line():
    with Process("tests.bench.test_process:Unreadable", threads=1) as process:
        with pytest.raises(ContestantError, match=r"what measure\(\) returned cannot be read here \(LookupError: not"):
            process.ask("measure", timeout=LONG)
        with pytest.raises(ContestantError, match="raised KeyError"):  # and the next answer is the next one's
            process.ask("measure", timeout=LONG, missing=True)


class Unreadable:
    def __init__(self, *, missing=False):
        if missing:
            raise KeyError("missing")

    def __reduce__(self):
        return refuse, ()


def refuse():
    raise LookupError("not\nhere")


def test_a_loaders_workers_are_seen(small):
    for name, fed in (("fed", True), ("honest", False)):
        with Process(f"tests.bench.contestants:{name}", threads=1) as process:
            started(process, small)
            process.ask("run", timeout=LONG, plan=PLAN)
            assert process.ask("is_fed", timeout=LONG) is fed


def test_losses_are_waited_for_within_the_time(small):
    with Process("tests.bench.contestants:late", threads=1) as process:
        started(process, small)
        assert process.ask("run", timeout=LONG, plan=PLAN).seconds >= LATE


def test_a_subclass_of_an_array_is_sent_as_an_array(small):
    """Its class is known in the contestant's process alone."""
    with Process("tests.bench.contestants:own_class", threads=1) as process:
        started(process, small)
        process.ask("run", timeout=LONG, plan=PLAN)
        assert {type(value) for value in process.ask("weights", timeout=LONG).values()} == {np.ndarray}


def test_runs_are_timed_from_the_same_state(small):
    with Process("tests.bench.contestants:on_gpu", threads=1) as process:
        started(process, small)
        plan = np.array([[0, 1], [2, 3]], np.int32)
        first, second = (process.ask("run", timeout=LONG, plan=plan) for _ in range(2))
        memory = process.ask("memory", timeout=LONG)
        assert process.ask("describe", timeout=LONG) == "the oracle, for tests"
    np.testing.assert_array_equal(first.losses, second.losses)
    assert first.seconds > 0
    assert 1e6 < memory.host < 1e9
    assert memory.device == 12345
