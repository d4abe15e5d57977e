"""A recorded run: the parameters before and after every step, and the gradients that each step was given.

Any framework's: names, shapes and layout are the program's own, the same at every step. Tensors are laid side by side
in one vector, so that a step of an update rule is a few operations on arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parity.contract import DTYPES, InputError, nearest_name

__all__ = ["MIN_STEPS", "Array", "RecordedRun", "recorded_run", "step_numbers"]

Array = NDArray[np.float64]

MIN_STEPS = 4
"""Fewer steps identify nothing: a buffer first shows in the second step, how it meets a change of the learning rate in
the third, and the fourth is the first that no constant is fitted to."""

_RECORD = "record every parameter before the first step and after each, and every gradient that a step was given"


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedRun:
    """Steps of a run, every tensor flattened and all of them side by side.

    Args:
        names: of the tensors.
        tensor: (elements,) which tensor an element belongs to.
        parameters: (steps + 1, elements), before the first step and after each.
        gradients: (steps, elements), 0 where there is none.
        active: (steps, tensors), whether a tensor had a gradient.
        norms: (steps,) of each step's whole gradient: what clipping by the global norm compares.
        eps: of the dtype that the run was computed in.
        every: steps between two updates; the gradients are then means of so many.
    """

    names: tuple[str, ...]
    tensor: NDArray[np.intp]
    parameters: Array
    gradients: Array
    active: NDArray[np.bool_]
    norms: Array
    eps: float
    every: int = 1

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.gradients)

    @property
    def updates(self) -> Array:
        """(steps, elements): what each step added to the parameters."""
        return np.diff(self.parameters, axis=0)

    @property
    def skipped(self) -> NDArray[np.bool_] | None:
        """(steps, elements) where there was no gradient; None if there was one everywhere."""
        return None if self.active.all() else ~self.active[:, self.tensor]

    def of(self, elements: NDArray[np.intp]) -> RecordedRun:
        """The same run of some elements alone, in ascending order; the norms stay those of all."""
        tensors, tensor = np.unique(self.tensor[elements], return_inverse=True)
        return replace(
            self,
            names=tuple(self.names[number] for number in tensors),
            tensor=tensor,
            parameters=np.ascontiguousarray(self.parameters[:, elements]),
            gradients=np.ascontiguousarray(self.gradients[:, elements]),
            active=self.active[:, tensors],
        )

    def tensors(self, names: Sequence[str]) -> RecordedRun:
        """The same run of some tensors alone."""
        chosen = [number for number, name in enumerate(self.names) if name in names]
        return self.of(np.flatnonzero(np.isin(self.tensor, chosen)))


def recorded_run(
    parameters: Sequence[Mapping[str, ArrayLike]],
    gradients: Sequence[Mapping[str, ArrayLike | None]],
    *,
    dtype: str | None = None,
    steps: Sequence[int] | None = None,
) -> RecordedRun:
    """Check what was recorded, and lay it side by side.

    Args:
        parameters: (steps + 1) mappings of name -> floating array.
        gradients: (steps) mappings likewise; None or a missing name is no gradient.
        dtype: that the run was computed in, "float32" or "float64"; None for the parameters' own.
        steps: numbers of the steps, if they are known; each must follow the one before, the first being 0.

    Raises:
        InputError: nothing can be identified from it; the line says which tensor and step, and what to record.
    """
    if len(parameters) != len(gradients) + 1:
        needed = f"{len(gradients) + 1} are needed, one before the first step and one after each"
        problem = f"there are {len(parameters)} states of the parameters, {needed}"
        raise InputError("gradients", f"of {len(gradients)} steps", problem, _RECORD)
    if len(gradients) < MIN_STEPS:
        problem = "too few to identify anything"
        raise InputError("gradients", f"of {len(gradients)} steps", problem, f"record {MIN_STEPS} steps at least")
    _require_consecutive(steps, len(gradients))
    names = tuple(parameters[0])
    states = [_arrays(state, f"before step {t}", "parameters", names) for t, state in enumerate(parameters)]
    shapes = {name: value.shape for name, value in states[0].items()}
    grads = [_arrays(step, f"of step {t}", "gradients", names) for t, step in enumerate(gradients)]
    for kind, rows in (("parameters", states), ("gradients", grads)):
        _require_shapes(kind, rows, shapes)
    if missing := next(((name, t) for t, state in enumerate(states) for name in names if name not in state), None):
        raise InputError("parameters", missing[0], f"missing before step {missing[1]}", _RECORD)
    eps = _eps(dtype, states)
    _require_precision(grads, eps)
    return _side_by_side(names, states, grads, eps)


def step_numbers(steps: Sequence[object]) -> list[int]:
    """The steps' numbers as integers.

    Raises:
        InputError: one is no whole number.
    """
    return [_whole(step) for step in steps]


def _whole(step: object) -> int:
    if isinstance(step, int | float | np.integer | np.floating) and float(step).is_integer():
        return int(step)
    raise InputError("steps", step, "not the number of a step", "number the steps 0, 1, 2, ...")


def _require_consecutive(steps: Sequence[int] | None, count: int) -> None:
    if steps is None:
        return
    numbers = step_numbers(steps)
    if len(numbers) != count:
        raise InputError("steps", f"{len(numbers)} numbers", f"there are {count} steps", "give one for each")
    if gap := next(((a, b) for a, b in pairwise(numbers) if b != a + 1), None):
        raise InputError("steps", f"{gap[0]}, {gap[1]}", "they are not consecutive", "record every step")
    if numbers[0] != 0:
        problem = "the recording begins after the first step, when an optimizer's buffers are no longer empty"
        raise InputError("steps", f"from {numbers[0]}", problem, "start the recording at the first step, step 0")


def _arrays(
    step: Mapping[str, ArrayLike | None], when: str, argument: str, names: Sequence[str]
) -> dict[str, NDArray[np.generic]]:
    """The step's arrays, those that are there, each finite and floating."""
    arrays = {name: np.asarray(value) for name, value in step.items() if value is not None}
    if unknown := [name for name in arrays if name not in names]:
        known = "none of the parameters before the first step has this name"
        raise InputError(argument, unknown[0], f"{when}: {known}", "give parameters and gradients the same names")
    for name, value in arrays.items():
        if value.dtype.kind not in "fV":  # V: bfloat16 and its like, which NumPy does not know
            raise InputError(argument, name, f"{value.dtype} {when}", "give floating arrays")
        if not np.isfinite(value.astype(np.float64)).all():
            raise InputError(argument, name, f"NaN or infinity {when}", "record the steps before it alone")
        if (largest := np.abs(value.astype(np.float64)).max(initial=0.0)) > LARGEST:
            problem = f"{largest:.1e} {when}: its square would overflow"
            raise InputError(argument, name, problem, "record the steps before it alone")
    return arrays


LARGEST = 1e100
"""Sums of squares of so large numbers, and ratios of those to rounding, are still finite in float64."""


def _require_precision(grads: Sequence[Mapping[str, NDArray[np.generic]]], eps: float) -> None:
    """The gradients must be those of the run to its own rounding, which is all that a right rule may leave."""
    wanted = next(dtype for dtype in DTYPES if float(np.finfo(dtype).eps) == eps)
    for step, row in enumerate(grads):
        for name, value in row.items():
            if value.dtype.kind != "f" or float(np.finfo(str(value.dtype)).eps) > eps:
                problem = f"{value.dtype} at step {step} is less precise than the parameters, which are {wanted}"
                raise InputError("gradients", name, problem, f"record the gradients in {wanted} too, as they were used")


def _require_shapes(
    argument: str, rows: Sequence[Mapping[str, NDArray[np.generic]]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    for step, row in enumerate(rows):
        for name, value in row.items():
            if value.shape != shapes[name]:
                problem = f"shape {value.shape} at step {step}, {shapes[name]} before the first step"
                raise InputError(argument, name, problem, "record each tensor in one shape")


def _eps(dtype: str | None, states: Sequence[Mapping[str, NDArray[np.generic]]]) -> float:
    """The given dtype's, else that of the least precise parameter."""
    if dtype is not None:
        if dtype not in DTYPES:
            raise InputError("dtype", dtype, "unknown", nearest_name(dtype, DTYPES, f"give {' or '.join(DTYPES)}"))
        return float(np.finfo(dtype).eps)
    found = {value.dtype for state in states for value in state.values()}
    if other := sorted(str(dtype) for dtype in found if str(dtype) not in DTYPES):
        raise InputError("parameters", other[0], "neither float32 nor float64", "record in one of these")
    return max(float(np.finfo(str(dtype)).eps) for dtype in found) if found else float(np.finfo(np.float64).eps)


def _side_by_side(
    names: tuple[str, ...],
    states: Sequence[Mapping[str, NDArray[np.generic]]],
    grads: Sequence[Mapping[str, NDArray[np.generic]]],
    eps: float,
) -> RecordedRun:
    sizes = [states[0][name].size for name in names]
    if not sum(sizes):
        raise InputError("parameters", "without elements", "there is nothing that a step could move", _RECORD)

    def row(tensors: Mapping[str, NDArray[np.generic]]) -> Array:
        parts = [tensors[name].ravel() if name in tensors else np.zeros(size) for name, size in zip(names, sizes)]  # noqa: B905  equally long
        return np.concatenate([np.zeros(0), *parts]).astype(np.float64)

    gradients = np.array([row(step) for step in grads])
    run = RecordedRun(
        names=names,
        tensor=np.repeat(np.arange(len(names)), sizes),
        parameters=np.array([row(state) for state in states]),
        gradients=gradients,
        active=np.array([[name in step for name in names] for step in grads]).reshape(len(grads), len(names)),
        norms=np.sqrt(np.square(gradients).sum(axis=1)),
        eps=eps,
    )
    _require_gradients(run)
    return run


def _require_gradients(run: RecordedRun) -> None:
    if not run.active.any():
        raise InputError("gradients", "none", "no tensor has a gradient in any step", _RECORD)
    if not run.gradients.any():
        raise InputError("gradients", "all zero", "they say nothing of the update", "record steps that learn something")
    updates = run.updates
    if run.skipped is not None and (moved := (updates != 0) & run.skipped).any():
        step, element = np.argwhere(moved)[0]
        name = run.names[run.tensor[element]]
        fix = "record its gradient, or leave the tensor out if no optimizer moves it (running statistics)"
        raise InputError("gradients", name, f"missing at step {step}, where the tensor moves", fix)
    if not updates.any():
        raise InputError("parameters", "all constant", "no step moves any tensor", "record a run that learns")
