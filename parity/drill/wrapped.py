"""An implementation inside another one, where a fault can be planted without touching the program itself.

`Wrapped` changes nothing and keeps the program's fast path; `Stepwise` takes a run as single observed steps, for faults
that live in the middle of a step: `run` then carries them as `observe` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, AnyImplementation, StepTrace, Weights

__all__ = ["Inapplicable", "State", "Stepwise", "Wrapped", "begun"]


class Inapplicable(Exception):  # noqa: N818  no error: the fault has no place in this program, as the message says
    """The program has nothing that this fault could change."""


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """The program's own state, the steps since `start`, and what the fault remembers of them."""

    inner: Any
    sgd: SGD
    steps: int = 0
    memory: dict[str, Any] = field(default_factory=dict)


class Wrapped:
    """An Implementation that passes everything on to another one."""

    def __init__(self, inner: AnyImplementation) -> None:
        self.inner = inner

    def devices(self) -> tuple[str, ...]:
        """See `parity.contract.Implementation`; so for all methods."""
        return self.inner.devices()

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """Before step 0."""
        return State(inner=self.inner.start(weights, sgd, dtype=dtype, device=device), sgd=sgd)

    def describe(self, state: State) -> str:
        """The program's own line."""
        return self.inner.describe(state.inner)

    def restore(self, state: State, weights: Weights, momentum: Weights) -> State:
        """Other tensors; the number of steps stays, and what is remembered."""
        return replace(state, inner=self.inner.restore(state.inner, weights, momentum))

    def place(self, state: State, *arrays: NDArray[np.generic]) -> Any:
        """A data set on the device."""
        return self.inner.place(state.inner, *arrays)

    def run(self, state: State, data: Any, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """The program's own fast path."""
        inner, losses = self.inner.run(state.inner, data, plan)
        return replace(state, inner=inner, steps=state.steps + len(plan)), losses

    def observe(self, state: State, data: Any, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """One step, recorded."""
        inner, trace = self.inner.observe(state.inner, data, rows)
        return replace(state, inner=inner, steps=state.steps + 1), trace

    def logits(self, state: State, data: Any) -> NDArray[np.floating]:
        """The outputs, in order."""
        return self.inner.logits(state.inner, data)

    def weights(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the parameters."""
        return self.inner.weights(state.inner)

    def momentum(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the optimizer's tensors."""
        return self.inner.momentum(state.inner)


class Stepwise(Wrapped):
    """As `Wrapped`, with each step of a run taken by `observe`."""

    def run(self, state: State, data: Any, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Step by step."""
        losses = []
        for rows in plan:
            state, trace = self.observe(state, data, rows)
            losses.append(np.asarray(trace.loss["loss"]))
        return state, np.array(losses) if losses else np.empty(0)


def begun(momentum: Weights) -> Weights:
    """The buffers, or {} before the first step, when all are zero: the form in which `restore` takes them."""
    return momentum if any(np.any(buffer) for buffer in momentum.values()) else {}
