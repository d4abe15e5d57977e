"""`parity study` as users meet it."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.conftest import small_arrays
from tests.test_cli import parity


def test_without_a_name_the_experiments_are_listed(tmp_path):
    code, out, err = parity(tmp_path, "study")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("quadratic ")
    assert len(out.splitlines()) == 9


def test_experiments_are_written_into_a_new_folder(tmp_path):
    code, out, err = parity(tmp_path, "study", "decay", "forms", "--quick", "--out", "figures")
    assert (code, err) == (0, "")
    assert "2 experiments on what an optimizer does" in (tmp_path / "report.html").read_text()
    expected = {f"{name}.{kind}" for name in ("decay", "forms") for kind in ("png", "svg", "csv", "json")}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == expected
    assert "  wrote decay.png, decay.svg, decay.csv, decay.json into figures (" in out


def test_quiet_leaves_one_line(tmp_path):
    code, out, err = parity(tmp_path, "study", "decay", "--quick", "--out", "figures", "--quiet")
    assert (code, out, err) == (0, "studied: figures and tables of decay in figures\n", "")


def test_the_cnn_is_trained_by_any_implementation(tmp_path):
    np.savez(tmp_path / "small.npz", **small_arrays())
    names = ("--a", "parity.oracle", "--b", "parity.oracle")
    code, out, _ = parity(
        tmp_path, "study", "schedules", "--quick", "--out", ".", "--data", "small.npz", "--no-report", *names
    )
    assert code == 0
    assert not (tmp_path / "report.html").exists()
    assert out.splitlines()[0] == "data: small.npz"
    assert (tmp_path / "schedules.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nestrov", "--out", "x"], "experiment nestrov: there is no such experiment; did you mean nesterov?"),
        (["decay"], "--out not given: figures need a folder to be written into; give one"),
        (["decay", "--out", "file"], "--out file: it is a file; name a folder"),
        (["decay", "--out", "no/such"], "does not exist; create it first"),
        (["decay", "--out", "x", "--seed", "-1"], "--seed -1: it is negative; give 0 or more"),
        (["cnn", "--out", "x", "--data", "none.npz"], "--data none.npz: "),
        (["cnn", "--quick", "--out", "x", "--data", "embedded", "--a", "no.such"], "module 'no.such' does not import"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, arguments, line):
    (tmp_path / "file").write_text("")
    code, _, err = parity(tmp_path, "study", *arguments)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert line in err
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    code, _, err = parity(tmp_path, "study", "decay", "--out", "closed")
    assert code == 2
    assert "is not writable" in err
    assert not list(folder.iterdir())
