"""Why two traces differ: an honest oracle beside one with a planted fault, recorded with all stages, and without."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from parity import oracle
from parity.checking import check_batches
from parity.contract import SGD, InputError, StepLR, initial_weights
from parity.data import Dataset, embedded_set
from parity.drill import BENIGN, CATALOGUE
from parity.drill.fault import Fault, Host
from parity.oracle import layers
from parity.oracle.sgd import sgd_update
from parity.problem import cnn_problem
from parity.render.trace import comparison_lines
from parity.settings import Settings, Side
from parity.trace import Manifest, compare_traces, read_trace, record, training_data
from parity.trace.stages import STAGES
from tests.conftest import small_arrays
from tests.explain.steps import oracle as altered
from tests.explain.steps import sgd_with, stepping
from tests.trace.conftest import record_wide, rewrite_manifest
from tests.trace.fakes import Wide, wrong_lr

ENTRIES = {entry.key: entry for entry in (*CATALOGUE, *BENIGN)}
STEPS = 7


def few(count, name="small"):
    """As many of the small set's training images."""
    arrays = small_arrays()
    arrays |= {key: arrays[key][:count] for key in ("train_images", "train_labels")}
    return Dataset(name=name, origin="random images for tests", **arrays)


def pair(folder, implementation, dataset, settings, *, gradients, name="faulty"):
    """The traces of an honest oracle and of this one, read back."""
    sides = {"honest": oracle.impl, name: implementation}
    folder.mkdir(exist_ok=True)
    for side, program in sides.items():
        kept = gradients.get(side, 0) if isinstance(gradients, dict) else gradients
        record(Side(name=side, implementation=program), dataset, settings, folder / side, gradients=kept)
    return [read_trace(folder / side) for side in sides]


def planted(folder, key, *, gradients, known=True):
    """The comparison of an honest oracle with one that has a fault of the drill's catalogue."""
    entry = ENTRIES[key]
    dataset, probe = few(entry.probe.images), entry.probe
    settings = Settings(sgd=probe.sgd, batch_size=probe.batch_size, steps=STEPS, epochs=10, dtype="float64")
    problem = cnn_problem(dataset, initial_weights(0))
    host = Host(
        implementation=oracle.impl,
        problem=problem,
        settings=settings,
        batches=check_batches(problem.size, settings, STEPS),
        steps_per_epoch=probe.steps_per_epoch,
    )
    a, b = pair(folder, entry.plant(host), dataset, settings, gradients=gradients)
    return compare_traces(a, b, dataset=dataset if known else None)


def keys_of(comparison):
    return {key for cause in comparison.explanation.causes for key in cause.keys}


NAMED = [
    "other-normalisation",
    "bgr",
    "label-plus-one",
    "flatten-order",
    "flatten-order-by-layout",
    "weights-rounded-bfloat16",
    "relu-missing-fc2",
    "average-pool",
    "loss-summed",
    "softmax-twice",
    "l2-in-loss",
    "bias-gradient-lost",
    "other-momentum",
    "nesterov",
    "averaged-momentum",
    "weight-decay-added-tiny",
    "decay-on-biases",
    "decoupled-decay",
    "lr-in-float32",
    "lr-late",
    "lr-inside-buffer",
    "tensor-not-stepped",
]
"""Of each kind some; what two of them have in common is named as a class that holds both."""


@pytest.mark.parametrize("gradients", [0, STEPS], ids=["states", "stages"])
@pytest.mark.parametrize("key", NAMED)
def test_a_fault_is_named_from_the_stages_and_from_states_alone(key, gradients, tmp_path):
    found = planted(tmp_path, key, gradients=gradients)
    assert found.outcome == "differs"
    assert found.lacking is None
    right = ENTRIES[key].right_names | ({"label-offset"} if key == "label-plus-one" else set())
    assert keys_of(found) & right
    assert not found.explanation.unknown
    assert {cause.side for cause in found.explanation.causes} == {"faulty"}
    for cause in found.explanation.causes:  # fitted, then simulated: what is left is rounding
        assert cause.residual <= 1e-12 * max(1.0, cause.before)


STAGES_ONLY = ["biases-aliased", "gradient-rounded-bfloat16"]


@pytest.mark.parametrize("key", STAGES_ONLY)
def test_what_states_do_not_show_is_said_with_the_option_that_keeps_it(key, tmp_path):
    found = planted(tmp_path / "states", key, gradients=0)
    assert (found.outcome, found.explanation) == ("differs", None)
    assert found.lacking.endswith("but not where: record both with --gradients 8")
    assert keys_of(planted(tmp_path / "stages", key, gradients=STEPS)) & ENTRIES[key].right_names


@pytest.mark.parametrize("key", ["reordered-inside-batch", "keras-form", "memory-order", "nesterov-in-two-parts"])
def test_a_benign_change_has_no_cause(key, tmp_path):
    found = planted(tmp_path, key, gradients=STEPS)
    assert (found.outcome, found.explanation, found.lacking) == ("match", None, None)


def test_two_faults_are_two_causes(tmp_path):
    def spatial(x):
        return x.reshape(len(x), 16, 5, 5).transpose(0, 2, 3, 1).reshape(len(x), -1)

    def spatial_back(upstream):
        return upstream.reshape(len(upstream), 5, 5, 16).transpose(0, 3, 1, 2).reshape(len(upstream), -1)

    def linear(x, weight, bias):
        return layers.linear(spatial(x) if weight.shape == (120, 400) else x, weight, bias)

    def backward(upstream, x, weight):
        first = weight.shape == (120, 400)
        by_x, *others = layers.linear_backward(upstream, spatial(x) if first else x, weight)
        return spatial_back(by_x) if first else by_x, *others

    operations = sgd_with(nesterov=True).operations
    both = altered(linear=linear, linear_backward=backward, sgd_update=operations.sgd_update)
    settings = Settings(steps=STEPS, epochs=10, dtype="float64")
    for folder, gradients in (("states", 0), ("stages", STEPS)):
        traces = pair(tmp_path / folder, both, few(10), settings, gradients=gradients)
        found = compare_traces(*traces, dataset=few(10))
        assert [cause.key for cause in found.explanation.causes] == ["flatten-order", "nesterov"]


def test_where_one_side_has_its_stages_the_other_needs_no_data_set(tmp_path):
    """The batches that were due are those that have the hashes in the traces."""
    settings = Settings(steps=STEPS, epochs=10, dtype="float64")
    traces = pair(tmp_path, sgd_with(nesterov=True), few(10), settings, gradients={"honest": STEPS})
    assert keys_of(compare_traces(*traces)) == {"nesterov"}


def test_a_fault_that_begins_later_is_found_about_its_step(tmp_path):
    def later(p, g, b, sgd, step):
        return sgd_update(p, g, b, replace(sgd, nesterov=step >= 12), step)

    settings = Settings(steps=20, epochs=10, dtype="float64")
    traces = pair(tmp_path, stepping(later), few(10), settings, gradients=20)
    found = compare_traces(*traces)
    assert found.first_break.step == 12
    (cause,) = found.explanation.causes
    assert (cause.key, cause.step, found.explanation.unknown) == ("nesterov", 12, ())
    assert cause.sentence.endswith(", seen from step 12 on: steps 0 to 7 obey the formulas")
    shorter = [replace(trace, path=tmp_path / "none") for trace in traces]  # without their stages
    assert compare_traces(*shorter, dataset=few(10)).lacking == (
        "in steps 0 to 3, of which they hold enough, no side leaves its formulas: record both with --gradients 18"
    )


def test_a_learning_rate_that_changes_late_is_found_about_its_step(tmp_path):
    late = stepping(lambda p, g, b, sgd, step: sgd_update(p, g, b, sgd, max(step - 1, 0)))
    sgd = SGD(lr=0.01, schedule=StepLR(step_size=12, gamma=0.5))
    settings = Settings(sgd=sgd, steps=20, epochs=10, dtype="float64")
    found = compare_traces(*pair(tmp_path, late, few(10), settings, gradients=20))
    (cause,) = found.explanation.causes
    assert (cause.key, cause.step, found.explanation.unknown) == ("lr-late", 12, ())


def test_rates_that_change_late_are_named_with_their_steps(tmp_path):
    def once(p, g, b, sgd, step):
        return sgd_update(p, g, b, replace(sgd, lr=0.002 if step == 9 else sgd.lr), step)

    settings = Settings(steps=12, epochs=10, dtype="float64")
    found = compare_traces(*pair(tmp_path, stepping(once), few(10), settings, gradients=12))
    (cause,) = found.explanation.causes
    assert (cause.key, cause.step, found.explanation.unknown) == ("other-lr", 9, ())
    assert cause.sentence.startswith("updates in steps 7 to 11 by rates of 0.001, 0.001, 0.002, 0.001, 0.001, where ")
    assert "seen from" not in cause.sentence


def test_a_fault_that_is_always_there_has_no_beginning(tmp_path):
    found = planted(tmp_path, "nesterov", gradients=STEPS)
    assert "seen from" not in found.explanation.line


def test_without_the_images_they_are_asked_for(tmp_path):
    found = planted(tmp_path, "nesterov", gradients=0, known=False)
    assert found.lacking == (
        "their images are not at hand: name their data set with --data, or record both with --gradients 8"
    )
    lines = list(comparison_lines(found))
    assert lines[-2] == f"cause: not in the traces: {found.lacking}"
    assert lines[-1] == f"verdict: differs at step 0, update, {found.first_break.tensor}"


def test_the_embedded_set_needs_no_naming(tmp_path):
    dataset, settings = embedded_set(), Settings(steps=4, dtype="float64")
    assert keys_of(compare_traces(*pair(tmp_path, sgd_with(momentum=0.99), dataset, settings, gradients=0))) == {
        "other-momentum"
    }


def test_another_data_set_is_refused(tmp_path):
    settings = Settings(steps=2, epochs=10, dtype="float64")
    a, _ = pair(tmp_path, oracle.impl, few(10), settings, gradients=0)
    np.savez(tmp_path / "other.npz", **small_arrays())
    with pytest.raises(InputError, match="its SHA-256 is not that of small, which .*; name that set, or leave it out"):
        training_data(a, str(tmp_path / "other.npz"))


def test_a_match_reads_nothing_more(tmp_path, monkeypatch):
    settings = Settings(steps=STEPS, epochs=10, dtype="float64")
    traces = pair(tmp_path, oracle.impl, few(10), settings, gradients=STEPS)

    def refuse(*_, **__):
        raise AssertionError("read")

    for name in ("first_steps", "load_data"):
        monkeypatch.setattr(f"parity.trace.cause.{name}", refuse)
    found = compare_traces(*traces)
    assert (found.outcome, found.explanation, found.lacking) == ("match", None, None)


class RunsOtherwise:
    """The oracle whose fast path has another momentum than its observed steps."""

    def __getattr__(self, name):
        return getattr(oracle.impl, name)

    def run(self, state, data, plan):
        return sgd_with(momentum=0.5).run(state, data, plan)


def test_a_fast_path_of_its_own_is_the_cause(tmp_path):
    settings = Settings(steps=STEPS, epochs=10, dtype="float64")
    found = compare_traces(*pair(tmp_path, RunsOtherwise(), few(10), settings, gradients=STEPS))
    (cause,) = found.explanation.causes
    assert (cause.key, cause.side, cause.step) == ("fast-path", "faulty", 1)


class LateRun:
    """The oracle whose `run` is another from step 6 on: the loss that it reports, or the momentum."""

    def __init__(self, what):
        self.what = what

    def __getattr__(self, name):
        return getattr(oracle.impl, name)

    def run(self, state, data, plan):
        losses = []
        for rows in plan:
            late = state.steps >= 6
            program = sgd_with(momentum=0.5) if late and self.what == "momentum" else oracle.impl
            state, loss = program.run(state, data, rows[np.newaxis])
            losses.append(loss * (2 if late and self.what == "loss" else 1))
        return state, np.concatenate(losses)


@pytest.mark.parametrize(
    ("what", "stage", "tensor"), [("loss", "loss", "loss"), ("momentum", "update", "conv1.weight")]
)
def test_a_fast_path_that_differs_where_no_state_is_kept_in_full(what, stage, tensor, tmp_path):
    settings = Settings(steps=14, epochs=10, dtype="float64")
    found = compare_traces(*pair(tmp_path, LateRun(what), few(10), settings, gradients=14))
    (cause,) = found.explanation.causes
    assert (cause.key, cause.side, cause.step) == ("fast-path", "faulty", 6)
    assert (cause.place.stage, cause.place.tensor) == (stage, tensor)
    assert found.explanation.unknown == ()


def test_a_difference_that_no_side_shows_by_itself_is_unknown(tmp_path):
    """Of a buffer that is not kept in full a trace holds the norm, which is not held against the stages."""
    settings = Settings(steps=STEPS, epochs=10, dtype="float64")
    a, b = pair(tmp_path, oracle.impl, few(10), settings, gradients=STEPS)
    norms = b.momentum_norms * np.where(b.counts == 5, 1.01, 1.0)[:, np.newaxis]
    found = compare_traces(a, replace(b, momentum_norms=norms))
    assert (found.outcome, found.explanation.causes) == ("differs", ())
    (unknown,) = found.explanation.unknown
    assert (unknown.step, unknown.place.stage, unknown.alone) == (4, "momentum", False)
    assert str(unknown).startswith("unknown: honest and faulty are apart at step 4, momentum, ")


def test_a_side_that_keeps_no_buffer_and_a_schedule_that_is_ignored(tmp_path):
    settings = Settings(sgd=SGD(momentum=0.0, lr=0.01), steps=4, epochs=10, dtype="float64")
    found = compare_traces(
        *pair(tmp_path, sgd_with(weight_decay=0.01), few(10), settings, gradients=0), dataset=few(10)
    )
    assert "weight-decay-added" in keys_of(found)


def test_one_program_recorded_twice_is_told_apart_by_its_folders(tmp_path):
    settings = Settings(steps=4, epochs=10, dtype="float64")
    for folder, program in (("a", oracle.impl), ("b", sgd_with(nesterov=True))):
        record(Side(name="mine", implementation=program), few(10), settings, tmp_path / folder)
    found = compare_traces(read_trace(tmp_path / "a"), read_trace(tmp_path / "b"), dataset=few(10))
    assert [cause.side for cause in found.explanation.causes] == [f"mine ({tmp_path / 'b'})"]


def test_other_programs_are_held_against_each_other(tmp_path, small):
    """Their formulas are not the CNN's, but their gradients tell their optimizers."""
    plain = [record_wide(tmp_path / f"plain {name}", small, side) for name, side in (("a", None), ("b", wrong_lr))]
    assert compare_traces(*plain).lacking.endswith("record both with --gradients 8")
    settings = Settings(steps=12, epochs=10, dtype="float64")
    for name, program in (("a", Wide()), ("b", wrong_lr)):
        record(Side(name=name, implementation=program), small, settings, tmp_path / name, gradients=12)
    found = compare_traces(read_trace(tmp_path / "a"), read_trace(tmp_path / "b"))
    (cause,) = found.explanation.causes
    assert (cause.side, cause.key) == ("b", "other-lr")
    assert "a learning rate of 0.001001" in cause.sentence


def test_the_json_holds_the_cause(tmp_path):
    report = json.loads(planted(tmp_path, "nesterov", gradients=0).to_json())
    (cause,) = report["explanation"]["causes"]
    assert (cause["key"], cause["side"], report["lacking"]) == ("nesterov", "faulty", None)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda folder: (folder / "stages.safetensors").unlink(), "stages.safetensors is missing"),
        (lambda folder: (folder / "stages.json").unlink(), "stages.json is missing"),
        (lambda folder: (folder / "gradients.npz").unlink(), "gradients.npz is missing"),
        (lambda folder: (folder / "gradients.json").unlink(), "gradients.json is missing"),
        (
            lambda folder: (folder / "stages.safetensors").write_bytes(b"x"),
            "stages.safetensors was truncated or edited",
        ),
        (lambda folder: (folder / "stages.json").write_text("{"), "stages.json is damaged"),
        (lambda folder: (folder / "stages.json").write_text("{}"), "the format of stages.json is not parity.stages/1"),
    ],
)
def test_damaged_stages_are_refused(spoil, problem, tmp_path):
    settings = Settings(steps=4, epochs=10, dtype="float64")
    pair(tmp_path, sgd_with(nesterov=True), few(10), settings, gradients=4)
    copied = shutil.copytree(tmp_path / "faulty", tmp_path / "copied")
    spoil(copied)
    with pytest.raises(InputError) as caught:
        compare_traces(read_trace(tmp_path / "honest"), read_trace(copied))
    assert caught.value.problem.startswith(problem)


def rename(old, new):
    return lambda arrays: {key.replace(old, new): value for key, value in arrays.items()}


def without(kind):
    return lambda arrays: {key: value for key, value in arrays.items() if not key.startswith(kind)}


def rewrite_stages(folder, change):
    """Change the stages, with the SHA-256 that belongs to them everywhere."""
    content = safetensors.numpy.save(change(safetensors.numpy.load_file(folder / STAGES)))
    (folder / STAGES).write_bytes(content)
    digest = json.loads((folder / "stages.json").read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
    (folder / "stages.json").write_text(json.dumps(digest))
    rewrite_manifest(folder, beside={**Manifest.read(folder).beside, STAGES: digest["sha256"]})


@pytest.fixture(scope="module")
def nesterov(tmp_path_factory):
    """An honest side's trace and a faulty one's, from one seed and from another."""
    folder = tmp_path_factory.mktemp("nesterov")
    for seed in (0, 1):
        settings = Settings(steps=4, epochs=10, dtype="float64", seed=seed)
        pair(folder / str(seed), sgd_with(nesterov=True), few(10), settings, gradients=4)
    return folder


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (rename(".2.", ".9."), "is no tensor of its 4 steps"),
        (rename(".2.", ".-2."), "is no tensor of its 4 steps"),
        (rename("loss.", "losses."), "losses.0.loss is no tensor of its 4 steps"),
        (rename("loss.2.loss", "loss.2.mean"), "step 2 has other tensors as loss than step 0"),
        (rename("activations.3.", "activations.3.x"), "step 3 has other tensors as activations than step 0"),
        (without("batch"), "step 0 has nothing as batch"),
        (without("logits"), "step 0 has nothing as logits"),
        (without("loss"), "step 0 has nothing as loss"),
        (lambda arrays: {**arrays, "weights.1.fc1.bias": np.zeros(3)}, "weights.1.fc1.bias is (3,)"),
    ],
)
def test_stages_that_are_whole_and_no_stages_are_refused(change, problem, nesterov, tmp_path):
    copied = shutil.copytree(nesterov / "0" / "faulty", tmp_path / "copied")
    rewrite_stages(copied, change)
    with pytest.raises(InputError) as caught:
        compare_traces(read_trace(nesterov / "0" / "honest"), read_trace(copied))
    assert caught.value.problem.startswith("stages.safetensors does not hold what the format promises: ")
    assert problem in caught.value.problem


FIRST_STEPS = ("gradients.npz", "gradients.json", STAGES, "stages.json")


@pytest.mark.parametrize("source", ["0/honest", "1/faulty"], ids=["side", "seed"])
def test_first_steps_of_another_recording_are_refused(source, nesterov, tmp_path):
    """Whole as they are, they would give another side's cause."""
    copied = shutil.copytree(nesterov / "0" / "faulty", tmp_path / "copied")
    for name in FIRST_STEPS:
        shutil.copy(nesterov / source / name, copied / name)
    with pytest.raises(InputError, match="stages.safetensors is of another recording, or was edited"):
        compare_traces(read_trace(nesterov / "0" / "honest"), read_trace(copied))


def test_first_steps_from_other_weights_are_refused(nesterov, tmp_path):
    """Also where the manifest, as one of before, does not name the files."""
    copied = shutil.copytree(nesterov / "0" / "faulty", tmp_path / "copied")
    for name in FIRST_STEPS:
        shutil.copy(nesterov / "1" / "faulty" / name, copied / name)
    rewrite_manifest(copied, beside={})
    with pytest.raises(InputError, match=r"gradients.npz is of another recording: it begins with other weights"):
        compare_traces(read_trace(nesterov / "0" / "honest"), read_trace(copied))


def test_first_steps_of_another_model_are_refused(nesterov, tmp_path, small):
    settings = Settings(steps=4, epochs=10, dtype="float64")
    record(Side(name="wide", implementation=Wide()), small, settings, tmp_path / "wide", gradients=4)
    copied = shutil.copytree(nesterov / "0" / "faulty", tmp_path / "copied")
    for name in FIRST_STEPS:
        shutil.copy(tmp_path / "wide" / name, copied / name)
    rewrite_manifest(copied, beside={})
    with pytest.raises(InputError, match="its parameters in step 0 are not those of the manifest"):
        compare_traces(read_trace(nesterov / "0" / "honest"), read_trace(copied))


def test_a_manifest_without_first_steps_is_as_before(nesterov, tmp_path):
    copied = shutil.copytree(nesterov / "0" / "faulty", tmp_path / "copied")
    rewrite_manifest(copied, beside={})
    assert "beside" not in json.loads((copied / "manifest.json").read_text())
    found = compare_traces(read_trace(nesterov / "0" / "honest"), read_trace(copied))
    assert keys_of(found) == {"nesterov"}


def test_every_fault_here_is_in_the_catalogue():
    assert all(isinstance(ENTRIES[key], Fault) for key in (*NAMED, *STAGES_ONLY))
