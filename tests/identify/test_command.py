"""`parity identify` and `parity record --gradients` as a user runs them."""

import json
import shutil

import numpy as np
import pytest

import parity.cli
from parity.cli import cli
from parity.contract import InputError
from parity.identify import save_run
from parity.trace import read_gradients, read_trace
from tests.identify.test_identify import run_of, sgd


def run(*arguments):
    with pytest.raises(SystemExit) as ending:
        cli.main([str(argument) for argument in arguments], standalone_mode=False)
    return ending.value.code


def test_a_file(tmp_path, capsys):
    path, report = tmp_path / "run.npz", tmp_path / "report.json"
    save_run(path, *run_of(sgd(), lambda update: 0.02 * 0.5 ** (update // 8)))
    assert run("identify", path, "--json", report) == 0
    printed = capsys.readouterr().out
    assert "rule: SGD with momentum\n" in printed
    assert "    b = momentum b + g\n    p = p - lr b\n" in printed
    assert "torch: optimizer = torch.optim.SGD(params.values(), lr=0.02" in printed
    document = json.loads(report.read_text())
    assert (document["format"], document["rule"]) == ("parity.identification/1", "SGD with momentum")


def refused(capsys, monkeypatch, *arguments):
    """The one line that the command leaves."""
    monkeypatch.setattr("sys.argv", ["parity", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        parity.cli._command()
    assert ending.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_line_names_no_option_that_identify_does_not_have(tmp_path, capsys, monkeypatch):
    path = tmp_path / "run.npz"
    states, gradients = run_of(sgd(), steps=8)
    save_run(path, states[:4], gradients[:3])
    # `parity record` has --gradients, and `parity run` has --steps.
    assert refused(capsys, monkeypatch, "identify", path).startswith("parity: gradients of 3 steps: ")
    save_run(tmp_path / "long.npz", states, gradients)
    arrays = dict(np.load(tmp_path / "long.npz")) | {"steps": np.array([0, 1, 2, 4, 5, 6, 7, 8])}
    np.savez(path, **arrays)
    assert refused(capsys, monkeypatch, "identify", path).startswith("parity: steps 2, 4: ")
    assert refused(capsys, monkeypatch, "identify", tmp_path / "long.npz", "--dtype", "x").startswith(
        "parity: --dtype x: "
    )


def test_the_command_that_runs_is_found_behind_its_group():
    assert parity.cli._running(["data", "show", "run"]).name == "show"
    assert parity.cli._running(["identify", "train"]).name == "identify"


@pytest.fixture(scope="module")
def trace(tmp_path_factory, small):
    folder = tmp_path_factory.mktemp("trace")
    from parity.run import resolve_sides
    from parity.settings import Settings
    from parity.trace import record

    (side,) = resolve_sides(["parity.oracle"])
    record(side, small, Settings(dtype="float64", epochs=1, steps=12), folder / "with", gradients=6)
    record(side, small, Settings(dtype="float64", epochs=1, steps=12), folder / "without")
    return folder


def test_a_recorded_trace(trace, capsys):
    assert run("identify", trace / "with") == 0
    printed = capsys.readouterr().out
    assert "rule: SGD with momentum\n" in printed
    assert "  momentum = 0.9" in printed
    assert "  lr = 0.001" in printed


def test_gradients_leave_the_trace_as_it_is(trace):
    plain, extended = read_trace(trace / "without"), read_trace(trace / "with")
    assert [chunk.sha256 for chunk in plain.manifest.chunks] == [chunk.sha256 for chunk in extended.manifest.chunks]


def test_a_trace_without_gradients_or_with_edited_ones_is_refused(trace, tmp_path):
    with pytest.raises(InputError, match="it holds no gradients .*; record it with parity record --gradients N"):
        read_gradients(trace / "without")
    copied = tmp_path / "copied"
    shutil.copytree(trace / "with", copied)
    content = bytearray((copied / "gradients.npz").read_bytes())
    content[1000] ^= 1
    (copied / "gradients.npz").write_bytes(content)
    with pytest.raises(InputError, match="gradients.npz was truncated or edited"):
        read_gradients(copied)
    (copied / "gradients.npz").unlink()
    with pytest.raises(InputError, match="gradients.npz is missing; copy it again, or record it again"):
        read_gradients(copied)
