"""`parity record` and `parity compare` as users meet them, the second also where no framework is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.test_import_isolation import FRAMEWORKS, ROOT, WALK
from tests.trace.conftest import edit_json

COMMON = ("--data", "small.npz", "--dtype", "float64", "--steps", "60")


@pytest.fixture
def folder(small_npz):
    return small_npz.parent


def parity(folder, *arguments):
    """Exit code, output, error output."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "parity", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def fake(name):
    return f"tests.trace.fakes:{name}"


def record(folder, name, out, *options):
    return parity(folder, "record", fake(name), *COMMON, "--out", out, *options)


def test_record_says_what_it_wrote_and_compare_that_they_match(folder):
    code, out, err = record(folder, "impl", "a")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "data: small.npz, 102 + 40 images"
    assert lines[3:5] == ["initial weights: drawn from seed 0", "tests.trace.fakes:impl: fake, float64"]
    assert lines[-2].startswith("tests.trace.fakes:impl: 60 steps in ")
    assert lines[-1].startswith("wrote a: the trace, 0.")
    assert record(folder, "impl", "b")[0] == 0
    code, out, err = parity(folder, "compare", "a", "b", "--json", "c.json")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "A: tests.trace.fakes:impl (a): fake, float64",
        "B: tests.trace.fakes:impl (b): fake, float64",
        "float64, 60 steps, 60 states of which 8 in full",
        "  noise: bound 1e-09",
        "  largest relative differences: loss 0.0e+00 (step 0),",
        *(line for line in out.splitlines() if line.startswith("  update 0.0e+00 (fc3.weight, step 0), of which ")),
        "  momentum 0.0e+00 (fc3.weight, step 0)",
        "verdict: match in float64",
        "wrote report.html: the report as a page",
        "wrote c.json: the comparison",
    ]
    report = json.loads((folder / "c.json").read_text())
    assert (report["format"], report["outcome"]) == ("parity.trace-comparison/1", "match")
    assert (report["steps"], report["first_break"]) == (60, None)


def test_a_difference_exits_1_with_step_stage_and_tensor(folder):
    record(folder, "impl", "a")
    record(folder, "wrong_lr", "b")
    code, out, err = parity(folder, "compare", "a", "b", "--json", "c.json")
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert "first beyond the noise: step 0, update, fc3.weight" in lines
    assert "verdict: differs at step 0, update, fc3.weight" in lines
    lacking = "only the CNN's formulas are known, these are other programs: record both with --gradients 8"
    assert f"cause: not in the traces: {lacking}" in lines
    report = json.loads((folder / "c.json").read_text())
    assert (report["explanation"], report["lacking"]) == (None, lacking)
    found = json.loads((folder / "c.json").read_text())["first_break"]
    assert (found["step"], found["since"], found["stage"], found["measured"]) == (0, -1, "update", "exactly")


def test_null_runs_on_the_command_line(folder):
    float32 = ("--dtype", "float32")
    record(folder, "impl", "a", *float32)
    record(folder, "wrong_lr", "b", *float32)
    code, out, _ = record(folder, "impl", "null", *float32, "--nudge", "1")
    assert code == 0
    assert "initial weights: drawn from seed 0, each moved by one ulp (seed 1)" in out
    code, out, err = parity(folder, "compare", "a", "b")
    assert (code, err) == (2, "")
    assert out.splitlines()[-2].startswith("verdict: none; ")
    assert "It is undecided whether" in (folder / "report.html").read_text()
    assert "the envelope allows" not in (folder / "report.html").read_text()
    code, out, _ = parity(folder, "compare", "a", "b", "--null", "null", "--json", "c.json")
    assert code == 2
    page = (folder / "report.html").read_text()
    assert "the envelope allows" in page
    assert "Shaded: 10 times the distance of 1 null run, which count as noise." in page
    assert "noise" not in json.loads((folder / "c.json").read_text())
    assert "  noise: 10 times the distance of 1 null run" in out.splitlines()
    assert "null: tests.trace.fakes:impl (null): fake, float32" in out.splitlines()
    assert "verdict: none; in float32 rounding alone may part two runs there. Record both in float64" in out


def test_a_loss_that_is_not_finite_exits_1_and_keeps_the_rest(folder):
    code, out, err = record(folder, "turns_nan", "a", "--steps", "400", "--epochs", "50")
    assert (code, err) == (1, "")
    assert "stopped: tests.trace.fakes:turns_nan: the loss of step 300 is nan; try a smaller learning rate" in out
    code, out, _ = parity(folder, "compare", "a", "a")
    assert code == 0
    assert "  incomplete: 300 of 400 steps (tests.trace.fakes:turns_nan: the loss of step 300 is nan" in out


def test_refusals_are_one_line_and_exit_2(folder):
    record(folder, "impl", "a")
    record(folder, "impl", "b", "--seed", "1")
    one_line = [
        (
            ("compare", "a", "nowhere"),
            "parity: trace nowhere: manifest.json cannot be read (No such file or directory)",
        ),
        (("compare", "a", "b"), "parity: trace b: its seed is 1, not 0 as in a; record both with the same options"),
        (("compare", "a", "a", "--null", "a"), "parity: --null a: it starts from the same weights as a; "),
        (("compare", "a", "a", "--json", "."), "parity: --json .: it is a folder; name a file"),
        (("record", fake("impl"), "--out", "a"), "parity: --out a: the folder is not empty; name a new folder"),
        (("record", fake("impl"), "--out", "c", "--every", "0"), "parity: --every 0: it is less than 1; "),
        (("record", fake("impl"), "--out", "c", "--nudge", "-1"), "parity: --nudge -1: it is negative; "),
        (("record", "nothing_here", "--out", "c"), "parity: implementation nothing_here: "),
    ]
    for arguments, line in one_line:
        code, _, err = parity(folder, *arguments)
        assert (code, err.count("\n")) == (2, 1), err
        assert err.startswith(line)
    assert not (folder / "c").exists()
    edit_json(folder / "a", lambda manifest: manifest.update(format="parity.trace/9"))
    code, _, err = parity(folder, "compare", "a", "a")
    assert code == 2
    assert err.startswith("parity: trace a: the format is parity.trace/9, not parity.trace/1; ")


def test_compare_needs_no_framework(folder):
    for name in ("impl", "wrong_lr"):
        record(folder, name, name)
    blocked = f"{FRAMEWORKS},torch_impl,jax_impl,plotly,jinja2"  # the last two make the page
    places = [str(folder / name) for name in ("impl", "wrong_lr")]
    run = f"from parity.cli import cli\ncli.main(['compare', *{places!r}, '--no-report'])\n"
    command = [sys.executable, "-c", WALK + run, blocked, "parity"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1] == "verdict: differs at step 0, update, fc3.weight"
    assert "cause: not in the traces: only the CNN's formulas are known" in done.stdout
    # The block is one: recording the PyTorch side under it is refused.
    arguments = ["parity", "record", "torch_impl", "--out", str(folder / "c")]
    run = f"from parity.cli import main\nsys.argv = {arguments!r}\nmain()\n"
    command = [sys.executable, "-c", WALK + run, blocked, "parity"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "torch_impl is blocked" in done.stderr


def test_the_page_of_a_comparison(folder):
    """Where they part, both losses, and each trace; a comparison that ends with an error says so in its place."""
    for name in ("impl", "wrong_lr"):
        record(folder, name, name)
    assert parity(folder, "compare", "impl", "wrong_lr", "--report", "page.html")[0] == 1
    page = (folder / "page.html").read_text()
    assert "differ at step 0, update, fc3.weight" in page
    assert "only the CNN&#39;s formulas are known" in page
    for figure in ("gap of the losses", "relative gap", "tests.trace.fakes:wrong_lr"):
        assert figure in page
    assert "parity compare impl wrong_lr --report page.html" in page
    assert parity(folder, "compare", "impl", "impl", "--report", "same.html")[0] == 0
    same = (folder / "same.html").read_text()
    assert "equal to the last bit in every step" in same
    assert "gap of the losses" not in same


ORACLES = ("parity.oracle", fake("other_momentum"))


def test_a_cause_on_the_command_line(folder):
    """The data file is found where it lay; from elsewhere it is named; with all stages recorded it need not be."""
    for number, name in enumerate(ORACLES):
        assert parity(folder, "record", name, *COMMON, "--steps", "8", "--out", f"o{number}")[0] == 0
        options = ("--steps", "8", "--gradients", "8", "--out", f"g{number}")
        assert parity(folder, "record", name, *COMMON, *options)[0] == 0
    sentence = f"{ORACLES[1]} has a momentum of 0.99, not 0.9"
    for arguments in (("o0", "o1"), ("g0", "g1"), ("o0", "o1", "--data", "small.npz")):
        code, out, err = parity(folder, "compare", *arguments, "--json", "c.json")
        assert (code, err) == (1, "")
        assert f"cause 1: {sentence}" in out.splitlines()
        assert f"; cause: {sentence}\n" in out
    assert json.loads((folder / "c.json").read_text())["explanation"]["causes"][0]["key"] == "other-momentum"
    code, out, err = parity(folder, "compare", "o0", "o1", "--data", "embedded")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("parity: --data embedded: its SHA-256 is not that of small, ")
    (folder / "small.npz").unlink()
    code, out, _ = parity(folder, "compare", "o0", "o1")
    assert code == 1
    assert "cause: not in the traces: their images are not at hand: name their data set with --data, or record" in out


def compared_without(folder, blocked, a, b):
    """The output of a comparison where these modules do not import."""
    run = (
        f"from parity.cli import cli\ncli.main(['compare', {str(folder / a)!r}, {str(folder / b)!r}, '--no-report'])\n"
    )
    command = [sys.executable, "-c", WALK + run, blocked, "parity"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    return done.stdout.splitlines()


def test_a_cause_needs_no_framework_and_no_scipy(folder):
    for number, name in enumerate((*ORACLES, fake("no_rule"))):
        options = ("--steps", "8", "--gradients", "8", "--out", f"g{number}")
        assert parity(folder, "record", name, *COMMON, *options)[0] == 0
    blocked = f"{FRAMEWORKS},torch_impl,jax_impl,scipy,matplotlib,plotly,jinja2"
    verdict = compared_without(folder, blocked, "g0", "g1")[-1]
    assert verdict.endswith(f"; cause: {ORACLES[1]} has a momentum of 0.99, not 0.9")
    # Optimizers of another kind are identified with scipy; without it they are unknown, and nothing breaks.
    assert "; cause: unknown: " in compared_without(folder, blocked, "g0", "g2")[-1]
