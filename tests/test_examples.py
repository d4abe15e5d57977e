"""The examples as they stand: the clean pairs match, and each mistake is found at its own stage."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parity.checking import check
from parity.prepare import prepare
from parity.render.check import stage_table
from parity.run import resolve_sides
from parity.settings import Settings, Side

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


@pytest.mark.parametrize("example", NAMES)
def test_the_table_shows_the_activations_that_match_by_value(example, checked):
    prepared, found = checked(example, "impl")
    names = tuple(side.name for side in prepared.sides)
    rows = [line for line in stage_table(found, names) if line.startswith("activations, ")]
    assert len(rows) >= 2
    assert all(" = " in row for row in rows)


class StatisticsInHalf:
    """Its run() keeps running statistics as float16 where it computes in float32."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def run(self, state, data, plan):
        after, losses = self.inner.run(state, data, plan)
        weights = dict(self.inner.weights(after))
        for name, value in weights.items():
            if "running" in name and value.dtype == np.float32:
                weights[name] = value.astype(np.float16).astype(np.float32)
        return self.inner.restore(after, weights, self.inner.momentum(after)), losses


def test_running_statistics_that_the_fast_path_keeps_in_low_precision():
    (side, _) = resolve_sides(("examples.cnn.torch_cnn", "examples.cnn.torch_cnn"))
    half = Side(name="half", implementation=StatisticsInHalf(side.implementation))
    prepared = prepare(side, half, settings=Settings(device="cpu"))
    found = check(prepared.sides, prepared.problem, Settings(device="cpu")).finding
    assert (found.kind, found.phase, found.place.stage) == ("precision", "fast path", "statistics")


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


@pytest.mark.parametrize("example", NAMES)
def test_the_readme_shows_what_is_found(example, checked):
    shown = (ROOT / "examples" / "README.md").read_text()
    for attribute in ("impl", "wrong"):
        head, _, _ = checked(example, attribute)[1].line.partition(":")
        assert f"verdict: {head}:" in shown
    assert SAID[example] in shown


def test_biases_before_a_batch_norm_are_listed_as_zero_and_not_judged(checked):
    _, found = checked("cnn", "impl")
    zero = {rung.place for rung in found.rungs if rung.zero}
    biases = {"stem.bias", "conv1.bias", "conv2.bias"}
    assert {place.tensor for place in zero} == biases
    assert {place.stage for place in zero} == {"gradients", "momentum", "update", "weights"}
    assert not biases & {tensor.place.tensor for tensor in found.rounding}
    assert any(line.startswith("zero but for rounding") for line in stage_table(found, ("a", "b")))


def test_a_noisy_third_of_a_tensor_is_allowed_what_a_null_run_shows(checked):
    """The keys' bias is a third of torch's in_proj_bias, of which Adam makes noise: no reason to blame the tensor."""
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
    command = [Path(sys.executable).with_name("parity"), "check", "--no-report", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_an_example_on_the_command_line():
    code, out, err = parity_check(ROOT, *side_names("mlp", "wrong"))
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[0] == "data: examples.mlp.torch_mlp's own, 256 rows"
    assert "  0.weight -> 0.kernel, transposed" in lines
    assert sum(line.endswith("BROKEN") for line in lines) == 6  # all of the stage that breaks first
    assert lines[-1].startswith("verdict: differs in formula at step 0, update, 0.weight: relative difference ")
    assert f"{SAID['mlp']}; cause: examples.mlp.jax_mlp:wrong updates by AdamW" in lines[-1]


AMBIGUOUS = """
import numpy as np
import torch

import torch_impl


class Centred(torch.nn.Module):
    def __init__(self, names, rate):
        super().__init__()
        self.names, self.rate = names, rate
        self.layer = torch.nn.Linear(3, 2)
        for name in names:
            self.register_buffer(name, torch.zeros(3))

    def forward(self, x):
        mean, square = (getattr(self, name) for name in self.names)
        if self.training:
            mean.lerp_(x.mean(0), self.rate)
            square.lerp_((x**2).mean(0), self.rate)
        return self.layer(x)


def adapted(names, rate):
    model = Centred(names, rate)
    data = np.random.default_rng(0).normal(size=(2, 16, 3))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    return torch_impl.adapt(model, lambda y, x: ((y - x[:, :2]) ** 2).mean(), sgd, data=tuple(data))


first, second = adapted(("p", "q"), 0.1), adapted(("s", "t"), 0.2)
"""


def test_an_ambiguous_mapping_asks_and_the_answer_is_taken(tmp_path):
    """Running statistics that no output shows, that are updated otherwise, and whose names say nothing."""
    (tmp_path / "programs.py").write_text(AMBIGUOUS)
    pair = ("programs:first", "programs:second")
    code, out, err = parity_check(tmp_path, *pair)
    assert (code, out) == (2, "")
    assert (
        err
        == "parity: --map p: it could be s or t: a training step does not tell them apart; choose, for example p=s\n"
    )
    code, out, err = parity_check(tmp_path, *pair, "--map", "p=s", "--map", "q=t")
    assert (code, err) == (1, "")
    assert "verdict: differs in formula at step 0, statistics, p: " in out
    assert "programs:second's is 2 times programs:first's; cause: programs:second moves" in out


def test_a_wrong_answer_is_refused_in_one_line(tmp_path):
    (tmp_path / "programs.py").write_text(AMBIGUOUS)
    code, out, err = parity_check(tmp_path, "programs:first", "programs:second", "--map", "p=nowhere")
    assert (code, out) == (2, "")
    assert err == "parity: --map nowhere: B has no tensor of this name; it has layer.weight, layer.bias, s, t\n"
