"""Fixtures: small data for speed, real images where they are at hand."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from parity.data import Dataset, default_data_dir, has_cifar10, load_data

# One thread, here and in the processes that tests start: beside any other busy process, a step of two threads that wait
# for each other can take a hundred times as long. Before torch is imported, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts background jobs with Ctrl-C ignored, and what they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Hypothesis' own limit of 200 ms an example would fail honest code: torch's first optimizer takes a second to make.
hypothesis.settings.register_profile("parity", deadline=None)
hypothesis.settings.load_profile("parity")

REAL_IMAGES = "PARITY_REAL_IMAGES"


def small_arrays(train: int = 102, test: int = 40) -> dict[str, np.ndarray]:
    """Random images: 102 in batches of 4 make 26 steps an epoch, the last of 2 images."""
    rng = np.random.default_rng(7)
    return {
        "train_images": rng.integers(0, 256, (train, 32, 32, 3), np.uint8),
        "train_labels": rng.integers(0, 10, train),
        "test_images": rng.integers(0, 256, (test, 32, 32, 3), np.uint8),
        "test_labels": rng.integers(0, 10, test),
    }


@pytest.fixture(scope="session")
def small() -> Dataset:
    return Dataset(name="small", origin="random images for tests", **small_arrays())


@pytest.fixture
def small_npz(tmp_path: Path) -> Path:
    path = tmp_path / "small.npz"
    np.savez(path, **small_arrays())
    return path


@pytest.fixture(scope="session")
def real() -> Dataset:
    """Real CIFAR-10 images: the .npz file that PARITY_REAL_IMAGES names, or a copy that `parity data fetch` made."""
    if name := os.environ.get(REAL_IMAGES):
        return load_data(name)
    if has_cifar10(default_data_dir()):
        return load_data("cifar10")
    pytest.skip(f"no real images: set {REAL_IMAGES} to an .npz file, or run `parity data fetch`")
