"""`parity drill` as a command, and its benchmark."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from parity.cli import cli
from parity.contract import InputError
from parity.data import Dataset
from parity.drill.score import Drilled
from parity.measurements.drill import DRILL
from parity.measurements.part import Bench
from parity.render.drill import left_out_lines, result_lines
from tests.conftest import small_arrays


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("drill") / "small.npz"
    np.savez(path, **small_arrays())
    return str(path)


def drilled(*arguments):
    page = () if "--report" in arguments else ("--no-report",)
    result = CliRunner().invoke(cli, ["drill", *arguments, *page])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_what_is_found_is_listed_and_written(data, tmp_path):
    file = tmp_path / "drill.json"
    chosen = ("--fault", "nesterov", "--fault", "average-pool", "--fault", "nothing", "--side", "both")
    code, output = drilled(*chosen, "--data", data, "--json", str(file))
    assert code == 0
    assert "found   nesterov                      a    step 0, update, conv1.weight" in output
    assert "matches nothing                       b" in output
    assert "detected:                   4 of 4 (100.0 %)" in output
    assert "false alarms:               0 of 2 (0.0 %)" in output
    report = json.loads(file.read_text())
    assert (report["format"], report["exit_code"]) == ("parity.drill/1", 0)
    assert [(each["key"], each["side"]) for each in report["results"]][:2] == [
        ("average-pool", "a"),
        ("average-pool", "b"),
    ]
    assert report["rates"]["detected"] == 4


def test_the_page_says_what_was_found(data, tmp_path):
    file = tmp_path / "drill.html"
    code, output = drilled("--fault", "nesterov", "--fault", "nothing", "--data", data, "--report", str(file))
    assert code == 0
    assert output.splitlines()[-1] == f"wrote {file}: the report as a page"
    assert "The fault planted in torch_impl:eager is found; each at its stage" in file.read_text()


def test_a_drill_that_is_refused_leaves_a_page_that_says_so(data, tmp_path):
    file = tmp_path / "drill.html"
    with pytest.raises(InputError, match="no place"):
        drilled("torch_impl:eager", "--fault", "average-pool", "--data", data, "--report", str(file))
    assert "it has no place in torch_impl:eager" in file.read_text()


def test_a_program_of_one_s_own(tmp_path):
    code, output = drilled("examples.mlp.torch_mlp", "--fault", "ascent", "--fault", "bgr")
    assert code == 0
    assert "examples.mlp.torch_mlp's own" in output
    assert "no place in this program:   1" in output


def test_what_is_left_out_is_listed():
    lines = list(left_out_lines([f"fault-{number}" for number in range(20)]))
    assert lines[0].startswith("left out: fault-0, fault-1")
    assert all(len(line) <= 80 for line in lines)
    assert list(left_out_lines([])) == []


def test_a_fault_without_a_place_is_listed_where_others_were_asked_for_too(data):
    code, output = drilled("torch_impl:eager", "--fault", "ascent", "--fault", "average-pool", "--data", data)
    assert code == 0
    assert "-       average-pool" in output
    assert "no place in this program:   1" in output


def test_an_interrupted_drill_keeps_what_it_has(data, tmp_path, monkeypatch):
    from parity.commands import drill as command

    drill_all = command._results

    def interrupted(*arguments):
        yield next(drill_all(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_results", interrupted)
    file = tmp_path / "drill.json"
    chosen = ("drill", "--fault", "ascent", "--fault", "nesterov", "--no-report", "--json", str(file))
    result = CliRunner().invoke(cli, [*chosen, "--data", data])
    assert result.exit_code != 0
    assert [each["key"] for each in json.loads(file.read_text())["results"]] == ["nesterov"]


def test_a_miss_ends_with_1(data, monkeypatch):
    """Where the catalogue expects it too early, the line says so."""
    import dataclasses

    from parity import drill

    fault = next(fault for fault in drill.CATALOGUE if fault.key == "lr-late")
    monkeypatch.setattr(drill, "CATALOGUE", (dataclasses.replace(fault, first=0),))
    code, output = drilled("--fault", "lr-late", "--data", data)
    assert code == 1
    assert "MOVED   lr-late" in output
    assert "expected: update, step 0" in output
    assert "within the first step:      0 of 1 (0.0 %)" in output


def test_unknown_faults_and_faults_without_a_place_are_refused(data):
    with pytest.raises(InputError, match="fault nesterow: there is no such fault; did you mean nesterov"):
        drilled("--fault", "nesterow")
    with pytest.raises(InputError, match="it has no place in torch_impl:eager"):
        drilled("torch_impl:eager", "--fault", "average-pool", "--data", data)


def result(**changes):
    given = {"key": "k", "title": "t", "group": "catalogue", "side": "a", "expected": "loss, step 0", "line": "v"}
    return Drilled(**{**given, **changes})


def test_lines_of_what_is_not_right():
    missed, expected, _ = result_lines(result())
    assert missed.startswith("MISSED  k")
    assert "expected: loss, step 0" in expected
    alarm, *_ = result_lines(result(group="benign", found=True, at="loss", step=1))
    assert alarm.startswith("ALARM")
    found = result(found=True, stage_right=True, in_time=True, at="loss", step=0, named=False, names=("other",))
    assert list(result_lines(found)) == [f"found   {'k':<30}a    step 0, loss", "        named: [other]"]


def test_the_benchmark_counts_what_is_right(small):
    bench = Bench(dataset=small, device="cpu")
    assert [part.name for part in DRILL] == ["catalogue", "outside", "benign"]
    for part in DRILL:
        trials = [{"number": number, **part.measure(bench, number)} for number in part.quick]
        assert [trial["side"] for trial in trials] == ["a", "b"]
        concluded = part.conclude(trials)
        assert concluded.met
        assert concluded.summary["not_right"] == []
        broken = [{**trial, "found": not trial["found"], "right": False} for trial in trials]
        assert not part.conclude(broken).met


def test_the_benchmark_is_of_the_data_that_it_is_given():
    few = Dataset(name="few", origin="few", **{name: array[:9] for name, array in small_arrays().items()})
    with pytest.raises(InputError, match="few: a drill needs"):
        DRILL[0].measure(Bench(dataset=few, device="cpu"), 0)
