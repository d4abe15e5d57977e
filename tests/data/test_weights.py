import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from parity.contract import InputError, initial_weights
from parity.data import load_weights, save_weights


def test_comes_back_as_it_was_saved(tmp_path):
    path = tmp_path / "w.safetensors"
    # A transposed view, as a framework may hand out, must be stored in its logical order.
    weights = {name: value.astype(np.float64) for name, value in initial_weights(0).items()}
    weights["fc1.weight"] = np.asfortranarray(weights["fc1.weight"])
    save_weights(path, weights)
    loaded = load_weights(path)
    assert loaded.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(loaded[name], value)
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_file_never_sees_the_new_one(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, initial_weights(0))
    before = path.read_bytes()
    with path.open("rb") as reader:
        save_weights(path, initial_weights(1))
        assert reader.read() == before
    assert path.read_bytes() != before


def test_torch_reads_it(tmp_path):
    save_weights(tmp_path / "w.safetensors", initial_weights(0))
    tensors = safetensors.torch.load_file(tmp_path / "w.safetensors")
    assert torch.equal(tensors["conv1.weight"], torch.tensor(initial_weights(0)["conv1.weight"]))


def test_refuses_other_tensors(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    with pytest.raises(InputError, match=rf"weights {path}: tensor conv1.bias is missing"):
        load_weights(path)


def test_refuses_dtypes_that_numpy_does_not_have(tmp_path):
    path = tmp_path / "w.safetensors"
    tensors = {name: torch.tensor(value, dtype=torch.bfloat16) for name, value in initial_weights(0).items()}
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(InputError, match=r"weights .*bfloat16"):
        load_weights(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 100])
def test_refuses_what_is_not_safetensors(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a safetensors file"):
        load_weights(path)


def test_refuses_a_truncated_file(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, initial_weights(0))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="not a safetensors file"):
        load_weights(path)


def test_refuses_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_weights(tmp_path / "none")
    with pytest.raises(InputError, match="name a safetensors file"):
        load_weights(tmp_path)
