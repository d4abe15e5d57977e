"""What programs that bring their own optimizer and data share: the checks of what they are given, and tensor names.

Such a program (see `SelfContained`) names its tensors itself, so nothing here knows a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from parity.contract.cnn import Weights
from parity.contract.errors import InputError
from parity.contract.sgd import SGD

__all__ = [
    "PROBE_ROWS",
    "Returned",
    "check_results",
    "check_tensors",
    "other_precision",
    "program_data",
    "require_default_sgd",
    "slot_name",
    "unique_names",
]

PROBE_ROWS = 2
"""Rows of the data that a program is tried on when it starts; a batch norm refuses a single one."""


Returned = tuple[tuple[int, ...], str] | None
"""Shape and type of what a program returns; None if that is not one array."""


def slot_name(parameter: str, number: int) -> str:
    """The name of an optimizer's tensor for a parameter: "fc.weight", "fc.weight:2", ..., counted from 0.

    >>> [slot_name("fc.weight", number) for number in (0, 1)]
    ['fc.weight', 'fc.weight:2']
    """
    return f"{parameter}:{number + 1}" if number else parameter


def unique_names(names: Iterable[str], *, argument: str) -> tuple[str, ...]:
    """The names, if each is there once.

    Raises:
        InputError: two tensors have the same name.
    """
    found: dict[str, None] = {}
    for name in names:
        if name in found:
            raise InputError(argument, name, "two tensors have this name", "rename one of them")
        found[name] = None
    return tuple(found)


def require_default_sgd(sgd: SGD) -> None:
    """Refuse hyper-parameters that the program would not use.

    Raises:
        InputError: they are not `SGD()`.
    """
    if sgd != SGD():
        raise InputError("sgd", sgd, "this program brings its own optimizer", "set its hyper-parameters there")


def program_data(data: Sequence[NDArray[np.generic]], inputs: int = 1) -> tuple[NDArray[np.generic], ...]:
    """A data set as a tuple of arrays, not copied.

    Args:
        data: equally long arrays of floats, integers or booleans.
        inputs: how many of them, from the first, are the model's inputs.

    Raises:
        InputError: there is no array or no row, the lengths differ, a type is none of these, or `inputs` does not fit.
    """
    arrays = tuple(np.asarray(array) for array in data)
    if not 1 <= inputs <= len(arrays):
        raise InputError("inputs", inputs, f"there are {len(arrays)} arrays of data", "give a number from 1 to that")
    for number, array in enumerate(arrays):
        if array.dtype.kind not in "fiub":
            raise InputError("data", f"array {number}", f"its type is {array.dtype}", "give floats, integers or bools")
        if array.ndim == 0 or len(array) != len(arrays[0]) or len(array) == 0:
            problem = f"its shape is {array.shape}, that of array 0 is {arrays[0].shape}"
            raise InputError("data", f"array {number}", problem, "give equally long arrays of at least one row")
    return arrays


def check_tensors(tensors: Weights, shapes: Mapping[str, tuple[int, ...]], *, argument: str) -> None:
    """Refuse tensors that are not exactly those of these names and shapes.

    Args:
        tensors: name -> array, from the caller.
        shapes: name -> shape, the program's own.
        argument: the argument's name, for the error.

    Raises:
        InputError: a tensor is missing, extra, ill-shaped, not of floats, or holds NaN or infinity.
    """

    def refuse(problem: str) -> InputError:
        return InputError(argument, "given", problem, "give the program's own tensors, under its own names")

    if missing := [name for name in shapes if name not in tensors]:
        raise refuse(f"tensor {missing[0]} is missing")
    if extra := [name for name in tensors if name not in shapes]:
        raise refuse(f"tensor {extra[0]} is not one of the program's")
    for name, shape in shapes.items():
        value = tensors[name]
        if value.shape != shape:
            raise refuse(f"tensor {name} has shape {value.shape}, not {shape}")
        if value.dtype.kind != "f":
            raise refuse(f"tensor {name} is {value.dtype}, not of floats")
        if not np.isfinite(value).all():
            raise refuse(f"tensor {name} holds NaN or infinity")


def check_results(output: Returned, loss: Returned, *, rows: int, dtype: str) -> None:
    """Refuse a program whose outputs or loss cannot be compared.

    Args:
        output: shape and type of the model's output for a batch; None for anything but one array.
        loss: likewise.
        rows: how many rows the batch has.
        dtype: the run's.

    Raises:
        InputError: the output has no row for each of the batch, the loss is not a scalar, or a type is not the run's.
    """
    for what, result in (("output", output), ("loss", loss)):
        if result is None:
            raise InputError("program", what, "it is not an array", "return one array, not a collection")
        if result[1] != dtype:
            raise other_precision(f"the {what}", result[1], dtype)
    if output is not None and output[0][:1] != (rows,):
        problem = f"for {rows} rows its shape is {output[0]}"
        raise InputError("program", "output", problem, "return an array with a row for each row of the batch")
    if loss is not None and loss[0] != ():
        raise InputError("program", "loss", f"its shape is {loss[0]}", "return a scalar, the batch's mean for example")


def other_precision(what: str, found: object, dtype: str) -> InputError:
    """The error for a program that computes in another precision than the run's.

    Args:
        what: the place in the program.
        found: the type that it computes in.
        dtype: the run's.
    """
    fix = "let it follow the type of its inputs and parameters, and name no type in the code"
    return InputError("program", what, f"it computes in {found} in a {dtype} run", fix)
