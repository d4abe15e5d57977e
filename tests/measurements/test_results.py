"""The file of results: it grows by trials, survives a kill, and does not mix what does not belong together."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from parity.contract import InputError
from parity.measurements.calibration import measure_part, results_of
from parity.measurements.part import Bench, Conclusion, Part

ROOT = Path(__file__).parents[2]


def part(measure, name="counted"):
    def conclude(trials):
        return Conclusion(met=all(trial["value"] < 100 for trial in trials), summary={"trials": len(trials)})

    return Part(name=name, bar="below 100", count=4, quick=(0,), reads=("steps",), measure=measure, conclude=conclude)


def squares(_bench, number):
    return {"value": number**2}


@pytest.fixture
def bench(small):
    return Bench(dataset=small, steps=3)


def test_the_file_holds_everything_that_is_needed_to_read_it(bench, tmp_path):
    out = tmp_path / "out.json"
    entry = measure_part(part(squares), bench, range(4), out, command=("python", "-m", "parity.measurements"))
    document = json.loads(out.read_text())
    assert document == {"format": "parity.calibration/1", "parts": {"counted": entry}}
    assert entry["trials"] == [{"number": n, "value": n**2} for n in range(4)]
    assert entry["met"] is entry["complete"] is True
    assert entry["command"] == ["python", "-m", "parity.measurements"]
    assert entry["environment"]["packages"]["numpy"]
    assert entry["configuration"]["steps"] == 3
    assert entry["configuration"]["data"]["sha256"] == bench.dataset.fingerprint()
    assert out.read_text().count("\n    {") == 4  # a line for each trial


def test_a_missed_bar_and_an_unfinished_part_say_so(bench, tmp_path):
    entry = measure_part(part(squares), bench, [2, 10], tmp_path / "out.json")
    assert entry["met"] is False

    def stopped(bench, number):
        if number == 2:
            raise KeyboardInterrupt
        return squares(bench, number)

    with pytest.raises(KeyboardInterrupt):
        measure_part(part(stopped), bench, range(4), tmp_path / "other.json")
    assert json.loads((tmp_path / "other.json").read_text())["parts"]["counted"]["complete"] is False


def test_trials_that_are_there_are_not_repeated(bench, tmp_path):
    out, measured = tmp_path / "out.json", []

    def counted(bench, number):
        measured.append(number)
        return squares(bench, number)

    measure_part(part(counted), bench, [0, 3], out)
    entry = measure_part(part(counted), bench, range(4), out)
    assert measured == [0, 3, 1, 2]
    assert [trial["number"] for trial in entry["trials"]] == [0, 1, 2, 3]
    assert measure_part(part(counted), bench, range(4), out)["trials"] == entry["trials"]
    assert len(measured) == 4


def test_parts_measured_beside_each_other_share_a_file(bench, tmp_path):
    out = tmp_path / "out.json"
    measure_part(part(squares, "first"), bench, [0], out)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: measure_part(part(squares), bench, [number], out), range(24)))
    parts = json.loads(out.read_text())["parts"]
    assert [trial["number"] for trial in parts["counted"]["trials"]] == list(range(24))
    assert len(parts["first"]["trials"]) == 1


def test_numbers_that_json_has_not_are_kept_as_words(bench, tmp_path):
    def infinite(_bench, _number):
        return {"value": 1, "gap": float("inf"), "list": [float("nan")]}

    entry = measure_part(part(infinite), bench, [0], tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["parts"]["counted"] == entry
    assert entry["trials"][0] == {"number": 0, "value": 1, "gap": "inf", "list": ["nan"]}


def test_trials_of_other_settings_are_refused(bench, small, tmp_path):
    out = tmp_path / "out.json"
    measure_part(part(squares), bench, [0], out)
    with pytest.raises(InputError, match=r"out .*: its part counted was measured with other steps"):
        measure_part(part(squares), Bench(dataset=small, steps=4), [0], out)
    measure_part(part(squares), Bench(dataset=small, steps=3, epochs=7), [1], out)  # which the part does not read


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "it is not JSON"), ("[]", "its format is not"), ('{"format": "x/1"}', "its format is not")],
)
def test_another_file_is_refused_and_left_alone(text, problem, bench, tmp_path):
    out = tmp_path / "out.json"
    out.write_text(text)
    with pytest.raises(InputError, match=problem):
        results_of(part(squares), bench, out).trials()
    assert out.read_text() == text


def command(data, out, *arguments):
    sides = ["--sides", "torch_impl:eager", "parity.oracle", "--part", "float64-long"]
    return [
        sys.executable,
        "-m",
        "parity.measurements",
        "calibration",
        "--data",
        data,
        "--out",
        out,
        *sides,
        *arguments,
    ]


def bench_command(*arguments, **keywords):
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False, **keywords)


def test_a_killed_command_goes_on_where_it_stood(small_npz, tmp_path):
    out = tmp_path / "out.json"
    arguments = (str(small_npz), str(out), "--seeds", "3", "--epochs", "4")
    process = subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not out.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = json.loads(out.read_text())["parts"]["float64-long"]
    assert 1 <= len(kept["trials"]) < 3
    done = bench_command(*arguments)
    assert done.returncode == 0, done.stderr
    entry = json.loads(out.read_text())["parts"]["float64-long"]
    assert entry["trials"][: len(kept["trials"])] == kept["trials"]
    assert [trial["seed"] for trial in entry["trials"]] == [0, 1, 2]
    assert (entry["complete"], entry["met"], entry["summary"]["steps"]) == (True, True, 104)
    assert "float64-long: met" in done.stdout


def test_exit_codes(small_npz, tmp_path):
    data = str(small_npz)
    faulty = ("--sides", "tests.measurements.sides:other_lr", "parity.oracle", "--steps", "5", "--seeds", "1")
    done = bench_command(data, str(tmp_path / "out.json"), *faulty)
    assert done.returncode == 1, done.stderr
    assert "float64-long: NOT MET" in done.stdout
    for arguments, problem in (
        ((data, str(tmp_path / "missing" / "out.json")), "--out"),
        (("missing.npz", str(tmp_path / "new.json")), "--data missing.npz"),
        ((data, str(tmp_path / "new.json"), "--seeds", "0"), "--seeds"),
    ):
        done = bench_command(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("parity.measurements: ")
        assert problem in done.stderr
        assert done.stderr.count("\n") == 1
