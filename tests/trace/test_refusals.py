"""What cannot be compared is refused, with what is wrong and where; each time with a copy that has just that fault."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from parity.contract import SGD, InputError, StepLR, initial_weights
from parity.data import Dataset
from parity.trace import Manifest, compare_traces, read_trace
from parity.trace.manifest import MANIFEST
from tests.conftest import small_arrays
from tests.trace.conftest import edit_json, record_wide, rewrite_chunk, rewrite_manifest, sign_json
from tests.trace.fakes import Wide


def refusal(folder, argument="trace"):
    with pytest.raises(InputError) as caught:
        read_trace(folder, argument=argument)
    assert str(folder) in str(caught.value)
    return caught.value.problem


def files(folder):
    return [folder / chunk.file for chunk in Manifest.read(folder).chunks]


def test_the_copy_itself_is_sound(copied):
    assert read_trace(copied).manifest.complete


def test_a_truncated_file(copied):
    last = files(copied)[1]
    last.write_bytes(last.read_bytes()[:-1])
    assert refusal(copied) == f"{last.name} was truncated or edited: its SHA-256 is another"


def test_an_edited_file(copied):
    first = files(copied)[0]
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    assert refusal(copied) == f"{first.name} was truncated or edited: its SHA-256 is another"


def test_a_missing_file(copied):
    files(copied)[0].unlink()
    assert refusal(copied).endswith("cannot be read (No such file or directory)")


def test_a_missing_manifest_and_a_missing_folder(copied, tmp_path):
    (copied / MANIFEST).unlink()
    for folder in (copied, tmp_path / "nowhere"):
        assert refusal(folder) == "manifest.json cannot be read (No such file or directory)"


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[1]", b'{"a": 1}', b"null"])
def test_a_manifest_that_is_none(copied, content):
    (copied / MANIFEST).write_bytes(content)
    assert refusal(copied).startswith(("manifest.json is damaged", "manifest.json does not say that it is a trace"))


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["settings"]["sgd"].update(lr=0.002),
        lambda manifest: manifest["chunks"].pop(),
        lambda manifest: manifest.pop("sha256"),
        lambda manifest: manifest.update(complete=False),
        lambda manifest: manifest.pop("device"),
    ],
)
def test_an_edited_manifest(copied, change):
    edit_json(copied, change)
    assert refusal(copied) == "manifest.json was edited: its SHA-256 is another"


@pytest.mark.parametrize("version", ["parity.trace/2", "parity.report/1", 3])
def test_an_unknown_format_version(copied, version):
    edit_json(copied, lambda manifest: manifest.update(format=version))
    assert refusal(copied) == f"the format is {version}, not parity.trace/1"


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("device"),
        lambda manifest: manifest.update(more=1),
        lambda manifest: manifest.update(tensors=3),
        lambda manifest: manifest.update(settings=None),
        lambda manifest: manifest["settings"].update(batch_size=0),
        lambda manifest: manifest["chunks"][0].pop("first"),
    ],
)
def test_a_manifest_without_what_the_format_promises(copied, change):
    """As another program might write it, its SHA-256 being right."""
    sign_json(copied, change)
    assert "does not hold what parity.trace/1 promises" in refusal(copied)


def test_a_trace_without_a_complete_step(copied):
    rewrite_manifest(copied, chunks=(), complete=False, ending="recording")
    assert refusal(copied) == "it holds no complete step (recording)"


def test_a_chunk_left_out(copied):
    rewrite_manifest(copied, chunks=Manifest.read(copied).chunks[1:])
    assert refusal(copied) == "steps 0 to 249 are missing"


@pytest.mark.parametrize("name", ["losses", "norms", "momentum_norms", "base", "moves", "weights.256.fc3.bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity(copied, name, value):
    rewrite_chunk(copied, 1, lambda arrays: arrays[name].__setitem__((0,) * arrays[name].ndim, value))
    assert refusal(copied).endswith("holds NaN or infinity")


def set_array(name, value):
    return lambda arrays: arrays.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda arrays: arrays.pop("moves"), "does not hold what the format promises (KeyError('moves'))"),
        (set_array("extra", np.zeros(3)), "does not hold what the format promises"),
        (set_array("other.1.x", np.zeros(3)), "does not hold what the format promises"),
        (set_array("losses", np.zeros(49)), "losses is float64 (49,), not float64 (50,)"),
        (set_array("losses", np.zeros(50, np.float32)), "losses is float32 (50,), not float64 (50,)"),
        (set_array("moves", np.zeros((50, 73), np.float32)), "moves is float32 (50, 73), not float32 (50, 74)"),
        (set_array("counts", np.arange(250, 300)), "its recorded steps are not in order"),
        (set_array("counts", np.arange(252, 302)), "its recorded steps are not in order"),
        (set_array("counts", np.full(50, 260)), "its recorded steps are not in order"),
        (set_array("weights.900.fc3.bias", np.zeros(10)), "a full state belongs to no recorded step"),
        (set_array("weights.256.fc3.bias", np.zeros(9)), "a full state has other parameters"),
        (lambda arrays: arrays.pop("weights.256.fc3.bias"), "a full state has other parameters"),
        (lambda arrays: arrays.pop("momentum.256.fc3.bias"), "a full state has other momentum buffers"),
    ],
)
def test_a_file_that_contradicts_the_manifest(copied, change, problem):
    rewrite_chunk(copied, 1, change)
    assert problem in refusal(copied)


def test_a_file_that_is_no_safetensors(copied, monkeypatch):
    monkeypatch.setattr("safetensors.numpy.save", lambda _: b"not tensors")
    rewrite_chunk(copied, 1, lambda _: None)
    assert "does not hold what the format promises" in refusal(copied)


OTHER_RUNS = [
    ({"seed": 1}, "its seed is 1, not 0 as in"),
    ({"batch_size": 5}, "its batch size is 5, not 4 as in"),
    ({"steps": 299}, "its steps is 299, not 300 as in"),
    ({"epochs": 99}, "its epochs is 99, not 100 as in"),
    ({"dtype": "float32"}, "its dtype is float32, not float64 as in"),
    ({"sgd": SGD(lr=0.002)}, "its lr is 0.002, not 0.001 as in"),
    ({"sgd": SGD(nesterov=True)}, "its nesterov is True, not False as in"),
    (
        {"sgd": SGD(schedule=StepLR(step_size=3, every=26))},
        "its schedule is StepLR(step_size=3, gamma=0.1) per 26 steps, not None as in",
    ),
    ({"sgd": SGD(clip_norm=1.0)}, "its clip norm is 1.0, not None as in"),
    ({"weights": initial_weights(5)}, "its initial weights' SHA-256 is "),
    ({"nudge": 3}, "its weights were nudged with seed 3, those of"),
]


def compared(a, b, nulls=()):
    with pytest.raises(InputError) as caught:
        compare_traces(a, b, nulls)
    return caught.value


@pytest.mark.parametrize(("changes", "problem"), OTHER_RUNS)
def test_another_run(small, original, tmp_path, changes, problem):
    error = compared(read_trace(original), record_wide(tmp_path / "other", small, **changes))
    assert error.problem.startswith(problem)
    assert str(original) in error.problem
    assert error.value == tmp_path / "other"


def test_other_data(original, tmp_path):
    arrays = small_arrays()
    arrays["test_labels"][0] = (arrays["test_labels"][0] + 1) % 10
    other = record_wide(tmp_path / "other", Dataset(name="small", origin="another", **arrays))
    assert compared(read_trace(original), other).problem.startswith("its data's SHA-256 is ")


def test_another_plan(original, copied):
    rewrite_chunk(copied, 1, lambda arrays: arrays["batches"].__setitem__(7, 1))
    assert compared(read_trace(original), read_trace(copied)).problem == (
        f"step 257 was trained on another batch than in {original}"
    )


def test_the_batch_hashes_are_of_contents_and_order(small, original, tmp_path):
    """Equal only where the same images with the same labels come in the same order."""
    reordered = record_wide(tmp_path / "other", small, seed=1)
    trace = read_trace(original)
    assert len({*trace.batches.tolist(), *reordered.batches.tolist()}) == 2 * len(trace.batches)


def test_another_model(small, original, tmp_path):
    class Narrow(Wide):
        def start(self, weights, sgd, *, dtype, device):
            state = super().start(weights, sgd, dtype=dtype, device=device)
            return replace(state, weight=state.weight[:, :96])

        def place(self, state, images, labels):
            features, labels = super().place(state, images, labels)
            return features[:, :96], labels

    class Renamed(Wide):
        def weights(self, state):
            return {f"my.{name}": value for name, value in super().weights(state).items()}

        def momentum(self, state):
            return {f"my.{name}": value for name, value in super().momentum(state).items()}

    trace = read_trace(original)
    narrow = record_wide(tmp_path / "narrow", small, Narrow())
    assert compared(trace, narrow).problem == f"its tensor fc3.weight is (10, 96), not (10, 192) as in {original}"
    renamed = record_wide(tmp_path / "renamed", small, Renamed())
    assert compared(trace, renamed).problem == f"its tensor fc3.bias is missing, not (10,) as in {original}"


def test_null_runs_that_are_none(small, original, tmp_path):
    trace = read_trace(original)
    same = read_trace(shutil.copytree(original, tmp_path / "same"))
    other = record_wide(tmp_path / "other", small, name="another", nudge=1)
    thin = record_wide(tmp_path / "thin", small, nudge=1, every=2)
    seed = record_wide(tmp_path / "seed", small, nudge=1, seed=4)
    for null, problem in (
        (same, "it starts from the same weights as"),
        (other, "it is a run of another, not of wide as"),
        (thin, "it records every 2 steps, not every 1 as"),
        (seed, "its seed is 4, not 0 as in"),
    ):
        error = compared(trace, trace, [null])
        assert (error.argument, error.value) == ("null", null.path)
        assert error.problem.startswith(problem)


def test_a_folder_that_is_not_empty_a_file_and_no_parent(small, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    (tmp_path / "file").touch()
    for name, problem in (
        ("full", "the folder is not empty"),
        ("file", "it is a file"),
        ("a/b", f"the folder {tmp_path / 'a'} does not exist"),
    ):
        with pytest.raises(InputError) as caught:
            record_wide(tmp_path / name, small)
        assert (caught.value.argument, caught.value.problem) == ("out", problem)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


def test_a_negative_nudge_and_a_distance_below_1(small, tmp_path):
    for name, value in (("nudge", -1), ("every", 0)):
        with pytest.raises(InputError, match=f"{name} {value}: "):
            record_wide(tmp_path / "trace", small, **{name: value})
    assert not (tmp_path / "trace").exists()


def test_an_empty_folder_is_used(small, tmp_path):
    (tmp_path / "trace").mkdir()
    assert record_wide(tmp_path / "trace", small, steps=3).manifest.complete
