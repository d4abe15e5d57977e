"""A promise and its check, and the comparisons that checks are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.compare import relative_difference
from parity.compare.formula import ULPS
from parity.conformance.subject import Subject
from parity.contract import DTYPES

__all__ = [
    "BrokenPromiseError",
    "Promise",
    "Unoffered",
    "overwrite",
    "promise",
    "require",
    "require_close",
    "require_equal",
]

Arrays = Mapping[str, NDArray[np.generic]]


class BrokenPromiseError(Exception):
    """A check found the promise broken; the message says how, in one line."""


class Unoffered(Exception):  # noqa: N818  it is no error
    """The promise does not apply to this implementation; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """A named promise.

    Args:
        name: what is promised.
        check: raises BrokenPromiseError, or whatever the implementation raises.
        after: promises that the check relies on: where one is broken, this check would only say so again.
        dtypes: those that it is made in, of those that the implementation takes.
    """

    name: str
    check: Callable[[Subject], None]
    after: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = DTYPES


def promise(
    *, after: tuple[Promise, ...] = (), dtypes: tuple[str, ...] = DTYPES
) -> Callable[[Callable[[Subject], None]], Promise]:
    """Make a function the check of the promise that its docstring makes; the arguments are those of `Promise`."""

    def make(check: Callable[[Subject], None]) -> Promise:
        name = str(check.__doc__).removesuffix(".")
        return Promise(name=name, check=check, after=tuple(needed.name for needed in after), dtypes=dtypes)

    return make


def require(kept: object, problem: str) -> None:
    """Fail with this line unless the promise is kept."""
    if not kept:
        raise BrokenPromiseError(problem)


def require_equal(found: Arrays, expected: Arrays, problem: str) -> None:
    """Fail unless both are the same tensors to the last bit."""
    _require_same_tensors(found, expected, problem)
    for name, value in expected.items():
        if not np.array_equal(found[name], value, equal_nan=value.dtype.kind == "f"):
            raise BrokenPromiseError(f"{problem}: {name} differs")


def require_close(
    found: Arrays, expected: Arrays, dtype: str, problem: str, *, but: frozenset[str] = frozenset()
) -> None:
    """Fail unless both are the same to rounding: 512 eps of a tensor's norm, as in `parity.compare.formula`.

    Args:
        found: by name.
        expected: by name.
        dtype: whose eps it is.
        problem: what is wrong if they are not.
        but: parameters that are nothing but rounding, see `Subject.noise`.
    """
    _require_same_tensors(found, expected, problem)
    for name, value in expected.items():
        difference = relative_difference(np.asarray(found[name], np.float64), np.asarray(value, np.float64))
        if name.partition(":")[0] not in but and not difference <= ULPS * np.finfo(dtype).eps:
            raise BrokenPromiseError(f"{problem}: {name} differs by {difference:.1e} of its norm")


def _require_same_tensors(found: Arrays, expected: Arrays, problem: str) -> None:
    for name in dict.fromkeys([*expected, *found]):
        mine, other = (np.shape(tensors[name]) if name in tensors else "missing" for tensors in (found, expected))
        if mine != other:
            raise BrokenPromiseError(f"{problem}: {name} is {mine}, not {other}")


def overwrite(tensors: Arrays) -> None:
    """Change every value in place."""
    for value in tensors.values():
        if value.flags.writeable:
            value[...] = np.where(value == 0, 1, 0).astype(value.dtype)
