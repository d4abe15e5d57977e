"""--report and --no-report: where the page goes, and what it says when the command did not come to its end."""

from __future__ import annotations

import json

import pytest

from tests.test_cli import PARITY, folder, parity  # noqa: F401  a fixture

RUN = ("run", "fakes:honest", "fakes:honest", "--data", "small.npz", "--epochs", "1", "--ensemble", "0")


def command(where, *arguments):
    """As a user types it: `parity` of test_cli adds --no-report."""
    import subprocess

    done = subprocess.run([PARITY, *arguments], cwd=where, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_run_leaves_its_page_in_the_current_folder(folder):  # noqa: F811
    code, out, err = command(folder, *RUN)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "wrote report.html: the report as a page"
    text = (folder / "report.html").read_text()
    assert "fakes:honest#1 and fakes:honest#2 match" in text
    assert "parity run fakes:honest fakes:honest --data small.npz" in text


def test_no_report_leaves_none(folder):  # noqa: F811
    code, out, _ = command(folder, *RUN, "--no-report")
    assert code == 0
    assert "report.html" not in out
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("name", ["check", "explain"])
def test_a_check_that_differs_leaves_its_page(folder, name):  # noqa: F811
    arguments = ("fakes:honest", "fakes:wrong_lr", "--data", "small.npz", "--report", "page.html")
    code, out, _ = command(folder, name, *arguments)
    assert code in (1, 2)
    assert out.splitlines()[-1] == "wrote page.html: the report as a page"
    assert "<h1>" in (folder / "page.html").read_text()


def test_an_interrupted_run_leaves_a_page_that_says_so(folder):  # noqa: F811
    arguments = ("run", "fakes", "fakes:interrupted", "--data", "small.npz", "--report", "page.html")
    code, _, _ = command(folder, *arguments)
    assert code == 130
    assert "Stopped in the float64 check: interrupted" in (folder / "page.html").read_text()


@pytest.mark.parametrize(
    ("side", "said"), [("fakes:raises", "the user&#39;s own fault"), ("fakes:dies", "has not come to its end")]
)
def test_a_side_that_breaks_leaves_a_page_that_says_so(folder, side, said):  # noqa: F811
    """Also one that ends the process: the page of an older run is gone by then."""
    (folder / "page.html").write_text("an older run's")
    code, out, _ = command(folder, "run", "fakes", side, "--data", "small.npz", "--report", "page.html")
    assert code == 2
    text = (folder / "page.html").read_text()
    assert said in text
    assert "There is no result" in text
    assert "wrote" not in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--report", "missing/page.html"), "parity: --report missing/page.html: the folder"),
        (("--report", "r.json", "--json", "r.json"), "parity: --report r.json: --json names the same file"),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_before_the_work(folder, arguments, line):  # noqa: F811
    code, out, err = command(folder, *RUN, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(line)


def test_bad_input_leaves_the_older_page(folder):  # noqa: F811
    (folder / "report.html").write_text("an older run's")
    code, _, _ = command(folder, *RUN, "--lr", "-1")
    assert code == 2
    assert (folder / "report.html").read_text() == "an older run's"


def test_the_json_has_no_details(folder):  # noqa: F811
    parity(folder, "check", "fakes", "fakes:wrong_lr", "--data", "small.npz", "--json", "c.json", "--no-report")
    assert "details" not in json.loads((folder / "c.json").read_text())["check"]
