"""The reference as a contestant: copies in, one compiled call, copies out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, InputError, Weights, check_weights
from parity_peers.reference.layout import from_canonical, images_by_planes, to_canonical
from parity_peers.reference.step import Parameters, Rule, buffers_for, train_steps
from parity_peers.sgd import TORCH_SGD, require_only

__all__ = ["Reference", "Resident", "State"]


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """Arrays that no run writes to; `fresh` before the first step."""

    parameters: Parameters
    velocity: Parameters
    rule: Rule
    dtype: str
    fresh: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Resident:
    """(N, 3072) uint8 images, twice: as they came, and by planes; (N,) int64 labels."""

    images: NDArray[np.uint8]
    planes: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Reference:
    """See `parity_peers`."""

    def devices(self) -> tuple[str, ...]:
        """See `parity.contract.Implementation`; so for all methods."""
        return ("cpu",)

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """A state with these weights and no momentum; of `sgd`, what torch.optim.SGD takes."""
        check_weights(weights)
        require_only(sgd, TORCH_SGD)
        if device != "cpu":
            raise InputError("device", device, "the reference is compiled for the CPU", "use cpu")
        parameters = from_canonical(weights, dtype)
        return State(parameters=parameters, velocity=_zeros(parameters), rule=_rule(sgd, dtype), dtype=dtype)

    def describe(self, state: State) -> str:  # noqa: ARG002  all its states compute alike
        """Compiler and device."""
        return f"numba {numba.__version__}, forward, backward and SGD by hand in vectors of 16, 1 thread, CPU"

    def place(self, state: State, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> Resident:  # noqa: ARG002
        """Copy the data set, in both layouts that a step reads."""
        return Resident(
            images=images.reshape(len(images), -1).copy(),
            planes=images_by_planes(images).reshape(len(images), -1),
            labels=labels.astype(np.int64),
        )

    def run(self, state: State, data: Resident, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows."""
        parameters, velocity = _copy(state.parameters), _copy(state.velocity)
        losses = np.empty(len(plan), state.dtype)
        train_steps(
            parameters,
            velocity,
            _zeros(parameters),
            buffers_for(plan.shape[1], state.dtype),
            data.images,
            data.planes,
            data.labels,
            plan,
            losses,
            state.rule,
            fresh=state.fresh,
        )
        return replace(state, parameters=parameters, velocity=velocity, fresh=state.fresh and not len(plan)), losses

    def weights(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the parameters."""
        return to_canonical(state.parameters)

    def momentum(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the buffers; zeros before the first step, {} when there is none."""
        return to_canonical(state.velocity) if state.rule.momentum else {}

    def peak_memory(self) -> None:
        """There is no device."""


def _rule(sgd: SGD, dtype: str) -> Rule:
    number = np.dtype(dtype).type
    return Rule(
        lr=number(sgd.lr),
        momentum=number(sgd.momentum),
        keep=number(1 - sgd.dampening if sgd.momentum else 1),
        weight_decay=number(sgd.weight_decay),
        sign=number(-1 if sgd.maximize else 1),
        nesterov=sgd.nesterov,
    )


def _zeros(parameters: Parameters) -> Parameters:
    return Parameters(*map(np.zeros_like, parameters))


def _copy(parameters: Parameters) -> Parameters:
    return Parameters(*(array.copy() for array in parameters))
