"""`assert_parity`: the check's own lines as an assertion, and errors that stay errors."""

import contextlib
import json
import subprocess
import sys

import numpy as np
import pytest

import torch_impl
from parity.artifacts import listening
from parity.contract import SGD, InputError, SideError, initial_weights
from parity.drill.operating import average_pool
from parity.oracle import impl as oracle
from parity.prepare import prepare
from parity.render.check import check_lines
from parity.settings import Settings, Side
from parity.testing import DisparityError, assert_parity
from tests.measurements.sides import with_lr
from tests.test_check import Raises, RunsOtherwise, changed
from tests.torch_impl import programs

SETTINGS = Settings(sgd=SGD(dampening=0.2, weight_decay=0.01), device="cpu")


def test_a_match_returns_the_report(small):
    report = assert_parity("torch_impl:eager", torch_impl.eager, data=small, settings=SETTINGS)
    assert report.names == ("torch_impl:eager", "TorchImplementation")
    assert report.exit_code == 0
    assert report.data == small.origin
    assert report.check.line.startswith("match: ")


def test_a_difference_prints_what_the_command_line_prints(small):
    wrong = changed(max_pool=average_pool)
    with pytest.raises(AssertionError) as failed:
        assert_parity(torch_impl.eager, wrong, data=small, settings=SETTINGS)
    assert isinstance(failed.value, DisparityError)
    lines = str(failed.value).splitlines()
    assert lines == list(check_lines(failed.value.report))
    assert lines[-1].startswith("verdict: differs in formula at step 0, activations, pool1")
    assert any(line.startswith("activations, pool1") and line.endswith("BROKEN") for line in lines)


def test_equal_names_are_told_apart_and_the_embedded_set_is_the_default():
    with pytest.raises(DisparityError) as failed:
        assert_parity(oracle, changed(relu=lambda x: x), steps=1, settings=SETTINGS)
    assert failed.value.report.names == ("Oracle#1", "Oracle#2")
    assert "Oracle#2 is off" in str(failed.value)
    assert "embedded set" in failed.value.report.data


def test_a_fast_path_that_is_another_program_fails(small):
    with pytest.raises(DisparityError, match="fast path"):
        assert_parity(torch_impl.eager, RunsOtherwise(oracle), data=small, settings=SETTINGS, steps=3)


def test_a_side_that_breaks_is_an_error_and_no_failure(small):
    with pytest.raises(SideError, match="the user's own fault") as broke:
        assert_parity(torch_impl.eager, Raises(oracle), data=small, settings=SETTINGS)
    assert not isinstance(broke.value, AssertionError)
    assert isinstance(broke.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("keywords", "line"),
    [
        ({"steps": 0}, "steps 0: "),
        ({"report": "/no/such/folder/r.json"}, "report /no/such/folder/r.json: the folder "),
        ({"data": "no-such-file.npz"}, "data no-such-file.npz: "),
        ({"settings": Settings(batch_size=1000)}, "batch_size 1000: "),
        ({"weights": {}}, "weights given: tensor conv1.bias is missing"),
    ],
)
def test_bad_arguments_are_one_line(keywords, line, small):
    with pytest.raises(InputError) as refused:
        assert_parity(torch_impl.eager, torch_impl.eager, **{"data": small, "settings": SETTINGS, **keywords})
    assert str(refused.value).startswith(line)


def test_refuses_what_is_no_implementation():
    with pytest.raises(InputError, match="module 'no_such_module' does not import"):
        assert_parity("torch_impl", "no_such_module")
    with pytest.raises(InputError, match="'dict' has no method 'describe'"):
        assert_parity(torch_impl.eager, {})


@pytest.mark.parametrize(("b", "exit_code"), [(torch_impl.eager, 0), (with_lr(0.002), 1)])
def test_the_report_is_written_and_announced_whatever_the_outcome(b, exit_code, small, tmp_path):
    file, heard = tmp_path / "report.json", []
    with listening(heard.append), contextlib.suppress(DisparityError):
        assert_parity(torch_impl.eager, b, data=small, settings=SETTINGS, steps=2, report=file)
    written = json.loads(file.read_text())
    assert written == json.loads(heard[0].to_json())
    assert written["exit_code"] == exit_code


OWN = [programs.mlp, programs.residual, programs.block]


@pytest.mark.parametrize("make", OWN)
def test_a_program_with_its_own_data_matches_itself(make):
    report = assert_parity(make(), make())
    assert report.notes[0] == "initial weights: AdaptedModule#1's own"
    assert report.notes[1].endswith(" tensors mapped, proved by the float64 outputs")
    assert len(report.notes) == 2  # every tensor is itself
    assert report.data == "AdaptedModule#1's own, 24 rows"
    assert report.check.rounding


def test_programs_with_their_own_data_are_compared():
    import torch

    other = programs.mlp(lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True))
    with pytest.raises(DisparityError, match="verdict: differs in formula at step 0, update, "):
        assert_parity(programs.mlp(), other)


class Renamed:
    """Another program's tensors under other names."""

    def __init__(self, inner, rename):
        self.inner, self.rename = inner, rename

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def example(self):
        weights, data = self.inner.example()
        return {self.rename(name): value for name, value in weights.items()}, data


def sides(a, b):
    return Side(name="a", implementation=a), Side(name="b", implementation=b)


@pytest.mark.parametrize(
    ("a", "b", "keywords", "line"),
    [
        (
            programs.mlp(),
            programs.block(),
            {},
            "example the two programs' data: array 0 is (24, 5) in A and (24, 6) in B, ",
        ),
        (programs.mlp(), torch_impl.eager, {}, "implementation a: it brings its own data, b does not; "),
        (torch_impl.eager, programs.mlp(), {}, "implementation b: it brings its own data, a does not; "),
        (
            programs.mlp(),
            programs.mlp(),
            {"weights": initial_weights(0)},
            "weights given: a: it brings its own; leave it",
        ),
    ],
)
def test_prepare_refuses_pairs_that_it_cannot_bring_together(a, b, keywords, line):
    with pytest.raises(InputError) as refused:
        prepare(*sides(a, b), settings=SETTINGS, **keywords)
    assert str(refused.value).startswith(line)


@pytest.mark.parametrize(
    ("example", "problem"),
    [
        (lambda: None, "did not return tensors by name and a data set"),
        (lambda: ({}, (np.zeros(3),)), "returned no tensor"),
        (lambda: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_an_example_that_is_none_is_the_sides_error(example, problem):
    broken = Renamed(programs.mlp(), str)
    broken.example = example
    with pytest.raises(SideError, match=f"b: example.* {problem}"):
        prepare(*sides(programs.mlp(), broken), settings=SETTINGS)


def test_importing_it_imports_no_framework():
    code = "import sys, parity.testing; assert not {'torch', 'jax', 'pytest'} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
