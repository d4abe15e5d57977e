"""One side of a run, asked through one door: what it raises, and what it returns in another shape, is its own error."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import Ensemble, InputError, Scored, StepTrace, Tensors, Weights
from parity.problem import Problem
from parity.settings import Settings, Side

__all__ = ["Calls", "Lane", "require_same_tensors"]


@dataclass(frozen=True, kw_only=True)
class Calls:
    """What a side will be asked for, so that one that compiles can begin before.

    Args:
        observed: the batch sizes of the steps that will be observed.
        plans: the shapes, (steps, batch), of the plans that will be run.
        evaluated: whether the outputs for the test set will be wanted.
    """

    observed: Sequence[int]
    plans: Sequence[tuple[int, int]]
    evaluated: bool


@dataclass(kw_only=True)
class Lane:
    """A side with its data on the device, the losses of its chunks, and the shapes of its tensors.

    `seconds` is the time spent in training calls. The side's state is not kept here: the driver moves all sides' states
    together.
    """

    side: Side
    description: str = ""
    pieces: list[NDArray[np.floating]] = field(default_factory=list)
    seconds: float = 0.0
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _problem: Problem | None = None
    _train: Any = None
    _test: Any = None
    _stop: Callable[[], None] | None = None

    def start(self, problem: Problem, settings: Settings, device: str) -> Any:
        """The side's first state; its data are placed on the device."""
        call = self.side.call
        state = call("start", problem.weights, settings.sgd, dtype=settings.dtype, device=device)
        self.description = str(call("describe", state))
        self._problem = problem
        self._train = self.place(state, problem.train)
        self._test = self.place(state, problem.test)
        self.shapes = {name: value.shape for name, value in self._tensors("weights", state).items()}
        self.momentum(state)
        return state

    def place(self, state: Any, arrays: Sequence[NDArray[np.generic]]) -> Any:
        """Other data, on the device, for `observe`."""
        return self.side.call("place", state, *arrays)

    @property
    def compiles_ahead(self) -> bool:
        """Whether the side is a `CompiledAhead`, and not one that only passes on what it does not know."""
        return hasattr(type(self.side.implementation), "compile_ahead")

    def compile_ahead(self, state: Any, calls: Calls) -> None:
        """Let a side that can compile for these calls, until `stop_compiling`."""
        if not self.compiles_ahead:
            return
        test = self._test if calls.evaluated else None
        stop = self.side.call("compile_ahead", state, self._train, test, observed=calls.observed, plans=calls.plans)
        if not callable(stop):
            raise self.side.error(f"compile_ahead() returned {type(stop).__name__}, not a function that stops it")
        self._stop = stop

    def stop_compiling(self) -> None:
        """Whatever has not been begun is not wanted any more."""
        stop, self._stop = self._stop, None
        if stop is not None:
            self.side.guard("compile_ahead", stop)

    def run_many(self, states: Sequence[Any], plan: NDArray[np.int32]) -> tuple[tuple[Any, ...], NDArray[np.floating]]:
        """Several states' next states and (members, steps) losses: at once where the side can, else one by one."""
        if not isinstance(self.side.implementation, Ensemble):
            moved = [self.run(state, plan, timed=False) for state in states]
            return tuple(state for state, _ in moved), np.stack([losses for _, losses in moved])
        answer = self.side.call("run_many", tuple(states), self._train, plan)
        if not (isinstance(answer, tuple) and len(answer) == 2 and len(answer[0]) == len(states)):
            raise self.side.error("run_many() did not return a state for each member, and losses")
        return tuple(answer[0]), self._array("run_many", answer[1], (len(states), len(plan)))

    def restore(self, state: Any, weights: Weights, momentum: Weights) -> Any:
        """The state with other tensors in it."""
        return self.side.call("restore", state, weights, momentum)

    def observe(self, state: Any, rows: NDArray[np.int32], data: Any = None) -> tuple[Any, StepTrace]:
        """The next state and every stage of the step, on the training data or others that were placed."""
        answer = self.side.call("observe", state, self._train if data is None else data, rows)
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], StepTrace)):
            raise self.side.error("observe() did not return a state and a StepTrace")
        self._require_complete(answer[1])
        return answer

    def _require_complete(self, trace: StepTrace) -> None:
        """A stage that is left empty would match anything."""
        for stage in ("batch", "weights", "logits", "loss", "gradients", "parameters"):
            if not getattr(trace, stage):
                raise self.side.error(f"observe() recorded nothing as {stage}")
        for stage in ("weights", "parameters"):
            self._require_same(f"observe(): {stage}", getattr(trace, stage))
        if unknown := sorted(trace.gradients.keys() - self.shapes.keys()):
            raise self.side.error(f"observe() recorded a gradient of {unknown[0]}, which weights() does not have")

    def run(self, state: Any, plan: NDArray[np.int32], *, timed: bool = True) -> tuple[Any, NDArray[np.floating]]:
        """What this side makes of a chunk: its next state and (steps,) losses."""
        begin = time.perf_counter()
        answer = self.side.call("run", state, self._train, plan)
        self.seconds += time.perf_counter() - begin if timed else 0.0
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise self.side.error("run() did not return a state and losses")
        return answer[0], self._array("run", answer[1], (len(plan),))

    def logits(self, state: Any) -> NDArray[np.floating]:
        """The outputs for the test set: (images, classes) for the CNN."""
        assert self._problem is not None  # noqa: S101  no state without a start, which sets it; for the type checker
        outputs = self.side.call("logits", state, self._test)
        size = len(self._problem.test[0])
        expected = self._problem.outputs
        return self._array("logits", outputs, (size, *(np.shape(outputs)[1:] if expected is None else expected)))

    def accuracy(self, state: Any, arrays: Sequence[NDArray[np.generic]]) -> float | None:
        """What the side says of its accuracy on these images and labels; None where it says nothing."""
        if not isinstance(self.side.implementation, Scored):
            return None
        stated = self.side.call("accuracy", state, self.place(state, arrays))
        if not isinstance(stated, float | int):
            raise self.side.error(f"accuracy() returned {type(stated).__name__}, not a number")
        return float(stated)

    def weights(self, state: Any) -> Weights:
        """The side's parameters: the same tensors at every step."""
        tensors = self._tensors("weights", state)
        self._require_same("weights()", tensors)
        return tensors

    def momentum(self, state: Any) -> Weights:
        """The side's momentum buffers: tensors of parameters (name, or name:slot), or none at all."""
        tensors = self._tensors("momentum", state)
        for name, value in tensors.items():
            if self.shapes.get(name.partition(":")[0]) != value.shape:
                raise self.side.error(f"momentum() returned other tensors than weights() at the start: {name}")
        return tensors

    def tensors(self, state: Any) -> tuple[Weights, Weights]:
        """Weights and momentum, for `restore`: buffers that are all zero do not exist yet, as before the first step."""
        momentum = self.momentum(state)
        started = any(np.any(buffer) for buffer in momentum.values())
        return self.weights(state), momentum if started else {}

    def losses(self, first: int, last: int) -> NDArray[np.floating]:
        """The losses of steps `first` to `last`, which is not included."""
        if len(self.pieces) > 1:  # joined once, not again at every window of a long run
            self.pieces = [np.concatenate(self.pieces)]
        return self.pieces[0][first:last] if self.pieces else np.empty(0)

    def _array(self, method: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.floating]:
        if not (isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)):
            raise self.side.error(f"{method}() returned {type(value).__name__}, not a NumPy array of floats")
        if value.shape != shape:
            raise self.side.error(f"{method}() returned shape {value.shape}, not {shape}")
        return value

    def _tensors(self, method: str, state: Any) -> Weights:
        tensors = self.side.call(method, state)
        if not isinstance(tensors, Mapping):
            raise self.side.error(f"{method}() returned {type(tensors).__name__}, not tensors by name")
        return {name: self._array(method, value, np.shape(value)) for name, value in tensors.items()}

    def _require_same(self, method: str, tensors: Tensors) -> None:
        if {name: value.shape for name, value in tensors.items()} != self.shapes:
            raise self.side.error(f"{method} returned other tensors than weights() at the start")


def require_same_tensors(lanes: Sequence[Lane]) -> None:
    """Refuse sides that cannot be compared tensor by tensor.

    Raises:
        InputError: a side has a tensor that the first has not, or in another shape.
    """
    for lane in lanes[1:]:
        for tensor in sorted(lanes[0].shapes.keys() | lane.shapes.keys()):
            first, found = lanes[0].shapes.get(tensor, "missing"), lane.shapes.get(tensor, "missing")
            if first != found:
                problem = f"tensor {tensor} is {first} in {lanes[0].side.name} and {found} in {lane.side.name}"
                raise InputError("implementation", lane.side.name, problem, "compare two programs of the same model")
