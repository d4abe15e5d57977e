"""The examples as they stand: the clean pairs match, and each mistake is found at its own stage."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import parity
from parity.check import check
from parity.compare import describe_difference
from parity.prepare import prepare
from parity.render.check import stage_table
from parity.run import resolve_sides
from parity.settings import Settings

ROOT = Path(__file__).parents[1]
NAMES = ("mlp", "cnn", "transformer")


def side_names(example, attribute):
    return f"examples.{example}.torch_{example}", f"examples.{example}.jax_{example}:{attribute}"


@pytest.fixture(scope="module")
def checked():
    """Checks of the examples, each made once."""
    known = {}

    def made(example, attribute, *, swapped=False):
        key = (example, attribute, swapped)
        if key not in known:
            sides = resolve_sides(side_names(example, attribute))
            prepared = prepare(*(sides[::-1] if swapped else sides), settings=Settings(device="cpu"))
            known[key] = prepared, check(prepared.sides, prepared.problem, Settings(device="cpu"))
        return known[key]

    return made


@pytest.mark.parametrize("example", NAMES)
def test_a_clean_pair_matches_in_both_precisions(example, checked):
    prepared, found = checked(example, "impl")
    assert found.finding is None, found.line
    assert {tensor.place.stage for tensor in found.rounding} >= {"logits", "loss", "gradients", "momentum", "update"}
    assert any("proved by the float64 outputs" in note for note in prepared.notes)


FOUND = {
    "mlp": ("update", "0.weight"),
    "cnn": ("statistics", "stem_norm.running_mean"),
    "transformer": ("activations", "gelu"),
}
SAID = {
    # lr times what the decays differ by: 1e-3 (1e-2 - 1e-4)
    "mlp": "plus 9.9e-06 times the parameter: see the weight decay",
    # from zero, after one step: 0.9 of the batch's mean instead of 0.1
    "cnn": "is 9 times examples.cnn.torch_cnn's",
    "transformer": "gelu has no partner in examples.transformer.jax_transformer:wrong",
}


@pytest.mark.parametrize("example", NAMES)
def test_the_mistake_is_found_at_its_own_stage(example, checked):
    _, found = checked(example, "wrong")
    finding = found.finding
    assert (finding.kind, finding.step) == ("formula", 0)
    assert (finding.place.stage, finding.place.tensor) == FOUND[example]
    assert SAID[example] in found.line


def test_biases_before_a_batch_norm_are_listed_as_zero_and_not_judged(checked):
    _, found = checked("cnn", "impl")
    zero = {rung.place for rung in found.rungs if rung.zero}
    biases = {"stem.bias", "conv1.bias", "conv2.bias"}
    assert {place.tensor for place in zero} == biases
    assert {place.stage for place in zero} == {"gradients", "momentum", "update", "weights"}
    assert not biases & {tensor.place.tensor for tensor in found.rounding}
    assert any(line.startswith("zero but for rounding") for line in stage_table(found, ("a", "b")))


def test_a_noisy_third_of_a_tensor_is_allowed_what_a_null_run_shows(checked):
    """The keys' bias is a third of torch's in_proj_bias: Adam makes noise of it, which the rest must not be blamed for."""
    _, found = checked("transformer", "impl")
    updates = [rung for rung in found.rungs if str(rung.place) == "update, attention.in_proj_bias"]
    assert max(rung.difference for rung in updates) > 1e-12
    assert all(rung.share < 1 and rung.allowed < 1e-8 for rung in updates)


def test_a_keys_bias_of_its_own_is_zero(checked):
    """JAX first, whose attention keeps queries, keys and values apart."""
    _, found = checked("transformer", "impl", swapped=True)
    assert found.finding is None, found.line
    zero = {rung.place.tensor for rung in found.rungs if rung.zero}
    assert zero == {"attention.key.bias", "attention.key.bias:2"}
    assert not zero & {tensor.place.tensor for tensor in found.rounding}


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*/*.py")), ids=lambda file: file.stem)
def test_a_program_is_adapted_in_fewer_than_15_lines(file):
    """Of the user's own code: the statements that lead from a model to `adapt`."""
    tree = ast.parse(file.read_text())
    adapting = [node for node in tree.body if "_impl.adapt" in ast.unparse(node)]
    assert adapting
    assert all(node.end_lineno - node.lineno + 1 < 15 for node in adapting)


def parity_check(folder, *arguments):
    """Exit code, output, error output of the command in this folder."""
    command = [sys.executable, "-m", "parity", "check", *arguments]
    package = str(Path(parity.__file__).parents[1])
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**__import__("os").environ, "PYTHONPATH": package}
    )
    return done.returncode, done.stdout, done.stderr
