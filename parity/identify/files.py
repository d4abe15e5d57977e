"""Recorded runs as one .npz file, which any framework's program can write.

    parameters/<name>   (steps + 1, ...), before the first step and after each
    gradients/<name>    (steps, ...)
    steps               (steps,) integers, optional: the steps' numbers, 0, 1, 2, ...

    numpy.savez("run.npz", **{f"parameters/{n}": numpy.stack([p[n] for p in parameters]) for n in parameters[0]},
                **{f"gradients/{n}": numpy.stack([g[n] for g in gradients]) for n in gradients[0]})

A step at which a tensor has no gradient is a row of NaN, a tensor that never has one is left out. A folder with one
.npy file for each array, under the same names, is read as well.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parity.contract import InputError, nearest_file
from parity.identify.run import step_numbers

__all__ = ["Recorded", "load_run", "save_run"]

Recorded = tuple[list[dict[str, NDArray[np.generic]]], list[dict[str, NDArray[np.generic]]], list[int] | None]

_PARAMETERS, _GRADIENTS, _STEPS = "parameters/", "gradients/", "steps"
_FIX = "store parameters/<name>, (steps + 1, ...), and gradients/<name>, (steps, ...), with numpy.savez"


def save_run(
    path: Path,
    parameters: Sequence[Mapping[str, ArrayLike]],
    gradients: Sequence[Mapping[str, ArrayLike | None]],
) -> None:
    """Write a run; None or a missing name is no gradient.

    Args:
        path: an .npz file.
        parameters: (steps + 1) mappings of name -> array.
        gradients: (steps) mappings of name -> array.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, first in parameters[0].items():
        arrays[_PARAMETERS + name] = np.stack([np.asarray(state[name]) for state in parameters])
        absent = np.full_like(np.asarray(first), np.nan)
        rows = [step.get(name) for step in gradients]
        if any(row is not None for row in rows):
            arrays[_GRADIENTS + name] = np.stack([absent if row is None else np.asarray(row) for row in rows])
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # NumPy takes every name for its flag's


def load_run(path: Path, *, argument: str = "trace") -> Recorded:
    """Read a run: parameters, gradients, and the steps' numbers if the file has them, as `identify` takes them.

    Raises:
        InputError: missing, damaged, or not such a file.
    """
    arrays = _folder(path, argument) if path.is_dir() else _archive(path, argument)
    if single := [name for name, a in arrays.items() if a.ndim == 0 and name.startswith((_PARAMETERS, _GRADIENTS))]:
        raise InputError(argument, path, f"{single[0]} is a single number, with no row for each step", _FIX)
    parameters = {name.removeprefix(_PARAMETERS): a for name, a in arrays.items() if name.startswith(_PARAMETERS)}
    gradients = {name.removeprefix(_GRADIENTS): a for name, a in arrays.items() if name.startswith(_GRADIENTS)}
    if not parameters or not gradients:
        missing = "parameters" if not parameters else "gradients"
        raise InputError(argument, path, f"it holds no {missing}", _FIX)
    states, steps = _length(path, argument, parameters), _length(path, argument, gradients)
    numbers = step_numbers(arrays[_STEPS].ravel().tolist()) if _STEPS in arrays else None
    return (
        [{name: array[t] for name, array in parameters.items()} for t in range(states)],
        [{name: array[t] for name, array in gradients.items() if not _absent(array[t])} for t in range(steps)],
        numbers,
    )


def _absent(row: NDArray[np.generic]) -> bool:
    """A whole row of NaN is no gradient; a single NaN is a fault."""
    return row.size > 0 and row.dtype.kind == "f" and bool(np.isnan(row.astype(np.float64)).all())


def _length(path: Path, argument: str, arrays: Mapping[str, NDArray[np.generic]]) -> int:
    lengths = {name: len(array) for name, array in arrays.items()}
    name, length = next(iter(lengths.items()))
    if other := next(((key, value) for key, value in lengths.items() if value != length), None):
        problem = f"{other[0]} has {other[1]} rows, {name} {length}"
        raise InputError(argument, path, problem, "store one row for each step, NaN where there is no gradient")
    return length


def _archive(path: Path, argument: str) -> dict[str, NDArray[np.generic]]:
    try:
        # Opened here, because np.load leaves its own file open when the archive turns out to be damaged.
        with path.open("rb") as file, np.load(_require_zip(file), allow_pickle=False) as archive:
            names = archive.files
            arrays = {name: np.asarray(archive[name]) for name in names}
    except OSError as error:
        raise InputError(argument, path, error.strerror or str(error), nearest_file(path, _FIX)) from error
    except Exception as error:  # a damaged header or member makes NumPy and zipfile raise almost anything
        raise InputError(argument, path, *_unreadable(error, ".npz")) from error
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(argument, path, f"it holds {twice[0]} more than once", "store each array once")
    return arrays


def _unreadable(error: Exception, kind: str) -> tuple[str, str]:
    """What is wrong with a file that NumPy cannot read, and what to do."""
    if "allow_pickle" in str(error):  # NumPy's own words for arrays of Python objects
        return "it holds an array of Python objects", "store numbers, all rows of one shape, as numpy.stack makes them"
    return f"truncated, or not an {kind} file ({error})", _FIX


def _require_zip(file: BinaryIO) -> BinaryIO:
    """np.load would take other kinds of file too: a bare array, or a pickle."""
    if not zipfile.is_zipfile(file):
        raise zipfile.BadZipFile("no zip archive")
    file.seek(0)
    return file


def _folder(path: Path, argument: str) -> dict[str, NDArray[np.generic]]:
    arrays = {}
    for file in sorted(path.rglob("*.npy")):
        try:
            arrays[file.relative_to(path).with_suffix("").as_posix()] = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(argument, file, *_unreadable(error, ".npy")) from error
    return arrays
