"""A user's own images: one .npz file with four arrays, and class names if it has them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from parity.contract import InputError, nearest_file
from parity.data.dataset import CIFAR10_CLASSES, Dataset

__all__ = ["ARRAYS", "load_npz"]

SOURCES = ("auto", "cifar10", "embedded")
"""What --data takes that is no file; see `parity.data.source`."""

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def load_npz(path: Path) -> Dataset:
    """Read and check a set.

    The file holds `train_images` and `test_images`, (N, 32, 32, 3) uint8, `train_labels` and `test_labels`, (N,)
    integers from 0 to 9, and optionally `classes`, ten names.

    Raises:
        InputError: missing, truncated or not an .npz file, or arrays that are not as above.
    """
    arrays = _read(path)
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise InputError("data", path, f"array {missing[0]} is missing", f"store {', '.join(ARRAYS)}")
    classes = tuple(str(name) for name in arrays["classes"].ravel()) if "classes" in arrays else CIFAR10_CLASSES
    return Dataset(
        name=path.stem,
        origin=str(path),
        source=str(path),
        classes=classes,
        **{name: arrays[name] for name in ARRAYS},
    )


def _read(path: Path) -> dict[str, NDArray[Any]]:
    fix = "name an .npz file, as written by numpy.savez"
    try:
        # Opened here, because np.load leaves its own file open when the archive turns out to be damaged.
        with path.open("rb") as file, np.load(_require_zip(file), allow_pickle=False) as archive:
            return {name: _require_array(archive[name]) for name in (*ARRAYS, "classes") if name in archive}
    except OSError as error:
        fix = nearest_file(path, fix, known=SOURCES, suffix=".npz")
        raise InputError("data", path, error.strerror or str(error), fix) from error
    except Exception as error:  # a damaged header or member makes NumPy and zipfile raise almost anything
        raise InputError("data", path, f"truncated, or not an .npz file ({error})", fix) from error


def _require_array(member: Any) -> NDArray[Any]:
    """np.load hands out bytes where a member of the archive is not an array."""
    if not isinstance(member, np.ndarray):
        raise zipfile.BadZipFile("a member is not an array")
    return member


def _require_zip(file: BinaryIO) -> BinaryIO:
    """np.load would take other kinds of file too: a bare array, or a pickle."""
    if not zipfile.is_zipfile(file):
        raise zipfile.BadZipFile("no zip archive")
    file.seek(0)
    return file
