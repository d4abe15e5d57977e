"""The JAX side as an Implementation: canonical NumPy in and out, pure functions in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from jax_impl.device import available_cores, available_devices, exact, resolve, to_device
from jax_impl.layout import from_canonical, images_to_canonical, to_canonical
from jax_impl.model import PLAIN, UNFOLDED, Operations
from jax_impl.observe import activations, observed_step
from jax_impl.schedule import rates_of
from jax_impl.sgd import make_optimizer, momentum_trace, unscheduled, with_momentum
from jax_impl.train import Carry, evaluate, train_many, train_steps
from parity.contract import SGD, StepTrace, Weights, normalisation_table

__all__ = ["JaxImplementation", "Resident", "State"]


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """Everything a step needs, and how many steps have led here; immutable, as JAX's arrays are."""

    carry: Carry
    steps: int
    sgd: SGD
    dtype: str
    device: jax.Device
    operations: Operations
    table: Array


@dataclass(frozen=True, eq=False)
class Resident:
    """A data set on the device: (N, 32, 32, 3) uint8 images and (N,) int32 labels."""

    images: Array
    labels: Array


@dataclass(frozen=True)
class JaxImplementation:
    """The CNN trained by optax.sgd, many steps in one compiled scan.

    Args:
        unfolded: True for convolutions as matrix products and pooling as choices, False for XLA's own operations, None
            to choose by device: unfolded on the CPU, where the gradients of XLA's own are slow.
    """

    unfolded: bool | None = None

    def devices(self) -> tuple[str, ...]:
        """See `parity.contract.Implementation`; so for all methods."""
        return available_devices()

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """A state with these weights and no momentum; dtype is "float32" or "float64"."""
        where = resolve(device)
        unfolded = self.unfolded if self.unfolded is not None else where.platform == "cpu"
        with exact(dtype, where):
            params = from_canonical(weights, dtype=dtype)
            return State(
                carry=(params, make_optimizer(unscheduled(sgd)).init(params)),
                steps=0,
                sgd=sgd,
                dtype=dtype,
                device=where,
                operations=UNFOLDED if unfolded else PLAIN,
                table=jnp.array(normalisation_table(dtype)),
            )

    def describe(self, state: State) -> str:
        """Framework, path and device."""
        path = "unfolded convolutions" if state.operations is UNFOLDED else "XLA convolutions"
        name = "CPU" if state.device.platform == "cpu" else state.device.device_kind
        return f"jax {jax.__version__}, compiled scan, {path}, {name}"

    def restore(self, state: State, weights: Weights, momentum: Weights) -> State:
        """The state with these tensors in place of its own; momentum may be {}: then it is a first step's."""
        with exact(state.dtype, state.device):
            params = from_canonical(weights, dtype=state.dtype)
            if not momentum:
                return replace(state, carry=(params, make_optimizer(unscheduled(state.sgd)).init(params)))
            trace = from_canonical(momentum, dtype=state.dtype)
            return replace(state, carry=(params, with_momentum(state.carry[1], trace)))

    def place(self, state: State, *arrays: NDArray[np.generic]) -> Resident:
        """Copy images and labels to the device."""
        images, labels = arrays
        with exact(state.dtype, state.device):
            return Resident(to_device(images), to_device(labels, "int32"))

    def run(self, state: State, data: Resident, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows; the given state stays as it was."""
        with exact(state.dtype, state.device):
            carry, losses = _call(train_steps, state.carry, state, data, plan)
            return replace(state, carry=carry, steps=state.steps + len(plan)), np.array(losses)

    def run_many(
        self, states: Sequence[State], data: Resident, plan: NDArray[np.int32]
    ) -> tuple[tuple[State, ...], NDArray[np.floating]]:
        """Train several states on the same rows, vectorised; on the CPU in as many groups as there are cores.

        A CPU finds no more to do in a vectorised step than in several single ones, but a group on each core does not
        wait for the others between two operations.
        """
        groups = _groups(states, available_cores() if states[0].device.platform == "cpu" else 1)
        with ThreadPoolExecutor(len(groups)) as pool:
            trained = list(pool.map(lambda group: _run_group(group, data, plan), groups))
        members = tuple(state for group, _ in trained for state in group)
        return members, np.concatenate([losses for _, losses in trained])

    def observe(self, state: State, data: Resident, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """One step with every stage recorded."""
        with exact(state.dtype, state.device):
            carry, seen = _call(observed_step, state.carry, state, data, rows)
            after = replace(state, carry=carry, steps=state.steps + 1)
            return after, StepTrace(
                batch={"images": images_to_canonical(np.asarray(seen.images)), "labels": np.array(seen.labels)},
                weights=self.weights(state),
                activations=activations(seen.layers),
                logits={"logits": np.array(seen.layers["fc3"])},
                loss={"loss": np.array(seen.loss)},
                gradients=to_canonical(seen.gradients),
                momentum=self.momentum(after),
                parameters=self.weights(after),
            )

    def logits(self, state: State, data: Resident) -> NDArray[np.floating]:
        """(N, 10) outputs, in order."""
        with exact(state.dtype, state.device):
            return np.array(evaluate(state.carry[0], state.table, data.images))

    def weights(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the parameters."""
        return to_canonical(state.carry[0])

    def momentum(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the buffers; zeros before the first step, {} when there is none."""
        trace = momentum_trace(state.carry[1])
        return {} if trace is None else to_canonical(trace)


def _call(
    compiled: Callable[..., tuple[Carry, Any]], carry: Carry, state: State, data: Resident, rows: NDArray[np.int32]
) -> tuple[Carry, Any]:
    """A compiled function of train.py or observe.py, with everything of the state but the carry.

    A plan's rows are (steps, batch), a single step's (batch,).
    """
    rates = rates_of(state.sgd, state.steps, len(rows) if rows.ndim > 1 else 1, state.dtype)
    if rows.ndim == 1:
        rates = jax.tree.map(itemgetter(0), rates)
    arrays = (state.table, data.images, data.labels, to_device(rows))
    return compiled(carry, *arrays, rates=rates, sgd=unscheduled(state.sgd), operations=state.operations)


def _groups(states: Sequence[State], number: int) -> list[Sequence[State]]:
    """The states in order, in at most so many groups of equal size but for the last."""
    size = -(-len(states) // number)
    return [states[first : first + size] for first in range(0, len(states), size)]


def _run_group(
    states: Sequence[State], data: Resident, plan: NDArray[np.int32]
) -> tuple[list[State], NDArray[np.floating]]:
    """Train a group's states in one vectorised program."""
    first = states[0]
    with exact(first.dtype, first.device):
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state.carry for state in states))
        carries, losses = _call(train_many, stacked, first, data, plan)
        members = [jax.tree.map(itemgetter(number), carries) for number in range(len(states))]
    trained = [
        replace(state, carry=carry, steps=state.steps + len(plan)) for state, carry in zip(states, members, strict=True)
    ]
    return trained, np.array(losses)
