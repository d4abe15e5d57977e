"""Weights on disk: safetensors, canonical names, shapes and layout.

Source: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from parity.contract import InputError, Weights, check_weights, nearest_file
from parity.data.files import replacing

__all__ = ["fingerprint", "load_weights", "save_weights"]


def load_weights(path: Path, *, argument: str = "weights") -> dict[str, NDArray[np.floating]]:
    """Read the CNN's weights.

    Returns:
        Canonical name -> float32 or float64 array, as stored.

    Raises:
        InputError: no such file, not safetensors, or not this CNN's tensors.
    """
    try:
        weights: dict[str, NDArray[np.floating]] = safetensors.numpy.load_file(path)
    except OSError as error:
        fix = nearest_file(path, "name a safetensors file", suffix=".safetensors")
        raise InputError(argument, path, error.strerror or str(error), fix) from error
    except SafetensorError as error:
        raise InputError(argument, path, f"not a safetensors file ({error})", "name a safetensors file") from error
    except (KeyError, TypeError) as error:  # how safetensors says that NumPy has no such dtype
        raise InputError(argument, path, f"a tensor's dtype is unknown to NumPy ({error})", "store float32") from error
    check_weights(weights, argument=argument, source=str(path))
    return weights


def save_weights(path: Path, weights: Weights, *, notes: Mapping[str, str] | None = None) -> None:
    """Write canonical weights, in one piece or not at all.

    Args:
        path: the file.
        weights: canonical name -> array.
        notes: what they are, kept in the file's metadata: who trained them, on which data, for how long.
    """
    tensors = {name: np.ascontiguousarray(value) for name, value in weights.items()}
    with replacing(path) as temporary:
        safetensors.numpy.save_file(tensors, temporary, metadata=dict(notes or {}))


def fingerprint(weights: Weights) -> str:
    """SHA-256 of the names and the values as float64, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].astype("<f8").tobytes())
    return digest.hexdigest()
