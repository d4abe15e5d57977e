"""The implementation under test, in one dtype, with what it is given: every call gets arrays of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.compare.formula import ULPS
from parity.compare.measure import frobenius
from parity.contract import NUM_CLASSES, SGD, InputError, SelfContained, StepTrace, Stream, Weights, initial_weights
from parity.contract.programs import program_data
from parity.problem import Arrays, Problem
from parity.settings import Side

__all__ = ["HYPER", "PARTIAL", "STEPS", "Subject", "make_subject"]

HYPER = SGD(lr=0.01, momentum=0.9, dampening=0.2, weight_decay=0.01)
"""Every hyper-parameter shows within three steps."""

STEPS, BATCH = 3, 4
PARTIAL = 2  # rows of a partial batch: a batch norm refuses a single one
ROWS = 16

_PURPOSE = 5  # keeps these random numbers apart from other streams


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An implementation in one dtype on one device.

    Args:
        side: it.
        device: of its states.
        dtype: of its states.
        problem: what it is given; `outputs` is the shape of an output, None where only the program knows.
        sgd: the hyper-parameters that its states have unless others are asked for.
        plan: (STEPS, batch) rows.
    """

    side: Side
    device: str
    dtype: str
    problem: Problem
    sgd: SGD
    plan: NDArray[np.int32]

    @property
    def is_cnn(self) -> bool:
        """Whether it is the CNN, not a program with its own data."""
        return self.problem.is_cnn

    @property
    def eps(self) -> float:
        """Of the dtype."""
        return float(np.finfo(self.dtype).eps)

    def given_weights(self, dtype: str | None = None) -> dict[str, NDArray[np.floating]]:
        """Copies of the initial weights, in the dtype that they came in or another."""
        return {name: np.array(value, dtype or value.dtype) for name, value in self.problem.weights.items()}

    def given_data(self) -> Arrays:
        """Copies of the data."""
        return tuple(array.copy() for array in self.problem.train)

    def start(self, weights: Weights | None = None, sgd: SGD | None = None) -> Any:
        """A first state."""
        given = self.given_weights() if weights is None else weights
        return self.side.call("start", given, sgd or self.sgd, dtype=self.dtype, device=self.device)

    def takes(self, sgd: SGD) -> bool:
        """Whether it does not refuse these hyper-parameters."""
        try:
            self.start(sgd=sgd)
        except InputError:
            return False
        return True

    def place(self, state: Any, arrays: Arrays | None = None) -> Any:
        """These data, or the subject's own, for the calls that read them."""
        return self.side.call("place", state, *(self.given_data() if arrays is None else arrays))

    def run(self, state: Any, plan: NDArray[np.int32] | None = None) -> tuple[Any, NDArray[np.floating]]:
        """The state after the plan, and the losses, on data placed for this call."""
        rows = self.plan if plan is None else plan
        return self._pair("run", self.side.call("run", state, self.place(state), rows.copy()))

    def observe(self, state: Any, rows: NDArray[np.int32] | None = None) -> tuple[Any, StepTrace]:
        """The state after one step, and its trace."""
        rows = self.plan[0] if rows is None else rows
        after, trace = self._pair("observe", self.side.call("observe", state, self.place(state), rows.copy()))
        if not isinstance(trace, StepTrace):
            raise self.side.error(f"observe() returned {type(trace).__name__}, not a StepTrace")
        return after, trace

    def logits(self, state: Any, arrays: Arrays | None = None) -> NDArray[np.floating]:
        """The outputs for these data."""
        outputs = self.side.call("logits", state, self.place(state, arrays))
        if not isinstance(outputs, np.ndarray):
            raise self.side.error(f"logits() returned {type(outputs).__name__}, not a NumPy array")
        return outputs.copy()

    def restore(self, state: Any, weights: Weights, momentum: Weights) -> Any:
        """The state with these tensors."""
        return self.side.call("restore", state, weights, momentum)

    def stepped(self, sgd: SGD | None = None) -> Any:
        """A state after the first steps."""
        return self.run(self.start(sgd=sgd))[0]

    def weights(self, state: Any) -> dict[str, NDArray[np.floating]]:
        """Copies of the state's parameters."""
        return self._tensors("weights", state)

    def momentum(self, state: Any) -> dict[str, NDArray[np.floating]]:
        """Copies of the state's momentum."""
        return self._tensors("momentum", state)

    def tensors(self, state: Any) -> dict[str, NDArray[np.floating]]:
        """Copies of both; momentum under "name:momentum"."""
        return self.weights(state) | {f"{name}:momentum": value for name, value in self.momentum(state).items()}

    def noise(self) -> frozenset[str]:
        """Parameters of the first step that are nothing but rounding, since their gradient is zero in exact arithmetic.

        Another order of adding makes something else of them, and the optimizer may blow that up. The CNN has none.
        """
        if self.is_cnn:
            return frozenset()
        gradients = self.observe(self.start())[1].gradients
        norms = {name: frobenius(np.asarray(value, np.float64)) for name, value in gradients.items()}
        least = ULPS * self.eps * max(norms.values(), default=0.0)
        return frozenset(name for name, norm in norms.items() if norm <= least)

    def _pair(self, method: str, answer: object) -> tuple[Any, Any]:
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise self.side.error(f"{method}() returned {type(answer).__name__}, not a pair")
        return answer

    def _tensors(self, method: str, state: Any) -> dict[str, NDArray[np.floating]]:
        found = self.side.call(method, state)
        if not isinstance(found, Mapping) or not all(isinstance(value, np.ndarray) for value in found.values()):
            raise self.side.error(f"{method}() did not return NumPy arrays by name")
        return {name: value.copy() for name, value in found.items()}


def make_subject(side: Side, *, device: str, dtype: str) -> Subject:
    """The implementation with random images, or with rows of its own data.

    Raises:
        SideError: its `example` failed.
    """
    own = isinstance(side.implementation, SelfContained)
    problem = _own_problem(side) if own else _cnn_problem()
    order = Stream(0, _PURPOSE, 2).permutation(problem.size)
    plan = np.resize(order, (STEPS, min(BATCH, problem.size)))
    return Subject(side=side, device=device, dtype=dtype, problem=problem, sgd=SGD() if own else HYPER, plan=plan)


def _cnn_problem() -> Problem:
    pixels = Stream(0, _PURPOSE, 0).integers(256, ROWS * 32 * 32 * 3).astype(np.uint8).reshape(ROWS, 32, 32, 3)
    arrays = pixels, Stream(0, _PURPOSE, 1).integers(NUM_CLASSES, ROWS)
    return Problem(train=arrays, test=arrays, weights=initial_weights(0), outputs=(NUM_CLASSES,), is_cnn=True)


def _own_problem(side: Side) -> Problem:
    answer = side.call("example")
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Mapping) and answer[0]):
        raise side.error("example() did not return tensors by name and a data set")
    arrays = tuple(array[:ROWS].copy() for array in program_data(answer[1]))
    return Problem(train=arrays, test=arrays, weights={name: np.array(value) for name, value in answer[0].items()})
