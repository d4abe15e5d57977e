"""From what the user wrote after --data to a data set."""

from __future__ import annotations

from pathlib import Path

from parity.data.cifar10 import default_data_dir, fetch_cifar10, has_cifar10, load_cifar10
from parity.data.dataset import Dataset
from parity.data.embedded import embedded_set
from parity.data.npz import load_npz

__all__ = ["load_data"]


def load_data(source: str = "auto", *, data_dir: Path | None = None) -> Dataset:
    """Load a data set; only an explicit "cifar10" may download.

    Args:
        source: "cifar10" (fetched if it is not in `data_dir`), "embedded", the name of an .npz file, or "auto":
            CIFAR-10 if a verified copy is in `data_dir`, otherwise the embedded set.
        data_dir: where CIFAR-10 is kept; None for the platform's cache folder.

    Raises:
        InputError: the set is missing, damaged, or cannot be fetched.
    """
    folder = data_dir or default_data_dir()
    if source == "auto":
        source = "cifar10" if has_cifar10(folder) else "embedded"
    if source == "embedded":
        return embedded_set()
    if source == "cifar10":
        return load_cifar10(folder) if has_cifar10(folder) else fetch_cifar10(folder)
    return load_npz(Path(source))
