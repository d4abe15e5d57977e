"""Any JAX function, with its own loss, optax chain and data, as an Implementation.

Everything is a pure function here, so a state is just the pytrees that a step takes and returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from numpy.typing import NDArray

from jax_impl.capture import Recorded, check_precision, order_of_use, record
from jax_impl.device import available_devices, exact, peak_memory, resolve, to_device
from jax_impl.slots import check_slots, leaf_name, named_leaves, read_slots, write_slots
from parity.contract import SGD, InputError, StepTrace, Weights
from parity.contract.programs import (
    PROBE_ROWS,
    Returned,
    check_results,
    check_tensors,
    program_data,
    require_default_sgd,
    unique_names,
)

__all__ = ["AdaptedFunction", "adapt"]

EVALUATION_ROWS = 500

NARROW = {"int64": "int32", "uint64": "uint32"}

Batch = tuple[Array, ...]
"""A data set, or some of its rows: equally long arrays on the device."""


class Carry(NamedTuple):
    """What a step changes: three pytrees; statistics is None in a program without."""

    params: Any
    statistics: Any
    optimizer: optax.OptState


class Result(NamedTuple):
    """What a step computes on its way; gradients is a pytree like the parameters."""

    output: Any
    loss: Any
    gradients: Any


@dataclass(frozen=True, eq=False, kw_only=True)
class Program:
    """What is trained; the model is called with the first `inputs` arrays of a batch, the loss with the others."""

    apply: Callable[..., Any]
    params: Any
    statistics: Any
    loss: Callable[..., Array]
    tx: optax.GradientTransformation
    inputs: int
    evaluate: Callable[..., Array] | None

    def forward(self, params: Any, statistics: Any, batch: Batch) -> tuple[Any, tuple[Any, Any]]:
        """The loss, and beside it the model's output and the new statistics: user code, which `_check` looks at."""
        inputs, targets = batch[: self.inputs], batch[self.inputs :]
        if statistics is None:
            output = self.apply(params, *inputs)
        else:
            # Taken apart and put together: an nnx.Variable may be written to only in the trace that made it.
            output, statistics = self.apply(params, jax.tree.map(lambda leaf: leaf, statistics), *inputs)
        with jax.named_scope("loss"):
            return self.loss(output, *targets), (output, statistics)

    def differentiated(self, carry: Carry, batch: Batch) -> tuple[Result, Any]:
        """Loss, output and gradients, and the new statistics."""
        value_and_grad = jax.value_and_grad(self.forward, has_aux=True)
        (loss, (output, statistics)), gradients = value_and_grad(carry.params, carry.statistics, batch)
        return Result(output, loss, gradients), statistics

    def step(self, carry: Carry, batch: Batch) -> tuple[Carry, Result]:
        """A pure step: what follows, and what was computed before the update."""
        result, statistics = self.differentiated(carry, batch)
        updates, optimizer = self.tx.update(result.gradients, carry.optimizer, carry.params)
        return Carry(optax.apply_updates(carry.params, updates), statistics, optimizer), result

    def outputs(self, carry: Carry, inputs: Batch) -> Any:
        """The model's outputs in evaluation, statistics unchanged."""
        state = (carry.params,) if carry.statistics is None else (carry.params, carry.statistics)
        if self.evaluate is not None:
            return self.evaluate(*state, *inputs)
        output = self.apply(*state, *inputs)
        return output if carry.statistics is None else output[0]

    def reported(self, carry: Carry) -> dict[str, Any]:
        """What `weights` returns: parameters, then statistics of floats, by name."""
        statistics = {name: leaf for name, leaf in named_leaves(carry.statistics).items() if _is_float(leaf)}
        return {**named_leaves(carry.params), **statistics}


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """Everything a step needs, immutable, as JAX's arrays are; and the parameters' names in the order of their use."""

    carry: Carry
    order: tuple[str, ...]
    dtype: str
    device: jax.Device


@dataclass(frozen=True, eq=False, kw_only=True)
class AdaptedFunction:
    """A JAX program as `Implementation` and `SelfContained`; made by `adapt`."""

    program: Program
    data: tuple[NDArray[np.generic], ...]

    def example(self) -> tuple[dict[str, NDArray[np.floating]], tuple[NDArray[np.generic], ...]]:
        """See `parity.contract.SelfContained`: the given parameters and statistics, and the data."""
        tensors = self.program.reported(Carry(self.program.params, self.program.statistics, ()))
        # NumPy has no bfloat16; a run computes in float32 or float64 in any case.
        return {
            name: np.array(t, dtype=np.promote_types(t.dtype, np.float32)) for name, t in tensors.items()
        }, self.data

    def devices(self) -> tuple[str, ...]:
        """See `parity.contract.Implementation`; so for all methods."""
        return available_devices()

    def peak_memory(self) -> int | None:
        """See `parity.contract.Metered`."""
        return peak_memory()

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """A state with these weights, and the optimizer's as it makes it for them."""
        require_default_sgd(sgd)
        program, where = self.program, resolve(device)
        with _context(dtype, where):
            given = Carry(_cast(program.params, dtype), _cast(program.statistics, dtype), ())
            carry = _with_weights(program, given, weights)
            carry = carry._replace(optimizer=program.tx.init(carry.params))
            batch = _place([array[:PROBE_ROWS] for array in self.data], dtype)
            order = _check(program, carry, batch, dtype)
        return State(carry=carry, order=order, dtype=dtype, device=where)

    def describe(self, state: State) -> str:
        """Framework, path, device and function."""
        device = "CPU" if state.device.platform == "cpu" else state.device.device_kind
        name = getattr(self.program.apply, "__name__", type(self.program.apply).__name__)
        return f"jax {jax.__version__}, compiled scan, {device}, {name}"

    def restore(self, state: State, weights: Weights, momentum: Weights) -> State:
        """The state with these tensors; statistics of integers and step counts stay."""
        with _context(state.dtype, state.device):
            carry = _with_weights(self.program, state.carry, weights)
            own = read_slots(carry.optimizer, carry.params)
            if momentum:
                check_tensors(momentum, {name: leaf.shape for name, leaf in own.items()}, argument="momentum")
                slots = {name: to_device(momentum[name], state.dtype) for name in own}
            else:
                slots = read_slots(self.program.tx.init(carry.params), carry.params)
            return replace(state, carry=carry._replace(optimizer=write_slots(carry.optimizer, carry.params, slots)))

    def place(self, state: State, *arrays: NDArray[np.generic]) -> Batch:
        """Copies on the device: floats in the run's type, 64-bit integers as int32."""
        with _context(state.dtype, state.device):
            return _place(program_data(arrays, self.program.inputs), state.dtype)

    def run(self, state: State, data: Batch, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows in one compiled scan; the given state stays as it was."""
        with _context(state.dtype, state.device):
            carry, losses = self._train(state.carry, data, to_device(plan))
            return replace(state, carry=carry), np.array(losses)

    def observe(self, state: State, data: Batch, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """A normal step, and beside it the forward pass under observation."""
        with _context(state.dtype, state.device):
            batch = tuple(array[jnp.array(rows)] for array in data)
            recorded = self._record(state.carry, batch)
            carry, result = self._step(state.carry, batch)
            after = replace(state, carry=carry)
        return after, StepTrace(
            batch=_to_numpy({str(number): array for number, array in enumerate(batch)}),
            weights=self.weights(state),
            activations=_to_numpy(dict(zip(recorded.names, recorded.values, strict=True))),
            logits=_to_numpy({"logits": result.output}),
            loss=_to_numpy({"loss": result.loss}),
            gradients=_to_numpy(_ordered(named_leaves(result.gradients), state.order)),
            momentum=self.momentum(after),
            parameters=self.weights(after),
            parents=dict(zip(recorded.names, recorded.parents, strict=True)),
        )

    def logits(self, state: State, data: Batch) -> NDArray[np.floating]:
        """The outputs for every row, in order."""
        inputs = data[: self.program.inputs]
        with _context(state.dtype, state.device):
            batches = [
                tuple(array[start : start + EVALUATION_ROWS] for array in inputs)
                for start in range(0, len(data[0]), EVALUATION_ROWS)
            ]
            return np.concatenate([np.array(self._outputs(state.carry, batch)) for batch in batches])

    def weights(self, state: State) -> dict[str, NDArray[np.floating]]:
        """The parameters in the order of their use, then the statistics of floats; named by path, own layout."""
        return _to_numpy(_ordered(self.program.reported(state.carry), state.order))

    def momentum(self, state: State) -> dict[str, NDArray[np.floating]]:
        """What the optimizer keeps, under the names in `jax_impl.slots`, copies."""
        return _to_numpy(read_slots(state.carry.optimizer, state.carry.params))

    # Compiled once for each program, precision and shape.

    @cached_property
    def _train(self) -> Callable[..., tuple[Carry, Array]]:
        def train(carry: Carry, data: Batch, plan: Array) -> tuple[Carry, Array]:
            def step(carry: Carry, rows: Array) -> tuple[Carry, Array]:
                carry, result = self.program.step(carry, tuple(array[rows] for array in data))
                return carry, result.loss

            return lax.scan(step, carry, plan)

        return jax.jit(train)

    @cached_property
    def _step(self) -> Callable[..., tuple[Carry, Result]]:
        return jax.jit(self.program.step)

    @cached_property
    def _outputs(self) -> Callable[..., Array]:
        return jax.jit(self.program.outputs)

    @cached_property
    def _record(self) -> Callable[..., Recorded]:
        count = self.program.inputs

        def forward(inputs: Batch, targets: Batch, carry: Carry) -> tuple[Array, Array]:
            loss, (output, _) = self.program.forward(carry.params, carry.statistics, (*inputs, *targets))
            return output, loss

        return jax.jit(lambda carry, batch: record(forward, batch[:count], batch[count:], carry))


def adapt(
    apply: Callable[..., Any],
    params: Any,
    loss: Callable[..., Array],
    tx: optax.GradientTransformation,
    *,
    data: Sequence[NDArray[np.generic]],
    inputs: int = 1,
    statistics: Any = None,
    evaluate: Callable[..., Array] | None = None,
) -> AdaptedFunction:
    """A program to compare, from what it is made of.

    Args:
        apply: called as apply(params, *inputs), returns the output; with statistics, as apply(params, statistics,
            *inputs), returns the output and the new statistics. Pure, and traceable by jit.
        params: pytree of floating-point arrays, from which the loss is differentiated.
        loss: called as loss(output, *targets), returns a scalar.
        tx: the optax transformation that trains them.
        data: equally long arrays, the model's inputs first and then the targets. Floats are converted to the run's
            type, 64-bit integers to int32, JAX's own default.
        inputs: how many of the arrays are the model's inputs.
        statistics: pytree that the forward pass updates, the running mean and variance of batch norm for example.
        evaluate: for a model that evaluates otherwise than it trains: called like `apply`, returns the output alone.

    Raises:
        InputError: the data do not fit together, or the pytrees hold something else or the same name twice.

    >>> def line(params, x):
    ...     return x @ params["weight"] + params["bias"]
    >>> start = {"weight": np.zeros((3, 1)), "bias": np.zeros(1)}
    >>> rows = np.ones((8, 3)), np.zeros((8, 1))
    >>> side = adapt(line, start, lambda y, target: ((y - target) ** 2).mean(), optax.sgd(0.1), data=rows)
    >>> sorted(side.example()[0])
    ['bias', 'weight']
    """
    paths = [path for tree in (params, statistics) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    unique_names(map(leaf_name, paths), argument="params")
    for name, leaf in named_leaves(params).items():
        if not _is_float(leaf):
            problem = f"it is {getattr(leaf, 'dtype', type(leaf).__name__)}, not an array of floats"
            raise InputError("params", name, problem, "give what is not trained as statistics, or inside apply")
    program = Program(
        apply=apply,
        params=_copied(params),
        statistics=_copied(statistics),
        loss=loss,
        tx=tx,
        inputs=inputs,
        evaluate=evaluate,
    )
    return AdaptedFunction(program=program, data=program_data(data, inputs))


@contextmanager
def _context(dtype: str, device: jax.Device) -> Iterator[None]:
    """As exact as for the built-in side, but mixed types are promoted: `_check` looks at what comes of them."""
    with exact(dtype, device), jax.numpy_dtype_promotion("standard"):
        yield


def _check(program: Program, carry: Carry, batch: Batch, dtype: str) -> tuple[str, ...]:
    """Trace a step, without computing it; returns the parameters' names in the order of their use.

    Raises:
        InputError: outputs or loss cannot be compared, or something is computed in another precision.
    """
    closed, (result, _) = jax.make_jaxpr(program.differentiated, return_shape=True)(carry, batch)
    check_precision(closed.jaxpr, dtype)
    evaluated = jax.eval_shape(program.outputs, carry, batch[: program.inputs])
    for output in (result.output, evaluated):
        check_results(_returned(output), _returned(result.loss), rows=len(batch[0]), dtype=dtype)
    after, _ = jax.eval_shape(program.step, carry, batch)
    check_slots(after.optimizer, after.params, dtype)
    for what, old, new in zip(Carry._fields, carry, after, strict=True):
        if _types(old) != _types(new):
            problem = "a step changes its structure, shapes or types"
            raise InputError("program", what, problem, "return it as it was given, with other values")
    names = list(named_leaves(carry.params))
    used = order_of_use(closed.jaxpr, dict(zip(closed.jaxpr.invars, names, strict=False)))  # they come first
    return tuple(dict.fromkeys([*used, *names]))


def _returned(value: object) -> Returned:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return None if shape is None or dtype is None else (tuple(shape), str(dtype))


def _types(tree: Any) -> tuple[Any, list[tuple[tuple[int, ...], Any]]]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _with_weights(program: Program, carry: Carry, weights: Weights) -> Carry:
    own = program.reported(carry)
    check_tensors(weights, {name: leaf.shape for name, leaf in own.items()}, argument="weights")

    def given(path: Any, leaf: Array) -> Array:
        name = leaf_name(path)
        return to_device(weights[name], str(leaf.dtype)) if name in own else leaf

    params, statistics = (jax.tree_util.tree_map_with_path(given, tree) for tree in carry[:2])
    return carry._replace(params=params, statistics=statistics)


def _copied(tree: Any) -> Any:
    """Copies as they are, in NumPy, if they are floats: a caller may donate or overwrite the originals."""
    return jax.tree.map(lambda leaf: np.array(leaf) if _is_float(leaf) else leaf, tree)


def _cast(tree: Any, dtype: str) -> Any:
    """Copies on the default device, floats in this type."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, dtype=dtype if _is_float(leaf) else None, copy=True), tree)


def _place(arrays: Sequence[NDArray[np.generic]], dtype: str) -> Batch:
    """Copies on the default device: floats in this type, 64-bit integers as 32-bit ones in either precision.

    Raises:
        InputError: an integer does not fit.
    """
    types = [dtype if array.dtype.kind == "f" else NARROW.get(str(array.dtype), array.dtype) for array in arrays]
    for number, (array, kind) in enumerate(zip(arrays, types, strict=True)):
        if array.dtype.kind in "iu" and not np.can_cast(array.dtype, kind) and (array.astype(kind) != array).any():
            raise InputError("data", f"array {number}", f"it holds integers beyond {kind}", "give smaller ones")
    return tuple(to_device(array, str(kind)) for array, kind in zip(arrays, types, strict=True))


def _ordered(tensors: Mapping[str, Any], order: tuple[str, ...]) -> dict[str, Any]:
    """These names first, then the others."""
    return {name: tensors[name] for name in dict.fromkeys([*order, *tensors])}


def _to_numpy(tensors: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Copies: NumPy's view of a JAX array on the CPU would keep the array's memory."""
    return {name: np.array(leaf) for name, leaf in tensors.items()}


def _is_float(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
