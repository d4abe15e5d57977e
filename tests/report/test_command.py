"""--report and --no-report: where the page goes, and what it says when the command did not come to its end."""

from __future__ import annotations

import json
import shutil

import pytest

from parity import oracle
from parity.commands.reporting import Reporting
from parity.report import html
from tests.report import pages
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
        (("--report", "r.md", "--summary", "./r.md"), "parity: --report r.md: --summary names the same file"),
        (("--report", "small.npz"), "parity: --report small.npz: --data names the same file"),
        (("--report", "-"), "parity: --report -: a page is not for standard output; name a file"),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_before_the_work(folder, arguments, line):  # noqa: F811
    code, out, err = command(folder, *RUN, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(line)


def test_bad_input_leaves_the_older_page(folder):  # noqa: F811
    """A page of ours, which a command that began its work would replace."""
    assert command(folder, *RUN)[0] == 0
    older = (folder / "report.html").read_text()
    code, _, _ = command(folder, *RUN, "--lr", "-1")
    assert code == 2
    assert (folder / "report.html").read_text() == older


def test_a_file_that_is_not_ours_is_left_as_it_is(folder):  # noqa: F811
    """By default; others write files of this name too, and a user has not asked for ours."""
    (folder / "report.html").write_text("<!doctype html>somebody else's")
    code, out, _ = command(folder, *RUN)
    assert code == 0
    assert "no report.html: it is not parity's; --report FILE names another\n" in out
    assert (folder / "report.html").read_text() == "<!doctype html>somebody else's"
    code, out, _ = command(folder, *RUN, "--report", "report.html")
    assert out.splitlines()[-1] == "wrote report.html: the report as a page"
    code, out, _ = command(folder, *RUN)
    assert out.splitlines()[-1] == "wrote report.html: the report as a page", "a page of ours is replaced"


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "fakes", "absent_module", "--data", "small.npz"),
        ("run", "fakes", "fakes", "--data", "absent.npz"),
        ("check", "fakes", "absent_module", "--data", "small.npz"),
        ("drill", "absent_module"),
    ],
)
def test_a_command_that_fails_before_its_work_leaves_no_older_verdict(folder, arguments):  # noqa: F811
    (folder / "report.html").write_text(html(pages.checked(oracle.impl)))
    code, _, err = command(folder, *arguments)
    assert code == 2
    text = (folder / "report.html").read_text()
    assert "There is no result" in text
    assert "It ended with an error: " in text
    assert "absent" in err


SPOILS = """
from pathlib import Path
from fakes import Fake

class Spoils(Fake):
    def logits(self, state, data):
        Path("s.md").mkdir(exist_ok=True)
        return super().logits(state, data)

impl = Spoils()
"""


def test_what_fails_after_the_verdict_leaves_it_in_the_page(folder):  # noqa: F811
    """A folder that takes the summary's place while the run is at work."""
    (folder / "spoils.py").write_text(SPOILS)
    code, out, err = command(folder, "run", "fakes", "spoils", *RUN[3:], "--summary", "s.md")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "verdict: match" in out
    assert "fakes and spoils match" in (folder / "report.html").read_text()


def test_a_page_that_nobody_asked_for_does_not_change_how_the_command_ends(tmp_path, capsys):
    file = tmp_path / "page.html"
    with Reporting(file, ("a", "b")) as page:
        page.write(lambda: str(1 / 0), verdict="verdict: match: in all steps")
    assert capsys.readouterr().err == f"parity: no {file}: ZeroDivisionError: division by zero\n"
    text = file.read_text()
    assert "a and b: verdict: match: in all steps" in text
    assert "ZeroDivisionError" in text
    with pytest.raises(ZeroDivisionError), Reporting(file, ("a", "b"), asked=True) as page:
        page.write(lambda: str(1 / 0), verdict="verdict: match: in all steps")
    assert "a and b: verdict: match: in all steps" in file.read_text()


def test_a_page_that_cannot_be_written_any_more_does_not_change_how_the_command_ends(tmp_path, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    with Reporting(gone / "page.html", ("a", "b")) as page:
        shutil.rmtree(gone)
        page.write(lambda: "the page", verdict="verdict: match")
    told = capsys.readouterr()
    assert told.err == f"parity: no {gone / 'page.html'}: No such file or directory\n"
    assert "wrote" not in told.out


def test_the_json_has_no_details(folder):  # noqa: F811
    parity(folder, "check", "fakes", "fakes:wrong_lr", "--data", "small.npz", "--json", "c.json", "--no-report")
    assert "details" not in json.loads((folder / "c.json").read_text())["check"]
