import zipfile

import numpy as np
import pytest

from parity.contract import InputError
from parity.data import CIFAR10_CLASSES, load_npz
from tests.conftest import small_arrays


def test_loads_what_savez_wrote(small_npz):
    dataset = load_npz(small_npz)
    expected = small_arrays()
    np.testing.assert_array_equal(dataset.train_images, expected["train_images"])
    np.testing.assert_array_equal(dataset.test_labels, expected["test_labels"])
    assert (dataset.name, dataset.classes) == ("small", CIFAR10_CLASSES)
    assert str(small_npz) in dataset.origin


def test_takes_class_names_from_the_file(tmp_path):
    path = tmp_path / "named.npz"
    np.savez(path, classes=[f"<{n}>" for n in range(10)], **small_arrays())
    assert load_npz(path).classes[9] == "<9>"


CHANGES = {
    "train_images is float64, not uint8": {"train_images": np.zeros((4, 32, 32, 3))},
    "train_images has shape (4, 3, 32, 32)": {"train_images": np.zeros((4, 3, 32, 32), np.uint8)},
    "test_images has shape (32, 32, 3)": {"test_images": np.zeros((32, 32, 3), np.uint8)},
    "test_images is empty": {"test_images": np.zeros((0, 32, 32, 3), np.uint8)},
    "train_labels is float64, not an integer type": {"train_labels": np.zeros(102)},
    "train_labels has shape (3,), not (102,)": {"train_labels": np.zeros(3, int)},
    "train_labels runs from 0 to 10": {"train_labels": np.arange(102) % 11},
    "test_labels runs from -1 to 0": {"test_labels": -(np.arange(40) % 2)},
    "classes has 2 names": {"classes": np.array(["a", "b"])},
    "not an .npz file": {"train_images": np.array([{}] * 4, dtype=object)},
}


@pytest.mark.parametrize("problem", CHANGES)
def test_refuses_arrays_that_are_not_a_data_set(tmp_path, problem):
    path = tmp_path / "bad.npz"
    np.savez(path, **{**small_arrays(), **CHANGES[problem]})
    with pytest.raises(InputError) as error:
        load_npz(path)
    assert problem in str(error.value)
    assert str(error.value).startswith(f"data {path}: ")


@pytest.mark.parametrize("missing", ["train_images", "train_labels", "test_images", "test_labels"])
def test_refuses_a_file_without_an_array(tmp_path, missing):
    path = tmp_path / "part.npz"
    np.savez(path, **{name: value for name, value in small_arrays().items() if name != missing})
    with pytest.raises(InputError, match=f"array {missing} is missing"):
        load_npz(path)


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_npz(tmp_path / "none.npz")


def test_refuses_a_folder(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        load_npz(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 100, 5_000, 300_000])
def test_refuses_a_truncated_file(small_npz, keep):
    small_npz.write_bytes(small_npz.read_bytes()[:keep])
    with pytest.raises(InputError, match="truncated, or not an .npz file"):
        load_npz(small_npz)


def test_refuses_a_damaged_array(tmp_path):
    path = tmp_path / "damaged.npz"
    np.savez_compressed(path, **small_arrays())
    content = bytearray(path.read_bytes())
    content[2_000:2_040] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(InputError, match="truncated, or not an .npz file"):
        load_npz(path)


def test_refuses_text_and_a_bare_array(tmp_path):
    text = tmp_path / "text.npz"
    text.write_text("hello")
    with pytest.raises(InputError, match=r"truncated, or not an \.npz file \(no zip archive\)"):
        load_npz(text)
    bare = tmp_path / "bare.npy"
    np.save(bare, np.zeros(3))
    with pytest.raises(InputError, match=r"truncated, or not an \.npz file \(no zip archive\)"):
        load_npz(bare)


def test_refuses_members_that_are_not_arrays(tmp_path):
    path = tmp_path / "text.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in small_arrays():
            archive.writestr(f"{name}.npy", "hello, I am text")
    with pytest.raises(InputError, match="a member is not an array"):
        load_npz(path)


@pytest.mark.parametrize(
    "header", ["{'descr': '|u1', 'fortran_order': False, 'shape': (9" + "0" * 15 + ",), }", "{'", "{'descr': ,1}"]
)
def test_refuses_a_header_that_lies(tmp_path, header):
    path = tmp_path / "huge.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in small_arrays():
            text = header.encode().ljust(117) + b"\n"
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(InputError, match="truncated, or not an .npz file"):
        load_npz(path)
