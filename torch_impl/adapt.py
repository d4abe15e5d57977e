"""Any torch module, with its own loss, optimizer and data, as an Implementation.

The given module and optimizer are copied, together, and never changed. As in `torch_impl.implementation`, a state is a
snapshot, and a run copies it into one working program, trains that, and copies the result out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from parity.contract import SGD, InputError, StepTrace, Weights
from parity.contract.programs import (
    PROBE_ROWS,
    Returned,
    check_results,
    check_tensors,
    program_data,
    require_default_sgd,
)
from torch_impl.capture import Capture, PrecisionCheck, scoped, type_name
from torch_impl.device import available_devices, exact, peak_memory, resolve, threads_for
from torch_impl.layout import to_canonical
from torch_impl.slots import OptimizerState, cast_slots, check_slots, load, read_slots, snapshot, write_slots

__all__ = ["AdaptedModule", "adapt"]

EVALUATION_ROWS = 500

Batch = tuple[Tensor, ...]
"""A data set, or some of its rows: equally long tensors on the device."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Program:
    """What is trained; the module is called with the first `inputs` tensors of a batch, the loss with the others."""

    module: nn.Module
    loss: Callable[..., Tensor]
    optimizer: torch.optim.Optimizer
    inputs: int

    def copy(self) -> Program:
        """Another one; a single deepcopy of all three, so that the optimizer holds the copied module's parameters."""
        module, loss, optimizer = copy.deepcopy((self.module, self.loss, self.optimizer))
        return Program(module=module, loss=loss, optimizer=optimizer, inputs=self.inputs)

    def forward(self, batch: Batch) -> tuple[Any, Any]:
        """The model's output and the loss: user code, so that anything may come; `Workbench.probe` looks at it."""
        output = self.module(*batch[: self.inputs])
        return output, self.loss(output, *batch[self.inputs :])

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Update module and optimizer in place; the output and the loss are those before the update."""
        self.module.zero_grad()
        output, loss = self.forward(batch)
        torch.autograd.backward(loss)
        self.optimizer.step()
        return output.detach(), loss.detach()

    def parameters(self) -> dict[str, nn.Parameter]:
        """The live parameters by name; one that several modules share comes once."""
        return dict(self.module.named_parameters())

    def tensors(self) -> dict[str, Tensor]:
        """All live tensors that a step may change in the module: parameters and buffers."""
        return {**self.parameters(), **dict(self.module.named_buffers())}

    def reported(self) -> dict[str, Tensor]:
        """Those of them that `weights` returns: of floats, and part of what the module saves."""
        saved = self.module.state_dict().keys()
        return {name: t for name, t in self.tensors().items() if t.is_floating_point() and name in saved}

    def gradients(self) -> dict[str, Tensor]:
        """Of the last step; zeros for a trained parameter that the loss does not depend on."""
        trained = {name: p for name, p in self.parameters().items() if p.requires_grad}
        return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in trained.items()}


class Workbench:
    """A working copy of a program, in one precision on one device, that states are copied into."""

    def __init__(self, program: Program, dtype: torch.dtype, device: torch.device) -> None:
        self.program = program.copy()
        self.dtype, self.device = dtype, device
        for part in (self.program.module, self.program.loss):
            if isinstance(part, nn.Module):
                part.to(dtype=dtype, device=device)
        cast_slots(self.program.optimizer, dtype, device)
        self.shapes = {name: tuple(p.shape) for name, p in self.program.parameters().items()}
        self.stepped = snapshot(self.program.optimizer, {})

    @contextmanager
    def holding(self, state: State, rows: int) -> Iterator[Program]:
        """Within it, the program is in this state, and torch as exact as the run needs it.

        What user code creates without naming a type is in the run's type, and random numbers follow the state's.
        """
        random = [self.device] if self.device.type == "cuda" else []
        with exact(), threads_for(rows), _default_dtype(self.dtype), torch.random.fork_rng(random):
            self.load(state)
            yield self.program

    @torch.no_grad()
    def load(self, state: State) -> None:
        """Copy a state in."""
        for name, tensor in self.program.tensors().items():
            tensor.copy_(state.tensors[name])
        load(self.program.optimizer, self.program.parameters(), state.optimizer)
        _set_random_state(state.random)

    def snapshot(self) -> State:
        """Copy the state out."""
        return State(
            bench=self,
            tensors={name: tensor.detach().clone() for name, tensor in self.program.tensors().items()},
            optimizer=snapshot(self.program.optimizer, self.program.parameters()),
            random=_random_state(self.device),
        )

    def batch(self, arrays: Sequence[NDArray[np.generic]]) -> Batch:
        """Copies on the device: floats in the run's type, integers as int64."""
        kinds = {"f": self.dtype, "b": torch.bool, "i": torch.int64, "u": torch.int64}
        return tuple(torch.tensor(array, dtype=kinds[array.dtype.kind], device=self.device) for array in arrays)

    def probe(self, state: State, batch: Batch) -> None:
        """Try a step, and learn from it what the optimizer keeps.

        Raises:
            InputError: outputs or loss cannot be compared, or something is computed in another precision.
        """
        with self.holding(state, PROBE_ROWS) as program:
            program.module.zero_grad()
            with scoped(program.module) as scope, PrecisionCheck(self.dtype, scope):
                output, loss = program.forward(batch)
                check_results(_returned(output), _returned(loss), rows=len(batch[0]), dtype=type_name(self.dtype))
                scope.outside = "backward"
                torch.autograd.backward(loss)
            program.optimizer.step()
            self.stepped = snapshot(program.optimizer, program.parameters())
        check_slots(self.stepped, self.dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """A snapshot: the module's parameters and buffers, what the optimizer keeps, torch's random generators."""

    bench: Workbench = field(repr=False)
    tensors: dict[str, Tensor]
    optimizer: OptimizerState
    random: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class AdaptedModule:
    """A torch program as `Implementation` and `SelfContained`; made by `adapt`."""

    program: Program
    data: tuple[NDArray[np.generic], ...]

    def example(self) -> tuple[dict[str, NDArray[np.floating]], tuple[NDArray[np.generic], ...]]:
        """See `parity.contract.SelfContained`: the module's own parameters and buffers, and the data."""
        tensors = self.program.reported()
        # NumPy has no bfloat16; a run computes in float32 or float64 in any case.
        wide = {name: t if t.dtype == torch.float64 else t.float() for name, t in tensors.items()}
        return to_canonical(wide), self.data

    def devices(self) -> tuple[str, ...]:
        """See `parity.contract.Implementation`; so for all methods."""
        return available_devices()

    def peak_memory(self) -> int | None:
        """See `parity.contract.Metered`."""
        return peak_memory()

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """A state with these weights, and the optimizer as it was given."""
        require_default_sgd(sgd)
        bench = Workbench(self.program, getattr(torch, dtype), resolve(device))
        with torch.random.fork_rng([bench.device] if bench.device.type == "cuda" else []):
            torch.manual_seed(0)
            state = _with_weights(bench.snapshot(), weights)
        bench.probe(state, bench.batch([array[:PROBE_ROWS] for array in self.data]))
        return state

    def describe(self, state: State) -> str:
        """Framework, path, device and classes."""
        bench, program = state.bench, state.bench.program
        device = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
        classes = f"{type(program.module).__name__} with {type(program.optimizer).__name__}"
        return f"torch {torch.__version__}, eager, {device}, {classes}"

    def restore(self, state: State, weights: Weights, momentum: Weights) -> State:
        """The state with these tensors; integer buffers, step counts and random generators stay."""
        bench = state.bench
        optimizer = write_slots(state.optimizer, bench.stepped, bench.shapes, momentum)
        return replace(_with_weights(state, weights), optimizer=optimizer)

    def place(self, state: State, *arrays: NDArray[np.generic]) -> Batch:
        """Copies on the device: floats in the run's type, integers as int64."""
        return state.bench.batch(program_data(arrays, self.program.inputs))

    def run(self, state: State, data: Batch, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows; the given state stays as it was."""
        bench = state.bench
        losses = torch.empty(len(plan), dtype=bench.dtype, device=bench.device)
        with bench.holding(state, plan.shape[1]) as program:
            for number, rows in enumerate(torch.tensor(plan, dtype=torch.int64, device=bench.device)):
                losses[number] = program.step(tuple(tensor[rows] for tensor in data))[1]
            return bench.snapshot(), np.array(losses.cpu().numpy())

    def observe(self, state: State, data: Batch, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """A normal step, after the same forward pass under observation, which is then forgotten."""
        bench = state.bench
        index = torch.tensor(rows, dtype=torch.int64, device=bench.device)
        batch = tuple(tensor[index] for tensor in data)
        with bench.holding(state, len(rows)) as program:
            activations, parents = _captured(program, batch)
            bench.load(state)
            output, loss = program.step(batch)
            gradients, after = to_canonical(program.gradients()), bench.snapshot()
        return after, StepTrace(
            batch={str(number): np.array(tensor.cpu().numpy()) for number, tensor in enumerate(batch)},
            weights=self.weights(state),
            activations=activations,
            logits=to_canonical({"logits": output}),
            loss=to_canonical({"loss": loss}),
            gradients=gradients,
            momentum=self.momentum(after),
            parameters=self.weights(after),
            parents=parents,
        )

    @torch.no_grad()
    def logits(self, state: State, data: Batch) -> NDArray[np.floating]:
        """The outputs for every row, in order, with all of the module in evaluation mode."""
        inputs = zip(*(torch.split(tensor, EVALUATION_ROWS) for tensor in data[: self.program.inputs]), strict=True)
        with state.bench.holding(state, EVALUATION_ROWS) as program, _evaluating(program.module):
            outputs = torch.cat([program.module(*batch) for batch in inputs])
        return np.array(outputs.cpu().numpy())

    def weights(self, state: State) -> dict[str, NDArray[np.floating]]:
        """The parameters, then the saved buffers of floats: torch's names and layout, copies."""
        return to_canonical({name: state.tensors[name] for name in state.bench.program.reported()})

    def momentum(self, state: State) -> dict[str, NDArray[np.floating]]:
        """What the optimizer keeps, under the names in `torch_impl.slots`, copies; {} while it keeps nothing."""
        return to_canonical(read_slots(state.optimizer, state.bench.shapes))


def adapt(
    module: nn.Module,
    loss: Callable[..., Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    data: Sequence[NDArray[np.generic]],
    inputs: int = 1,
) -> AdaptedModule:
    """A program to compare, from what it is made of.

    Args:
        module: called as module(*inputs); its parts train in the modes, train or eval, in which they stand. Copied.
        loss: called as loss(output, *targets), returns a scalar.
        optimizer: over the module's parameters; its `step` takes no argument. Copied.
        data: equally long arrays, the model's inputs first and then the targets. Floats are converted to the run's
            type, integers to int64.
        inputs: how many of the arrays are the model's inputs.

    Raises:
        InputError: the data do not fit together, the module cannot be copied, or the optimizer is not over its
            parameters.

    >>> layer = torch.nn.Linear(3, 1)
    >>> sgd = torch.optim.SGD(layer.parameters(), lr=0.1)
    >>> rows = np.ones((8, 3)), np.zeros((8, 1))
    >>> side = adapt(layer, torch.nn.functional.mse_loss, sgd, data=rows)
    >>> sorted(side.example()[0])
    ['bias', 'weight']
    """
    held = {id(parameter) for parameter in module.parameters()}
    if any(id(parameter) not in held for group in optimizer.param_groups for parameter in group["params"]):
        problem = "it holds a parameter that is not the module's"
        raise InputError("optimizer", type(optimizer).__name__, problem, "make it over module.parameters()")
    program = Program(module=module, loss=loss, optimizer=optimizer, inputs=inputs)
    try:
        program = program.copy()
    except (RuntimeError, TypeError) as error:  # how torch and Python say that something cannot be copied
        name = type(module).__name__
        raise InputError("module", name, f"it cannot be copied ({error})", "keep no computed tensors in it") from error
    return AdaptedModule(program=program, data=program_data(data, inputs))


def _with_weights(state: State, weights: Weights) -> State:
    own = {name: state.tensors[name] for name in state.bench.program.reported()}
    check_tensors(weights, {name: tuple(tensor.shape) for name, tensor in own.items()}, argument="weights")
    given = {name: torch.tensor(weights[name], dtype=t.dtype, device=t.device) for name, t in own.items()}
    return replace(state, tensors={**state.tensors, **given})


def _captured(program: Program, batch: Batch) -> tuple[dict[str, NDArray[np.floating]], dict[str, tuple[str, ...]]]:
    """The activations of a forward pass with their parents; changes running statistics."""
    with scoped(program.module) as scope:
        capture = Capture(batch[: program.inputs], scope)
        with capture:
            output, loss = program.forward(batch)
    return capture.leading_to(output, loss)


def _returned(value: object) -> Returned:
    return (tuple(value.shape), type_name(value.dtype)) if isinstance(value, Tensor) else None


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Within it, all parts are in evaluation mode; each returns to its own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _random_state(device: torch.device) -> tuple[Tensor, ...]:
    cpu = torch.get_rng_state()
    return (cpu, torch.cuda.get_rng_state(device)) if device.type == "cuda" else (cpu,)


def _set_random_state(states: tuple[Tensor, ...]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)
