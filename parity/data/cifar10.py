"""CIFAR-10 itself: fetched and checked by torchvision, then kept as plain arrays that later runs memory-map.

torchvision compares the archive's checksums with the published ones. What it read is then kept as .npy files beside a
manifest with their SHA-256, so that later runs need neither torchvision nor the archive, and notice a damaged copy.

Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import platformdirs
from numpy.typing import NDArray

from parity.contract import InputError
from parity.data.dataset import CIFAR10_CLASSES, Dataset
from parity.data.npz import ARRAYS

__all__ = ["default_data_dir", "fetch_cifar10", "has_cifar10", "load_cifar10"]

_MANIFEST = "manifest.json"
_SPLITS = (("train", True), ("test", False))


def default_data_dir() -> Path:
    """Where data sets are kept unless told otherwise: the platform's cache folder for `parity`."""
    return platformdirs.user_cache_path("parity")


def has_cifar10(data_dir: Path) -> bool:
    """Whether a finished copy is there; `load_cifar10` checks its contents."""
    return (data_dir / "cifar10" / _MANIFEST).is_file()


def load_cifar10(data_dir: Path) -> Dataset:
    """The verified arrays, memory-mapped.

    Raises:
        InputError: they are not there, or have changed since they were verified.
    """
    folder = data_dir / "cifar10"
    if not has_cifar10(data_dir):
        raise InputError("data_dir", data_dir, "CIFAR-10 is not there", "run `parity data fetch`")
    try:
        checksums = json.loads((folder / _MANIFEST).read_text())["sha256"]
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        intact = all(_sha256(array) == checksums[name] for name, array in arrays.items())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"its files cannot be read ({error})") from error
    if not intact:
        raise _damaged(folder, "its files have changed since they were verified")
    return Dataset(name="cifar10", origin="CIFAR-10 (checksums verified)", classes=CIFAR10_CLASSES, **arrays)


def fetch_cifar10(data_dir: Path) -> Dataset:
    """Download CIFAR-10 (170 MB) with torchvision unless the archive is there already; verify and keep it.

    Raises:
        InputError: torchvision is missing, the download failed, or the archive's checksum is wrong.
    """
    try:
        from torchvision.datasets import CIFAR10  # brings torch with it: only where it is needed
    except ImportError as error:
        problem = f"torchvision, which fetches CIFAR-10, does not import ({error})"
        raise InputError("data_dir", data_dir, problem, "install torchvision") from error
    arrays: dict[str, NDArray[Any]] = {}
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        for split, train in _SPLITS:
            source = CIFAR10(str(data_dir), train=train, download=True)
            arrays[f"{split}_images"] = np.asarray(source.data)
            arrays[f"{split}_labels"] = np.asarray(source.targets, np.int32)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong checksum is a RuntimeError
        if isinstance(error, HTTPError):
            error.close()  # it is the server's answer too, and holds the connection open
        problem = f"torchvision could not fetch or verify CIFAR-10 there ({error})"
        raise InputError(
            "data_dir", data_dir, problem, "check the connection and the folder, then try again"
        ) from error
    _keep(data_dir / "cifar10", arrays)
    return load_cifar10(data_dir)


def _keep(folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays and manifest to a new folder, which takes the old one's place only when it is complete."""
    temporary = Path(tempfile.mkdtemp(prefix=".cifar10.", dir=folder.parent))
    try:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        checksums = {name: _sha256(array) for name, array in arrays.items()}
        (temporary / _MANIFEST).write_text(json.dumps({"sha256": checksums}, indent=2))
        temporary.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _damaged(folder: Path, problem: str) -> InputError:
    return InputError("data_dir", folder, f"CIFAR-10: {problem}", "delete that folder and run `parity data fetch`")
