"""A side that ends the process is an error with exit code 2, whatever way it ends it."""

import os
import signal
import subprocess
import sys
import time

import pytest

WORK = """
import os, signal, sys
from parity.supervise import supervised

def work():
    {body}

sys.exit(supervised(work))
"""


def run(body):
    code = WORK.format(body=body)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_a_result_is_passed_on(code):
    done = run(f"print('said'); return {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, "said\n", "")


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("os._exit(0)", "with exit code 0"),
        ("os._exit(1)", "with exit code 1"),
        ("os.abort()", "by signal 6 (SIGABRT)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "by signal 11 (SIGSEGV)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "by signal 9 (SIGKILL)"),
    ],
)
def test_a_process_that_ends_without_a_result_has_none(body, how):
    done = run(body)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"parity: a side ended the process {how}; there is no result"


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 7), (signal.SIGTERM, 2)])
def test_signals_reach_the_child(number, expected):
    body = "\n    ".join(
        ["import time", "print(os.getpid(), flush=True)", "try: time.sleep(60)", "except KeyboardInterrupt: return 7"]
    )
    with subprocess.Popen(
        [sys.executable, "-c", WORK.format(body=body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5)  # for the try to begin
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode == expected


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
def test_the_child_dies_with_its_parent():
    body = "\n    ".join(["import time", "print(os.getpid(), flush=True)", "time.sleep(60)"])
    with subprocess.Popen([sys.executable, "-c", WORK.format(body=body)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail(f"process {child} is still there")
