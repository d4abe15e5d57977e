"""What is to be trained: by whom, on which device, with which numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from parity.contract import (
    DTYPES,
    SGD,
    AnyImplementation,
    InputError,
    ParityError,
    Schedule,
    SelfContained,
    SideError,
    nearest_name,
)

__all__ = ["Settings", "Side", "require_cnn", "resolve_device"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides what is trained, but the data, the weights and the sides.

    Args:
        sgd: the optimizer's hyper-parameters; finite in `dtype`.
        batch_size: images in a step.
        epochs: >= 1.
        steps: stop after so many steps; None for all of the epochs'.
        seed: of the initial weights and of the index plans, >= 0.
        dtype: "float32" or "float64".
        device: "auto", "cpu" or "cuda"; auto is CUDA where every side has it.

    Raises:
        InputError: a value is out of range.
    """

    sgd: SGD = field(default_factory=SGD)
    batch_size: int = 4
    epochs: int = 3
    steps: int | None = None
    seed: int = 0
    dtype: str = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(name, value, "it is less than 1", "give 1 or more")
        if self.seed < 0:
            raise InputError("seed", self.seed, "it is negative", "give 0 or more")
        _require_one_of("dtype", self.dtype, DTYPES)
        _require_one_of("device", self.device, ("auto", "cpu", "cuda"))
        for name, value in _numbers(self.sgd):
            if abs(value) > float(np.finfo(self.dtype).max):
                raise InputError(name, value, f"{self.dtype} cannot hold it", "give a smaller number")


def _numbers(holder: SGD | Schedule) -> Iterator[tuple[str, float]]:
    """The floating-point arguments of an optimizer and of its schedule."""
    for argument in fields(holder):
        value = getattr(holder, argument.name)
        if isinstance(value, float):
            yield argument.name, value
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Schedule):
                yield from _numbers(part)


def _require_one_of(argument: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(argument, value, "unknown", nearest_name(value, known, f"give one of: {', '.join(known)}"))


@dataclass(frozen=True, kw_only=True)
class Side:
    """An implementation under the name that the user gave it."""

    name: str
    implementation: AnyImplementation

    def call(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        """Call a method of the implementation.

        Raises:
            ParityError: as the implementation raised it.
            SideError: the implementation raised anything else, or tried to end the program.
            KeyboardInterrupt: the user did.
        """
        return self.guard(method, lambda: getattr(self.implementation, method)(*arguments, **keywords))

    def guard(self, method: str, function: Callable[[], Any]) -> Any:
        """Call a function of the side's, which came with this method; raises as `call` does."""
        try:
            return function()
        except (ParityError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise self.error(f"{method}() raised {type(error).__name__}: {error}") from error

    def error(self, problem: str) -> SideError:
        """The problem under the side's name."""
        return SideError(f"{self.name}: {problem}")

    def devices(self) -> tuple[str, ...]:
        """The devices that it can use here."""
        return tuple(self.call("devices"))


def resolve_device(sides: Sequence[Side], device: str) -> str:
    """The device that all sides will use: "auto" is CUDA only where every side has it.

    Raises:
        InputError: a side does not have the device.
    """
    if device == "auto":
        return "cuda" if all("cuda" in side.devices() for side in sides) else "cpu"
    for side in sides:
        if device not in (known := side.devices()):
            raise InputError("device", device, f"{side.name} has no such device here", f"use {' or '.join(known)}")
    return device


def require_cnn(sides: Sequence[Side]) -> None:
    """Refuse programs that bring their own data: what trains on a data set given here trains the CNN.

    Raises:
        InputError: a side is such a program.
    """
    for side in sides:
        if isinstance(side.implementation, SelfContained):
            problem = "it brings its own data and optimizer"
            raise InputError("implementation", side.name, problem, "compare it with `parity check`")
