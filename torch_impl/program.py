"""The fast path's training: the parameters and everything in between in place, in pieces of a batch, by threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from parity.contract import SGD, normalisation_table
from torch_impl.by_hand import Kernels, Pass
from torch_impl.flat import Flat
from torch_impl.flat_sgd import decayed, update
from torch_impl.replay import STEPS, Replay
from torch_impl.schedule import Rates

__all__ = ["Pixels", "Program", "Training", "program"]

PIECE = {"cpu": 8, "cuda": 1024}
"""How many images at most go through a pass together: on the CPU, so that a core's own cache holds their windows."""

BLOCK = 64
"""How many steps are cut into pieces at once; the pieces of a long plan would take more memory than the data set."""

Piece = tuple[Tensor, Tensor, Tensor]
"""Of some of a step's images: rows of the data set, targets as `Pass` takes them, and where the loss is written."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """A data set as the program reads it: (N, 32*32*3) uint8, each by (row, column, channel), and (N,) labels."""

    pixels: UInt8[Tensor, "size pixels"]
    labels: Int[Tensor, " size"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to train.

    Args:
        sgd: how to update.
        first: whether there is no momentum yet.
        workers: how many threads may share a batch. Their gradients are summed in a fixed order, so that the last bits
            depend on the threads' number, but on nothing else.
    """

    sgd: SGD
    first: bool
    workers: int


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
        self._device = device
        self._table = torch.tensor(normalisation_table(str(dtype).removeprefix("torch.")), device=device)
        self._decayed = decayed(dtype=dtype, device=device)
        self._lanes: list[Lane] = []
        self._graphs: dict[object, Replay] = {}

    @torch.inference_mode()
    def load(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
        """Copy a state's tensors in; without momentum, {}, what is there is overwritten by the first step."""
        self.weights.load(parameters)
        if buffers:
            self.momentum.load(buffers)

    @torch.inference_mode()
    def train(
        self, data: Pixels, plan: Int[Tensor, "steps batch"], rates: Sequence[Rates], training: Training
    ) -> Float[Tensor, " steps"]:
        """One step for each row of the plan, with its rates; the losses before each."""
        if not self._replays(training.sgd):
            return self._steps(data, plan, rates, training)
        key = (training.sgd, plan.shape[1], data.pixels.data_ptr(), data.labels.data_ptr())
        # The steps that do not fill a graph; or, before there is one, those that make what it will use.
        alone = len(plan) % STEPS or (0 if key in self._graphs and not training.first else STEPS)
        losses = [self._steps(data, plan[:alone], rates[:alone], training)]
        if alone < len(plan):
            if key not in self._graphs:  # only the last is kept: it holds the data that it reads
                self._graphs = {key: self._capture(data, plan.shape[1], rates[:STEPS], training.sgd)}
            losses += map(self._graphs[key], plan[alone:].split(STEPS))
        return torch.cat(losses)

    def _replays(self, sgd: SGD) -> bool:
        """Whether steps are replayed as CUDA graphs: these hold one learning rate for ever."""
        return self._device.type == "cuda" and sgd.schedule is None

    def _capture(self, data: Pixels, batch: int, rates: Sequence[Rates], sgd: SGD) -> Replay:
        """A graph of steps on this data, which are none's first."""
        training = Training(sgd=sgd, first=False, workers=1)
        return Replay(lambda plan: self._steps(data, plan, rates, training), batch, self._device)

    def _steps(self, data: Pixels, plan: Tensor, rates: Sequence[Rates], training: Training) -> Tensor:
        """As `train`, one kernel after the other."""
        number = -(-plan.shape[1] // PIECE[self._device.type])
        lanes, losses = self._some_lanes(min(training.workers, number)), self._table.new_empty(len(plan), number)
        pieces = self._pieces(data.labels, plan, losses)
        with ThreadPoolExecutor(len(lanes), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for step, (its_pieces, its_rates) in enumerate(zip(pieces, rates, strict=True)):
                update(
                    self.weights.vector,
                    _differentiate(lanes, pool, data.pixels, its_pieces),
                    self.momentum.vector,
                    sgd=training.sgd,
                    rates=its_rates,
                    is_decayed=self._decayed,
                    first=training.first and step == 0,
                )
        return losses.sum(1)

    def _pieces(self, labels: Tensor, plan: Tensor, losses: Tensor) -> Iterator[tuple[Piece, ...]]:
        """Each step's pieces, of equal size but for one image; the losses are (steps, pieces)."""
        (_, batch), number = plan.shape, losses.shape[1]
        for rows, block in zip(plan.split(BLOCK), losses.split(BLOCK), strict=True):
            targets = self._table.new_zeros(len(rows), batch, 10).scatter_(2, labels[rows].unsqueeze(2), -1 / batch)
            split = zip(rows.tensor_split(number, 1), targets.tensor_split(number, 1), block.unbind(1), strict=True)
            yield from zip(*(zip(*map(torch.unbind, tensors), strict=True) for tensors in split), strict=True)

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
