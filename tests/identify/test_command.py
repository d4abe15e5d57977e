"""`parity identify` and `parity record --gradients` as a user runs them."""

import json
import shutil

import pytest

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
    assert "torch: torch.optim.SGD(params.values(), lr=0.02" in printed
    document = json.loads(report.read_text())
    assert (document["format"], document["rule"]) == ("parity.identification/1", "SGD with momentum")


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
