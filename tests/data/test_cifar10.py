"""torchvision's own CIFAR10 class downloads a small archive of the official format, with its own checksums."""

import hashlib
import json
import pickle
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torchvision

from parity.contract import InputError
from parity.data import fetch_cifar10, has_cifar10, load_cifar10, load_data

# torchvision unpacks the archive without saying how strictly; newer Pythons want it said.
pytestmark = pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter extracted tar:DeprecationWarning")

PER_FILE = 6
TRAIN_FILES = [f"data_batch_{number}" for number in range(1, 6)]


def write_pickle(path, content):
    path.write_bytes(pickle.dumps(content))
    return path.name, hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """A web server on loopback, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture
def archive(tmp_path, server, monkeypatch):
    """An archive that torchvision will take for the official one, and the pixels in it."""
    rng = np.random.default_rng(0)
    source = tmp_path / "source" / "cifar-10-batches-py"
    source.mkdir(parents=True)
    pixels = rng.integers(0, 256, (PER_FILE * 6, 3, 32, 32), np.uint8)
    checksums = []
    for number, name in enumerate([*TRAIN_FILES, "test_batch"]):
        part = pixels[number * PER_FILE : (number + 1) * PER_FILE]
        content = {"data": part.reshape(PER_FILE, -1), "labels": [(number + i) % 10 for i in range(PER_FILE)]}
        checksums.append(write_pickle(source / name, content))
    names = list("abcdefghij")
    meta = write_pickle(source / "batches.meta", {"label_names": names})
    folder, address = server
    path = folder / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(source, source.name)
    official = torchvision.datasets.CIFAR10
    monkeypatch.setattr(official, "url", f"{address}/{path.name}")
    monkeypatch.setattr(official, "tgz_md5", hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest())
    monkeypatch.setattr(official, "train_list", [list(item) for item in checksums[:5]])
    monkeypatch.setattr(official, "test_list", [list(item) for item in checksums[5:]])
    monkeypatch.setattr(official, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return path, pixels.transpose(0, 2, 3, 1)


def test_fetches_verifies_keeps_and_memory_maps(archive, tmp_path):
    _, pixels = archive
    home = tmp_path / "home"
    assert not has_cifar10(home)
    fetched = fetch_cifar10(home)
    again = load_data("auto", data_dir=home)
    for dataset in (fetched, again):
        assert (dataset.name, dataset.origin) == ("cifar10", "CIFAR-10 (checksums verified)")
        assert isinstance(dataset.train_images, np.memmap)
        np.testing.assert_array_equal(dataset.train_images, pixels[: 5 * PER_FILE])
        np.testing.assert_array_equal(dataset.test_images, pixels[5 * PER_FILE :])
        assert dataset.test_labels.tolist() == [5, 6, 7, 8, 9, 0]


def test_fetching_again_replaces_the_copy(archive, tmp_path):
    fetch_cifar10(tmp_path)
    fetch_cifar10(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".cifar10")] == []


def test_a_wrong_archive_is_refused_and_nothing_is_kept(archive, tmp_path):
    path, _ = archive
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="could not fetch or verify CIFAR-10 there"):
        fetch_cifar10(tmp_path / "home")
    assert not has_cifar10(tmp_path / "home")


def test_no_connection_is_one_line(archive, tmp_path, monkeypatch):
    path, _ = archive
    path.unlink()  # the server then answers 404
    with pytest.raises(InputError, match="check the connection") as error:
        fetch_cifar10(tmp_path / "home")
    assert "\n" not in str(error.value)


def test_changed_files_are_refused(archive, tmp_path):
    fetch_cifar10(tmp_path)
    changed = tmp_path / "cifar10" / "train_labels.npy"
    np.save(changed, np.load(changed)[::-1])
    with pytest.raises(InputError, match="its files have changed since they were verified"):
        load_cifar10(tmp_path)


@pytest.mark.parametrize("name", ["train_images.npy", "manifest.json"])
def test_damaged_files_are_refused(archive, tmp_path, name):
    fetch_cifar10(tmp_path)
    (tmp_path / "cifar10" / name).write_bytes(b"{")
    with pytest.raises(InputError, match=r"its files cannot be read .*; delete that folder"):
        load_cifar10(tmp_path)


def test_a_manifest_without_checksums_is_refused(archive, tmp_path):
    fetch_cifar10(tmp_path)
    (tmp_path / "cifar10" / "manifest.json").write_text(json.dumps({"sha256": {}}))
    with pytest.raises(InputError, match="its files cannot be read"):
        load_cifar10(tmp_path)


def test_auto_never_downloads_and_cifar10_by_name_does(archive, tmp_path):
    assert load_data("auto", data_dir=tmp_path).name == "embedded"
    assert not has_cifar10(tmp_path)
    assert load_data("cifar10", data_dir=tmp_path).name == "cifar10"
    assert load_data("auto", data_dir=tmp_path).name == "cifar10"


def test_loading_alone_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"CIFAR-10 is not there; run `parity data fetch`"):
        load_cifar10(tmp_path)


def test_without_torchvision_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(InputError, match="does not import .*; install torchvision"):
        fetch_cifar10(tmp_path)
