"""The JAX side as an Implementation: canonical NumPy in and out, pure functions in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from jax_impl.compile_ahead import in_background
from jax_impl.convolutions import PLAIN, WINDOWED
from jax_impl.device import (
    available_cores,
    available_devices,
    exact,
    peak_memory,
    require_precision,
    resolve,
    to_device,
)
from jax_impl.formulation import Formulation
from jax_impl.observe import observed_step, rows_of
from jax_impl.products import FAST
from jax_impl.schedule import rates_of
from jax_impl.sgd import initial_state, momentum_trace, unscheduled, with_momentum
from jax_impl.train import Carry, evaluate, train_many, train_steps
from parity.contract import CNN_ACTIVATIONS, SGD, StepTrace, Weights, check_images, normalisation_table, storage

__all__ = ["JaxImplementation", "Resident", "State"]


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """Everything a step needs, and how many steps have led here; immutable, as JAX's arrays are."""

    carry: Carry
    steps: int
    sgd: SGD
    precision: str
    device: jax.Device
    formulation: Formulation
    table: Array

    @property
    def dtype(self) -> str:
        """Of its arrays."""
        return storage(self.precision)


@dataclass(frozen=True, eq=False)
class Resident:
    """A data set on the device: images as the formulation reads them, and (N,) int32 labels."""

    images: Array
    labels: Array


@dataclass(frozen=True)
class JaxImplementation:
    """The CNN trained by optax.sgd, many steps in one compiled scan.

    Args:
        formulation: PLAIN or FAST; None to choose by device: FAST on the CPU, on a GPU what PLAIN is there, WINDOWED.
            Neither has been measured on a GPU.

    Why the number of steps has no say: FAST takes half a second longer to compile, which some 200 steps of batch 4 or
    10 of batch 128 give back, so a shorter run would be done sooner with PLAIN. But nobody knows a run's length before
    its end: `run` sees one chunk of it. A choice by the first chunk would have the same steps round otherwise in other
    chunks, a choice in `restore` or after `observe` would have to be carried along, and members of an ensemble could
    differ in it. What is lost is at most that half second.
    """

    formulation: Formulation | None = None

    def devices(self) -> tuple[str, ...]:
        """See `parity.contract.Implementation`; so for all methods."""
        return available_devices()

    def peak_memory(self) -> int | None:
        """See `parity.contract.Metered`."""
        return peak_memory()

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """A state with these weights and no momentum; dtype is "float32", "float64" or, on a GPU, "tf32"."""
        where = resolve(device)
        require_precision(dtype, where)
        formulation = chosen_formulation(self.formulation, where.platform)
        with exact(dtype, where):
            params = formulation.from_canonical(weights, dtype=storage(dtype))
            return State(
                carry=(params, initial_state(params, sgd=unscheduled(sgd))),
                steps=0,
                sgd=sgd,
                precision=dtype,
                device=where,
                formulation=formulation,
                table=jnp.array(normalisation_table(storage(dtype))),
            )

    def describe(self, state: State) -> str:
        """Framework, path and device."""
        name = "CPU" if state.device.platform == "cpu" else state.device.device_kind
        products = "TF32 products, " if state.precision == "tf32" else ""
        return f"jax {jax.__version__}, compiled scan, {state.formulation.name}, {products}{name}"

    def restore(self, state: State, weights: Weights, momentum: Weights) -> State:
        """The state with these tensors in place of its own; momentum may be {}: then it is a first step's."""
        with exact(state.precision, state.device):
            params = state.formulation.from_canonical(weights, dtype=state.dtype)
            if not momentum:
                return replace(state, carry=(params, initial_state(params, sgd=unscheduled(state.sgd))))
            trace = state.formulation.from_canonical(momentum, dtype=state.dtype)
            return replace(state, carry=(params, with_momentum(state.carry[1], trace)))

    def place(self, state: State, *arrays: NDArray[np.generic]) -> Resident:
        """Copy images and labels to the device."""
        images, labels = arrays
        check_images(images)
        with exact(state.precision, state.device):
            return Resident(to_device(state.formulation.resident(images)), to_device(labels, "int32"))

    def compile_ahead(
        self,
        state: State,
        train: Resident,
        test: Resident | None,
        *,
        observed: Sequence[int],
        plans: Sequence[tuple[int, int]],
    ) -> Callable[[], None]:
        """See `parity.contract.CompiledAhead`; on the CPU alone: for a GPU, XLA times kernels while it compiles."""
        if state.device.platform != "cpu":
            return lambda: None
        observe, run, outputs = (partial(function, state) for function in (self.observe, self.run, self.logits))
        return in_background(
            [
                *(partial(observe, train, np.zeros(batch, np.int32)) for batch in observed),
                *([partial(outputs, test)] if test is not None else []),
                *(partial(run, train, np.zeros(plan, np.int32)) for plan in plans),
            ]
        )

    def run(self, state: State, data: Resident, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows; the given state stays as it was."""
        with exact(state.precision, state.device):
            compiled = train_steps.for_batch(plan.shape[1], state.device.platform)
            carry, losses = _call(compiled, state.carry, state, data, plan)
            return replace(state, carry=carry, steps=state.steps + len(plan)), np.array(losses)

    def run_many(
        self, states: Sequence[State], data: Resident, plan: NDArray[np.int32]
    ) -> tuple[tuple[State, ...], NDArray[np.floating]]:
        """Train several states on the same rows: on a GPU vectorised, on the CPU one on each core.

        A CPU finds no more to do in a vectorised step than in several single ones, and single ones wait for each other
        nowhere.
        """
        if states[0].device.platform != "cpu":
            return _run_vectorised(states, data, plan)
        with ThreadPoolExecutor(available_cores()) as pool:
            trained = list(pool.map(lambda state: self.run(state, data, plan), states))
        members, losses = zip(*trained, strict=True)
        return members, np.stack(losses)

    def observe(self, state: State, data: Resident, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """One step with every stage recorded."""
        form = state.formulation
        with exact(state.precision, state.device):
            batch = rows_of(data.images, data.labels, to_device(rows))
            rates = jax.tree.map(itemgetter(0), rates_of(state.sgd, state.steps, 1, state.dtype))
            compiled = observed_step.for_batch(len(rows), state.device.platform)
            carry, seen = compiled(
                state.carry, state.table, *batch, rates=rates, sgd=unscheduled(state.sgd), formulation=form
            )
            after = replace(state, carry=carry, steps=state.steps + 1)
            return after, StepTrace(
                batch={"images": np.array(seen.images), "labels": np.array(seen.labels)},
                weights=self.weights(state),
                activations={
                    name: form.activation_to_canonical(name, np.asarray(seen.layers[name])) for name in CNN_ACTIVATIONS
                },
                logits={"logits": np.array(seen.logits)},
                loss={"loss": np.array(seen.loss)},
                gradients=form.to_canonical(seen.gradients),
                momentum=self.momentum(after),
                parameters=self.weights(after),
            )

    def logits(self, state: State, data: Resident) -> NDArray[np.floating]:
        """(N, 10) outputs, in order."""
        with exact(state.precision, state.device):
            return np.array(evaluate(state.carry[0], state.table, data.images, formulation=state.formulation))

    def weights(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the parameters."""
        return state.formulation.to_canonical(state.carry[0])

    def momentum(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the buffers; zeros before the first step, {} when there is none."""
        trace = momentum_trace(state.carry[1])
        return {} if trace is None else state.formulation.to_canonical(trace)


def chosen_formulation(wanted: Formulation | None, platform: str) -> Formulation:
    """What is computed on a platform, "cpu" or "gpu": pooling.py says what a GPU refuses in PLAIN."""
    if platform == "cpu":
        return wanted or FAST
    return WINDOWED if wanted in (None, PLAIN) else wanted


def _call(
    compiled: Callable[..., tuple[Carry, Array]], carry: Carry, state: State, data: Resident, plan: NDArray[np.int32]
) -> tuple[Carry, Array]:
    """A compiled function of train.py, with everything of the state but the carry."""
    rates = rates_of(state.sgd, state.steps, len(plan), state.dtype)
    arrays = (state.table, data.images, data.labels, to_device(plan))
    return compiled(carry, *arrays, rates=rates, sgd=unscheduled(state.sgd), formulation=state.formulation)


def _run_vectorised(
    states: Sequence[State], data: Resident, plan: NDArray[np.int32]
) -> tuple[tuple[State, ...], NDArray[np.floating]]:
    """Train all states in one program."""
    first = states[0]
    with exact(first.precision, first.device):
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state.carry for state in states))
        carries, losses = _call(train_many, stacked, first, data, plan)
        members = [jax.tree.map(itemgetter(number), carries) for number in range(len(states))]
    trained = tuple(
        replace(state, carry=carry, steps=state.steps + len(plan)) for state, carry in zip(states, members, strict=True)
    )
    return trained, np.array(losses)
