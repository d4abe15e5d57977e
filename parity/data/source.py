"""From what the user wrote after --data to a data set."""

from __future__ import annotations

from pathlib import Path

from parity.data.cifar10 import default_data_dir, has_cifar10, load_cifar10
from parity.data.dataset import Dataset
from parity.data.embedded import embedded
from parity.data.npz import load_npz

__all__ = ["load_data"]


def load_data(source: str = "auto", *, data_dir: Path | None = None) -> Dataset:
    """Load a data set; nothing is ever downloaded here.

    Args:
        source: "cifar10", "embedded", the name of an .npz file, or "auto": CIFAR-10 if a verified copy is in
            `data_dir`, otherwise the embedded set.
        data_dir: where CIFAR-10 is kept; None for the platform's cache folder.

    Raises:
        InputError: the set is missing or damaged.
    """
    folder = data_dir or default_data_dir()
    if source == "auto":
        source = "cifar10" if has_cifar10(folder) else "embedded"
    if source == "embedded":
        return embedded()
    return load_cifar10(folder) if source == "cifar10" else load_npz(Path(source))
