"""The cause in a check's verdict: of each phase, on either side, and on the command line."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from parity.checking import check
from parity.contract import initial_weights
from parity.drill.catalogue.model import half_at_zero
from parity.explain.network import MaxPool
from parity.problem import cnn_problem
from parity.settings import Settings, Side
from tests.explain.steps import HONEST, oracle, sgd_with
from tests.test_check import RunsOtherwise
from tests.test_planted_faults import Wrapped

PARITY = Path(sys.executable).with_name("parity")


def checked(a, b, dataset, **settings):
    sides = (Side(name="a", implementation=a), Side(name="b", implementation=b))
    return check(sides, cnn_problem(dataset, initial_weights(0)), Settings(device="cpu", **settings))


def test_the_side_that_has_the_fault_is_the_cause(small):
    faulty = sgd_with(nesterov=True)
    for pair, name in (((faulty, HONEST), "a"), ((HONEST, faulty), "b")):
        found = checked(*pair, small)
        (cause,) = found.explanation.causes
        assert (cause.side, cause.key) == (name, "nesterov")
        assert found.line.endswith(f"; cause: {name} takes nesterov's step")


def test_two_sides_with_a_fault_each(small):
    found = checked(sgd_with(momentum=0.5), sgd_with(lr=3e-3), small).explanation
    assert [(cause.side, cause.key) for cause in found.causes] == [("a", "other-momentum"), ("b", "other-lr")]


def test_a_match_has_no_cause(small):
    assert checked(HONEST, HONEST, small).explanation is None


def shared_among_ties(upstream, images):
    return MaxPool(ties="shared").backward(upstream, images, {})[0]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"relu_backward": half_at_zero}, "relu-gradient-at-zero"),
        ({"max_pool_backward": shared_among_ties}, "pool-ties"),
    ],
)
def test_ties(change, key, small):
    found = checked(HONEST, oracle(**change), small)
    assert found.finding.phase == "tie probe"
    assert [cause.key for cause in found.explanation.causes] == [key]


class Evaluates(Wrapped):
    """Its outputs for test examples are of images that are not shifted."""

    def logits(self, state, data):
        return oracle(normalise=_shares).logits(state.inner, data)


def _shares(images):
    return images.transpose(0, 3, 1, 2) / 255.0


class Forgets(Wrapped):
    """Evaluates the weights that it began with."""

    def logits(self, state, data):
        return super().logits(self.restore(state, initial_weights(0), {}), data)


def test_an_evaluation_of_other_images_or_weights(small):
    found = checked(HONEST, Evaluates(HONEST), small)
    assert found.finding.place.stage == "evaluation"
    (cause,) = found.explanation.causes
    assert (cause.side, cause.key) == ("b", "evaluation-no-shift")
    (unknown,) = checked(HONEST, Forgets(HONEST), small).explanation.unknown
    assert (unknown.side, unknown.place.stage) == ("b", "evaluation")


def test_a_fast_path_is_its_own_cause(small):
    found = checked(HONEST, RunsOtherwise(HONEST), small)
    (cause,) = found.explanation.causes
    assert (cause.side, cause.key) == ("b", "fast-path")


class BrokenLater(Wrapped):
    """Diverges after its first step."""

    def observe(self, state, data, rows):
        after, seen = super().observe(state, data, rows)
        grown = {name: 1e200 * value for name, value in seen.parameters.items()}
        return self.restore(after, grown, {}), replace(seen, parameters=grown)


def test_a_side_that_cannot_go_on_is_explained_by_what_it_did(small):
    found = checked(HONEST, BrokenLater(HONEST), small)
    assert found.finding.place.stage == "update"
    assert found.explanation.unknown or found.explanation.causes


def test_the_command(tmp_path):
    (tmp_path / "faulty.py").write_text("from tests.explain.steps import sgd_with\nimpl = sgd_with(momentum=0.99)\n")
    root = Path(__file__).parents[2]
    command = [PARITY, "explain", "parity.oracle", "faulty", "--json", "report.json", "--no-report"]
    environment = {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[1] == "cause 1: faulty has a momentum of 0.99, not 0.9"
    assert lines[2].startswith("  step 1, momentum, conv1.weight: ")
    assert lines[2].endswith("[other-momentum]")
    assert lines[3].startswith("verdict: differs in formula at step 1, momentum, conv1.weight")
    (cause,) = json.loads((tmp_path / "report.json").read_text())["check"]["explanation"]["causes"]
    assert (cause["key"], cause["side"]) == ("other-momentum", "faulty")
