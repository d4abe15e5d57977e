"""The PyTorch side as an Implementation: canonical NumPy in and out, torch in between.

torch updates its parameters in place. To keep the contract's promise that a state never changes, a state is a snapshot
(parameters and momentum buffers), and a run copies it into one working model, trains that, and copies the result out;
for 62,006 parameters that costs less than a training step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parity.contract import SGD, StepTrace, Weights, check_images, normalisation_table
from torch_impl.device import available_devices, exact, peak_memory, precision, require_compiler, resolve, threads_for
from torch_impl.layout import from_canonical, images_from_canonical, to_canonical
from torch_impl.model import CNN
from torch_impl.observe import activations, recording, to_batch
from torch_impl.schedule import Rates, RateTable
from torch_impl.sgd import make_optimizer, momentum_buffers, set_momentum_buffers
from torch_impl.train import Step, evaluate, loss_fn, normalise, train_steps, update

__all__ = ["Resident", "State", "TorchImplementation"]


class Workbench:
    """The model and the optimizer that runs of one kind share; compiled code lives as long as it does."""

    def __init__(self, sgd: SGD, dtype: torch.dtype, device: torch.device, *, tf32: bool, compiled: bool) -> None:
        self.sgd, self.dtype, self.device, self.tf32, self.compiled = sgd, dtype, device, tf32, compiled
        self.model = CNN(dtype=dtype, device=device)
        self.named = dict(self.model.named_parameters())
        self.optimizer = make_optimizer(self.named.values(), sgd)
        self.table = torch.tensor(normalisation_table(str(dtype).removeprefix("torch.")), device=device)
        self.rate_table = RateTable(sgd, sgd.schedule) if sgd.schedule else None
        self.step = Step(
            model=self.model,
            optimizer=self.optimizer,
            sgd=sgd,
            loss_fn=torch.compile(loss_fn) if compiled else loss_fn,
            # Compiled code is made for one learning rate: with a schedule it would be compiled anew for each.
            update=torch.compile(update) if compiled and not sgd.schedule else update,
        )

    @property
    def where(self) -> str:
        """For people: the device, and whether its products may be TF32's."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"TF32 products, {name}" if self.tf32 else name

    def rates(self, state: State, steps: int) -> Sequence[Rates | None]:
        """What each of the next steps changes in the optimizer."""
        return self.rate_table(state.steps, steps) if self.rate_table else [None] * steps

    @torch.no_grad()
    def load(self, state: State) -> None:
        """Copy a state's tensors in."""
        for name, parameter in self.named.items():
            parameter.copy_(state.parameters[name])
        set_momentum_buffers(self.optimizer, self.named, state.buffers)

    def snapshot(self, steps: int) -> State:
        """Copy the tensors out, as a new state, to which so many steps have led."""
        return State(
            bench=self,
            parameters={name: p.detach().clone() for name, p in self.named.items()},
            buffers={name: b.clone() for name, b in momentum_buffers(self.optimizer, self.named).items()},
            steps=steps,
        )


@lru_cache(maxsize=16)
def workbench(sgd: SGD, dtype: torch.dtype, device: torch.device, *, tf32: bool, compiled: bool) -> Workbench:
    """The workbench for these settings; made once, so that what was compiled for one state serves the next."""
    return Workbench(sgd, dtype, device, tf32=tf32, compiled=compiled)


@dataclass(frozen=True, eq=False)
class State:
    """A snapshot: canonical names -> tensors, and how many steps have led here.

    `buffers` is empty before the first step and without momentum.
    """

    bench: Workbench = field(repr=False)
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    steps: int = 0


@dataclass(frozen=True, eq=False)
class Resident:
    """A data set on the device: (N, 3, 32, 32) uint8 images and (N,) int64 labels."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class TorchImplementation:
    """The CNN trained by torch.optim.SGD.

    Args:
        compiled: True for torch.compile, False for eager. Loss and update are compiled apart, with the backward pass of
            autograd between them, and with a schedule the update is not: see `Workbench`.
    """

    compiled: bool = False

    def devices(self) -> tuple[str, ...]:
        """See `parity.contract.Implementation`; so for all methods."""
        return available_devices()

    def peak_memory(self) -> int | None:
        """See `parity.contract.Metered`."""
        return peak_memory()

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """A state with these weights and no momentum; dtype is "float32", "float64" or, on a GPU, "tf32"."""
        where = resolve(device)
        kind, tf32 = precision(dtype, where)
        if self.compiled:
            require_compiler(where)
        bench = workbench(sgd, kind, where, tf32=tf32, compiled=self.compiled)
        return State(bench=bench, parameters=from_canonical(weights, dtype=kind, device=where), buffers={})

    def describe(self, state: State) -> str:
        """Framework, path and device."""
        bench = state.bench
        return f"torch {torch.__version__}, {'compiled' if bench.compiled else 'eager'}, {bench.where}"

    def restore(self, state: State, weights: Weights, momentum: Weights) -> State:
        """The state with these tensors in place of its own; momentum may be {}."""
        bench = state.bench
        tensors = partial(from_canonical, dtype=bench.dtype, device=bench.device)
        buffers = tensors(momentum) if momentum else {}
        return replace(state, parameters=tensors(weights), buffers=buffers)

    def place(self, state: State, *arrays: NDArray[np.generic]) -> Resident:
        """Copy images and labels to the device, channels first."""
        device = state.bench.device
        images, labels = arrays
        check_images(images)
        return Resident(
            images=images_from_canonical(images, device=device),
            labels=torch.tensor(labels, dtype=torch.int64, device=device),
        )

    def run(self, state: State, data: Resident, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows; the given state stays as it was."""
        bench = state.bench
        rows, rates = torch.tensor(plan, dtype=torch.int64, device=bench.device), bench.rates(state, len(plan))
        bench.load(state)
        with exact(tf32=bench.tf32), threads_for(rows.shape[1]):
            losses = train_steps(
                bench.step, table=bench.table, images=data.images, labels=data.labels, plan=rows, rates=rates
            )
        return bench.snapshot(state.steps + len(plan)), np.array(losses.cpu().numpy())

    def observe(self, state: State, data: Resident, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """One step, eager also where runs are compiled, with every stage recorded."""
        bench = state.bench
        index = torch.tensor(rows, dtype=torch.int64, device=bench.device)
        images, labels = normalise(bench.table, data.images[index]), data.labels[index]
        (rates,) = bench.rates(state, 1)
        bench.load(state)
        with exact(tf32=bench.tf32), threads_for(len(rows)), recording(bench.model) as seen:
            loss = Step(model=bench.model, optimizer=bench.optimizer, sgd=bench.sgd)(images, labels, rates)
        after = bench.snapshot(state.steps + 1)
        return after, StepTrace(
            batch=to_batch(images, labels),
            weights=self.weights(state),
            activations=activations(seen),
            logits=to_canonical({"logits": seen["fc3"]}),
            loss=to_canonical({"loss": loss}),
            gradients=to_canonical({name: p.grad for name, p in bench.named.items() if p.grad is not None}),
            momentum=self.momentum(after),
            parameters=self.weights(after),
        )

    def logits(self, state: State, data: Resident) -> NDArray[np.floating]:
        """(N, 10) outputs, in order."""
        bench = state.bench
        bench.load(state)
        with exact(tf32=bench.tf32):
            return np.array(evaluate(bench.model, bench.table, data.images).cpu().numpy())

    def weights(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the parameters."""
        return to_canonical(state.parameters)

    def momentum(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the buffers; zeros before the first step, {} when there is none."""
        if not state.bench.sgd.has_buffer:
            return {}
        return to_canonical(state.buffers or {name: torch.zeros_like(p) for name, p in state.parameters.items()})
