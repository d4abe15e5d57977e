"""The pytest plugin, in processes of its own, loaded by the entry point that pyproject.toml declares."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from parity.pytest_plugin import report_name

ROOT = Path(__file__).parent.parent

TESTS = """
import pytest
import torch_impl
from parity.data import Dataset
from parity.settings import Settings
from parity.testing import assert_parity
from tests.conftest import small_arrays
from tests.measurements.sides import with_lr

DATA = Dataset(name="small", origin="random images", **small_arrays())
SETTINGS = Settings(device="cpu")

@pytest.fixture
def checked_before():
    assert_parity(torch_impl.eager, torch_impl.eager, data=DATA, settings=SETTINGS, steps=1)

@pytest.mark.parametrize("case", ["a/b", "a b"])
def test_matches(case):
    assert_parity(torch_impl.eager, torch_impl.eager, data=DATA, settings=SETTINGS, steps=1)

def test_differs(checked_before):
    wrong = with_lr(0.5)
    assert_parity(torch_impl.eager, wrong, data=DATA, settings=SETTINGS, steps=1)

def test_without_a_check():
    pass
"""


@pytest.fixture
def project(tmp_path):
    """A folder with tests, and the distribution's entry points as if it were installed."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    entries = "".join(f"{name} = {module}\n" for name, module in declared.items())
    metadata = tmp_path / "site" / "declared-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: declared\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[pytest11]\n{entries}")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "test_pair.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


def run_pytest(folder, *arguments, source=""):
    path = os.pathsep.join([str(ROOT), str(folder.parent / "site")])
    command = [sys.executable, "-c", f"{source}\nimport pytest; pytest.console_main()"] if source else ["-m", "pytest"]
    command = command if source else [sys.executable, *command]
    environment = {**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": "-p no:cacheprovider -p no:jaxtyping"}
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


NAMES = {
    "test_pair.py::test_matches[a/b]": 1,
    "test_pair.py::test_matches[a b]": 1,
    "test_pair.py::test_differs": 2,  # one by its fixture
}


def test_every_report_is_kept_and_listed(project):
    done = run_pytest(project, "--parity-report", "out/reports", "--junitxml", "junit.xml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 3 passed" in done.stdout
    assert "DisparityError: TorchImplementation" in done.stdout
    assert "verdict: differs in formula at step 0, update, conv1.weight" in done.stdout
    files = [project / "out/reports" / report_name(test, n + 1) for test, count in NAMES.items() for n in range(count)]
    assert sorted(files) == sorted((project / "out/reports").iterdir())
    assert [json.loads(file.read_text())["exit_code"] for file in files] == [0, 0, 0, 1]
    summary = done.stdout.partition(" parity reports ")[2]
    assert all(str(file) in summary for file in files)
    named = [value for test in properties(project / "junit.xml").values() for value in test.get("parity_report", [])]
    assert sorted(named) == sorted(map(str, files))


def properties(path):
    """Of each test in JUnit's XML: property -> its values."""
    found = {}
    for test in ElementTree.parse(path).iter("testcase"):  # noqa: S314  written here
        of_test = found[test.get("name")] = {}
        for node in test.iter("property"):
            of_test.setdefault(node.get("name"), []).append(node.get("value"))
    return found


def test_junit_carries_each_verdict(project):
    done = run_pytest(project, "--junitxml", "junit.xml", "-k", "differs or without or a/b")
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    found = properties(project / "junit.xml")
    assert found["test_without_a_check"] == {}
    assert list(found["test_matches[a/b]"]) == ["parity_verdict"]
    assert found["test_matches[a/b]"]["parity_verdict"][0].startswith("match: float64 to ")
    wrong = found["test_differs"]  # a match in its fixture, then the difference
    assert wrong["parity_verdict"][0].startswith("match")
    assert wrong["parity_verdict_2"][0].startswith("differs in formula at step 0, update, conv1.weight: ")
    assert wrong["parity_step_2"] == ["0"]
    assert wrong["parity_stage_2"] == ["update"]
    assert wrong["parity_tensor_2"] == ["conv1.weight"]
    (cause,) = wrong["parity_cause_2"]
    assert "0.5" in cause
    assert cause in done.stdout


def test_the_ini_names_a_folder_beside_it(project):
    (project / "pytest.ini").write_text("[pytest]\nparity_report = kept\n")
    below = project / "below"
    below.mkdir()
    (project / "test_pair.py").rename(below / "test_pair.py")
    done = run_pytest(project, "below", "-k", "differs")
    assert done.returncode == 1
    assert len(list((project / "kept").iterdir())) == 2


def test_nothing_is_kept_unasked(project):
    done = run_pytest(project, "-k", "differs or without")
    assert "1 failed, 1 passed" in done.stdout
    assert "parity reports" not in done.stdout
    assert {path.suffix for path in project.iterdir()} <= {".py", ".ini", ""}
    assert not list(project.rglob("*.json"))


def test_asked_for_and_nothing_to_keep(project):
    done = run_pytest(project, "-k", "without", "--parity-report", "out")
    assert done.returncode == 0
    assert "parity reports" not in done.stdout
    assert not (project / "out").exists()


def test_assertions_work_without_the_plugin(project):
    done = run_pytest(project, "-p", "no:parity", "-k", "differs or matches")
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    done = run_pytest(project, "-p", "no:parity", "--parity-report", "out")
    assert done.returncode == 4
    assert "unrecognized arguments: --parity-report" in done.stderr


def test_the_names_travel_between_processes(project):
    pytest.importorskip("xdist")
    done = run_pytest(project, "-n", "2", "-k", "a/b or without", "--parity-report", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (project / "out").iterdir()
    assert str(file) in done.stdout.partition(" parity reports ")[2]


MODULES = """
import atexit, sys

def show():
    loaded = sys.modules.keys()
    print("HEAVY", sorted({"numpy", "torch", "jax", "click"} & loaded))
    print("PARITY", sorted(name for name in loaded if name.startswith("parity")))

atexit.register(show)
"""


def test_starting_pytest_imports_nothing_that_takes_time(project):
    done = run_pytest(project, "--collect-only", "--ignore", "test_pair.py", source=MODULES)
    assert "HEAVY []\nPARITY ['parity', 'parity.artifacts', 'parity.pytest_plugin']" in done.stdout, done.stderr


@pytest.mark.parametrize("test", ["t.py::" + 300 * "x", 't.py::[\\:*?"<>|\0\n]', "t.py::[ä/../..]"])
def test_names_are_safe_for_every_file_system(test):
    name = report_name(test, 12)
    assert len(name) <= 140
    assert name.isascii()
    assert not set(name) & set('\\/:*?"<>|\0\n ')
    assert name[0] not in ".-"
    assert name.endswith("-12.json")


def test_names_tell_tests_apart():
    tests = ["t.py::f[a b]", "t.py::f[a/b]", "t.py::F[a b]", "t.py::" + 300 * "x", "t.py::" + 301 * "x"]
    assert len({report_name(test, 1).lower() for test in tests}) == len(tests)
