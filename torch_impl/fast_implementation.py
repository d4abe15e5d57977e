"""The CNN's fast path as an Implementation: gradients by hand, one vector of parameters, nothing made during a step.

`run` is its own; all else, `observe` above all, is the plain path's, which a check holds it against. There is nothing
to compile, so that it pays from the first step on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from parity.contract import check_images
from torch_impl.device import exact, threads
from torch_impl.implementation import Resident, State, TorchImplementation
from torch_impl.program import Pixels, Program, Training, program
from torch_impl.schedule import Rates

__all__ = ["FastTorch"]


@dataclass(frozen=True)
class FastTorch(TorchImplementation):
    """The CNN with gradients by hand; `observe` and `logits` are eager."""

    compiled: bool = field(default=False, init=False, repr=False)

    def describe(self, state: State) -> str:
        """Framework, path and device."""
        path = f"torch {torch.__version__}, unfolded convolutions, gradients by hand"
        return ", ".join(filter(None, (path, _working(state).graphs, state.bench.where)))

    def place(self, state: State, *arrays: NDArray[np.generic]) -> Resident:
        """Copy images and labels to the device; the images lie there as they come, channels last."""
        images, labels = arrays
        check_images(images)
        device = state.bench.device
        return Resident(
            images=torch.tensor(images, device=device).permute(0, 3, 1, 2),
            labels=torch.tensor(labels, dtype=torch.int64, device=device),
        )

    def run(self, state: State, data: Resident, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows; the given state stays as it was."""
        bench, sgd = state.bench, state.bench.sgd
        if not len(plan):  # there would be no momentum to read but that of another run
            return replace(state), torch.empty(0, dtype=bench.dtype).numpy()
        constant = Rates(lr=sgd.lr, momentum=sgd.momentum)
        rates = [current or constant for current in bench.rates(state, len(plan))]
        working, rows = _working(state), torch.tensor(plan, dtype=torch.int64, device=bench.device)
        with working.lock:
            workers = torch.get_num_threads() if bench.device.type == "cpu" else 1
            training = Training(sgd=sgd, first=not state.buffers, workers=workers)
            with exact(tf32=bench.tf32), threads(1):
                working.load(state.parameters, state.buffers)
                losses = working.train(_pixels(data), rows, rates, training)
            buffers = working.momentum.copies() if sgd.has_buffer else {}
            after = State(bench, working.weights.copies(), buffers, state.steps + len(plan))
        return after, np.array(losses.cpu().numpy())


def _working(state: State) -> Program:
    return program(state.bench.dtype, state.bench.device, tf32=state.bench.tf32)


def _pixels(data: Resident) -> Pixels:
    """A view where the images lie channels last, as `FastTorch.place` lays them."""
    return Pixels(data.images.permute(0, 2, 3, 1).flatten(1), data.labels)
