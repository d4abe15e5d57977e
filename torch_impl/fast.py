"""The CNN's fast path as an Implementation: gradients by hand, one vector of parameters, nothing made during a step.

`run` is its own; all else, `observe` above all, is the plain path's, which a check holds it against. There is nothing
to compile, so that it pays from the first step on.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from parity.contract import SGD, normalisation_table
from torch_impl.by_hand import Kernels, Pass
from torch_impl.device import exact, threads
from torch_impl.flat import Flat
from torch_impl.flat_sgd import decayed, update
from torch_impl.implementation import Resident, State, TorchImplementation, Workbench
from torch_impl.schedule import Rates

__all__ = ["FastTorch"]

PIECE = {"cpu": 16, "cuda": 1024}
"""How many images at most go through a pass together: on the CPU, as many as its second cache holds the windows of."""

Piece = tuple[Tensor, Tensor, Tensor]
"""Of some of a step's images: rows of the data set, targets as `Pass` takes them, and where the loss is written."""


class Lane:
    """Gradients of one piece after the other, summed; what one thread works with."""

    def __init__(self, table: Tensor, weights: Flat) -> None:
        self._table, self._weights = table, weights
        self._flat = Flat(dtype=table.dtype, device=table.device)
        self._kernels = Kernels(weights, self._flat)
        self._passes: dict[int, Pass] = {}
        self.gradient = self._flat.vector

    @torch.inference_mode()
    def differentiate(self, pixels: Tensor, pieces: Sequence[Piece]) -> None:
        """Write the gradient of these pieces' loss."""
        self._kernels.expand()
        for number, (rows, targets, loss) in enumerate(pieces):
            one = self._pass(len(rows))
            one.load(pixels, rows)
            one.forward(targets, loss)
            one.backward(targets, keep=number > 0)
        self._kernels.contract()

    def _pass(self, size: int) -> Pass:
        if size not in self._passes:
            self._passes[size] = Pass(size, self._table, self._weights, self._flat, self._kernels)
        return self._passes[size]


class Program:
    """Weights and momentum, trained in place, in one precision on one device.

    All of it is made in inference mode, in which torch keeps no record for autograd: a tenth of a step at batch 4.
    """

    @torch.inference_mode()
    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.weights, self.momentum = Flat(dtype=dtype, device=device), Flat(dtype=dtype, device=device)
        self._table = torch.tensor(normalisation_table(str(dtype).removeprefix("torch.")), device=device)
        self._decayed = decayed(dtype=dtype, device=device)
        self._lanes: list[Lane] = []
        self._piece = PIECE[device.type]

    @torch.inference_mode()
    def train(
        self,
        pixels: UInt8[Tensor, "size pixels"],
        labels: Int[Tensor, " size"],
        plan: Int[Tensor, "steps batch"],
        *,
        sgd: SGD,
        rates: Sequence[Rates],
        first: bool,
        workers: int,
    ) -> Float[Tensor, " steps"]:
        """One step for each row of the plan, with its rates; the losses before each.

        Args:
            pixels: (N, 32*32*3), by (row, column, channel).
            labels: (N,).
            plan: rows of both.
            sgd: how to update.
            rates: learning rate and momentum of each step.
            first: whether there is no momentum yet.
            workers: how many threads may share a batch. The sum of their gradients is rounded as it falls to them, so
                that the last bits depend on their number, but on nothing else.
        """
        pieces, losses = self._pieces(labels, plan)
        lanes = self._some_lanes(min(workers, losses.shape[1]))
        with ThreadPoolExecutor(max(1, len(lanes) - 1), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for step, (current, its_rates) in enumerate(zip(pieces, rates, strict=True)):
                gradient = _differentiate(lanes, pool, pixels, current)
                update(
                    self.weights.vector,
                    gradient,
                    self.momentum.vector,
                    sgd=sgd,
                    rates=its_rates,
                    is_decayed=self._decayed,
                    first=first and step == 0,
                )
        return losses.sum(1)

    @torch.inference_mode()
    def load(self, state: State) -> None:
        """Copy a state's tensors in; without momentum, what is there is overwritten by the first step."""
        self.weights.load(state.parameters)
        if state.buffers:
            self.momentum.load(state.buffers)

    def snapshot(self, bench: Workbench, steps: int) -> State:
        """Copy the tensors out, as a new state, to which so many steps have led."""
        buffers = self.momentum.copies() if bench.sgd.has_buffer else {}
        return State(bench=bench, parameters=self.weights.copies(), buffers=buffers, steps=steps)

    def _pieces(self, labels: Tensor, plan: Tensor) -> tuple[list[tuple[Piece, ...]], Tensor]:
        """Each step's pieces, of equal size but for one image, and their losses, (steps, pieces)."""
        steps, batch = plan.shape
        number = -(-batch // self._piece)
        targets = self._table.new_zeros(steps, batch, 10).scatter_(2, labels[plan].unsqueeze(2), -1 / batch)
        losses = self._table.new_empty(steps, number)
        split = zip(plan.tensor_split(number, 1), targets.tensor_split(number, 1), losses.unbind(1), strict=True)
        columns = [list(zip(*(tensor.unbind(0) for tensor in tensors), strict=True)) for tensors in split]
        return list(zip(*columns, strict=True)), losses

    def _some_lanes(self, number: int) -> Sequence[Lane]:
        while len(self._lanes) < number:
            self._lanes.append(Lane(self._table, self.weights))
        return self._lanes[:number]


def _differentiate(
    lanes: Sequence[Lane], pool: ThreadPoolExecutor, pixels: Tensor, pieces: Sequence[Piece]
) -> Float[Tensor, " parameters"]:
    """The gradient of a step, each lane's in a thread of its own; the first lane's is the caller's."""
    first, *others = lanes
    share = len(lanes)
    waiting: list[Future[None]] = [
        pool.submit(lane.differentiate, pixels, pieces[number::share]) for number, lane in enumerate(others, start=1)
    ]
    first.differentiate(pixels, pieces[::share])
    for lane, done in zip(others, waiting, strict=True):
        done.result()
        first.gradient.add_(lane.gradient)
    return first.gradient


@lru_cache(maxsize=4)
def program(dtype: torch.dtype, device: torch.device) -> Program:
    """The program that all runs of this kind use, one after the other: each copies its state in and out."""
    return Program(dtype, device)


@dataclass(frozen=True)
class FastTorch(TorchImplementation):
    """The CNN with gradients by hand.

    Args:
        compiled: False, which is what `observe` and `logits` are.
    """

    compiled: bool | None = False

    def describe(self, state: State) -> str:
        """Framework, path and device."""
        name = torch.cuda.get_device_name(state.bench.device) if state.bench.device.type == "cuda" else "CPU"
        return f"torch {torch.__version__}, unfolded convolutions, gradients by hand, {name}"

    def place(self, state: State, *arrays: NDArray[np.generic]) -> Resident:
        """Copy images and labels to the device; the images lie there as they come, channels last."""
        images, labels = arrays
        device = state.bench.device
        return Resident(
            images=torch.tensor(images, device=device).permute(0, 3, 1, 2),
            labels=torch.tensor(labels, dtype=torch.int64, device=device),
        )

    def run(self, state: State, data: Resident, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows; the given state stays as it was."""
        bench, sgd = state.bench, state.bench.sgd
        constant = Rates(lr=sgd.lr, momentum=sgd.momentum)
        working = program(bench.dtype, bench.device)
        workers = torch.get_num_threads()
        with exact(), threads(1):
            working.load(state)
            losses = working.train(
                data.images.permute(0, 2, 3, 1).flatten(1),
                data.labels,
                torch.tensor(plan, dtype=torch.int64, device=bench.device),
                sgd=sgd,
                rates=[rates or constant for rates in bench.rates(state, len(plan))],
                first=not state.buffers,
                workers=workers,
            )
        return working.snapshot(bench, state.steps + len(plan)), np.array(losses.cpu().numpy())
