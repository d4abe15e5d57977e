"""The fast path's training: the parameters and everything in between in place, in pieces of a batch, by threads."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from threading import Lock

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from parity.contract import SGD, normalisation_table
from torch_impl.by_hand import Kernels, Pass
from torch_impl.flat import Flat
from torch_impl.flat_sgd import DeviceRates, decayed, on_device, update
from torch_impl.replay import STEPS, Replay
from torch_impl.schedule import Rates

__all__ = ["Pixels", "Program", "Training", "program", "replays", "shares"]

PIECE = {"cpu": 64, "cuda": 1024}
"""How many images at most go through a pass together. On 2 cores a step of 128 took, in pieces of 32, 16 and 8, 1.04,
1.23 and 1.34 times as long as in these (medians of 14 turns); larger ones gain 4 % at 512 and nothing at 2,048."""

LEAST = 16
"""How many images a thread gets at least: two threads took as long for 16 as one, and 0.86 of the time for 32."""

BLOCK = 64
"""How many steps are cut into pieces at once; the pieces of a long plan would take more memory than the data set."""

PASSES = 4
"""How many sizes of a piece a lane has the memory for: two of a batch's pieces, two of an epoch's last batch's. Of 64
images a pass takes 18 MB in float32, and keeps them while the process lasts."""

Piece = tuple[Tensor, Tensor, Tensor]
"""Of some of a step's images: rows of the data set, targets as `Pass` takes them, and where the loss is written."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """A data set as the program reads it: (N, 32*32*3) uint8, each by (row, column, channel), and (N,) labels."""

    pixels: UInt8[Tensor, "size pixels"]
    labels: Int[Tensor, " size"]

    def lie_where(self, other: Pixels) -> bool:
        """Whether both are the same memory."""
        return self.pixels.is_set_to(other.pixels) and self.labels.is_set_to(other.labels)


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
        self.passes: dict[int, Pass] = {}
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
        """For so many images; those of the sizes used last are kept."""
        found = self.passes.pop(size, None) or Pass(size, self._table, self._weights, self._flat, self._kernels)
        self.passes[size] = found
        if len(self.passes) > PASSES:
            del self.passes[next(iter(self.passes))]
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Captured:
    """Steps as a graph, and what they are the steps of.

    A graph reads and writes memory by its address, and keeps none of it alive: `data` and `passes` are kept here.
    """

    replay: Replay
    sgd: SGD
    batch: int
    data: Pixels
    passes: Sequence[Pass]

    def serves(self, sgd: SGD, batch: int, data: Pixels) -> bool:
        """Whether these are steps of such batches of this data."""
        return (self.sgd, self.batch) == (sgd, batch) and self.data.lie_where(data)


class Program:
    """Weights and momentum, trained in place, in one precision on one device.

    Hold `lock` from `load` until the results are copied out: there is one program of a kind for all threads.

    All of it is made in inference mode, in which torch keeps no record for autograd: a tenth of a step at batch 4.
    """

    @torch.inference_mode()
    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.weights, self.momentum = Flat(dtype=dtype, device=device), Flat(dtype=dtype, device=device)
        self._device = device
        self._table = torch.tensor(normalisation_table(str(dtype).removeprefix("torch.")), device=device)
        self._classes = torch.arange(10, device=device)
        self._decayed = decayed(dtype=dtype, device=device)
        self._lanes: list[Lane] = []
        self._captured: Captured | None = None
        self._refused = ""
        self.lock = Lock()

    @property
    def graphs(self) -> str:
        """For people: whether steps are replayed as CUDA graphs, or why not; "" on the CPU."""
        if not replays(self._device):
            return ""
        return f"no CUDA graphs ({self._refused})" if self._refused else "CUDA graphs"

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
        if not replays(self._device):
            return self._steps(data, plan, rates, training)
        # Whatever is captured: the same steps are to round alike, in a graph or one by one.
        numbers = torch.tensor(list(zip(*rates, strict=True)), dtype=self._table.dtype, device=self._device)
        return self._in_graphs(data, plan, numbers, training)

    def _in_graphs(self, data: Pixels, plan: Tensor, rates: Tensor, training: Training) -> Tensor:
        """Steps with rates that lie on the device, (2, steps), replayed where they fill a graph."""
        captured, batch = self._captured, plan.shape[1]
        if captured is not None and not captured.serves(training.sgd, batch, data):
            captured = None
        # The steps that do not fill a graph; or, before there is one, those that make what it will use.
        alone = len(plan) % STEPS or (0 if captured and not training.first else STEPS)
        losses = [self._one_by_one(data, plan[:alone], rates[:, :alone], training=training)]
        if alone == len(plan):
            return losses[0]
        plan, rates = plan[alone:], rates[:, alone:]
        later = replace(training, first=False)
        captured = captured or self._capture(data, plan[:STEPS], rates[:, :STEPS], later)
        if captured is None:
            losses.append(self._one_by_one(data, plan, rates, training=later))
        else:
            losses += map(captured.replay, plan.split(STEPS), rates.split(STEPS, 1))
        return torch.cat(losses)

    def _capture(self, data: Pixels, plan: Tensor, rates: Tensor, training: Training) -> Captured | None:
        """A graph of such steps on this data; None where torch cannot make one, which `graphs` then says."""
        self._captured = None  # frees what the one before keeps, before this one takes memory of its own
        if self._refused:
            return None
        train = partial(self._one_by_one, data, training=training)
        try:
            replay = Replay(train, plan, rates)
        except RuntimeError as error:  # what torch raises where CUDA cannot capture; nothing has been computed
            self._refused = " ".join(str(error).split()).partition(". ")[0]
            warnings.warn(f"no CUDA graph, the steps are launched one by one: {self._refused}", stacklevel=2)
            return None
        passes = [one for lane in self._lanes for one in lane.passes.values()]
        self._captured = Captured(replay=replay, sgd=training.sgd, batch=plan.shape[1], data=data, passes=passes)
        return self._captured

    def _one_by_one(self, data: Pixels, plan: Tensor, rates: Tensor, *, training: Training) -> Tensor:
        """As `_steps`, with rates that lie on the device, (2, steps)."""
        return self._steps(data, plan, on_device(rates, training.sgd), training)

    def _steps(self, data: Pixels, plan: Tensor, rates: Sequence[Rates | DeviceRates], training: Training) -> Tensor:
        """As `train`, one kernel after the other."""
        threads, number = shares(plan.shape[1], workers=training.workers, most=PIECE[self._device.type])
        lanes, losses = self._some_lanes(threads), self._table.new_empty(len(plan), number)
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
            # Not scatter_, whose like torch warns of on CUDA where kernels are to be deterministic.
            is_label = labels[rows].unsqueeze(2) == self._classes
            targets = self._table.new_zeros(len(rows), batch, 10).masked_fill_(is_label, -1 / batch)
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
    stride = len(lanes)
    waiting: list[Future[None]] = [
        pool.submit(lane.differentiate, pixels, pieces[number::stride]) for number, lane in enumerate(others, start=1)
    ]
    first.differentiate(pixels, pieces[::stride])
    for lane, done in zip(others, waiting, strict=True):
        done.result()
        first.gradient.add_(lane.gradient)
    return first.gradient


def shares(batch: int, *, workers: int, most: int) -> tuple[int, int]:
    """How many threads share a batch, and the number of its pieces of at most so many images.

    All threads get equally many pieces, so that none waits for another's last one.
    """
    threads = max(1, min(workers, batch // LEAST))
    return threads, threads * -(-batch // (threads * most))


def replays(device: torch.device) -> bool:
    """Whether steps are to be replayed as CUDA graphs."""
    return device.type == "cuda"


@lru_cache(maxsize=4)
def program(dtype: torch.dtype, device: torch.device, *, tf32: bool) -> Program:  # noqa: ARG001  see below
    """The program that all runs of this kind use, one after the other: see its lock.

    One for each kind of products, though it computes in whatever kind torch is set to: a graph keeps that of its
    capture.
    """
    return Program(dtype, device)
