"""Several training steps as one CUDA graph: at small batches, launching kernels one by one takes longer than they do.

A graph repeats the same kernels on the same memory, so what it captures must read its input from one place, write to
one place, and never wait for the device.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["STEPS", "Replay"]

STEPS = 10
"""How many steps a graph holds: enough for its launch to cost little in each, few enough to be captured at once."""


class Replay:
    """`STEPS` steps, captured when this is made, and taken whenever it is called.

    Args:
        train: takes the steps of a plan, (STEPS, batch), and returns their losses. It has run before, so that the
            libraries that it calls have made what they need.
        batch: how many rows a step of the plan has.
        device: a CUDA device.
    """

    def __init__(self, train: Callable[[Tensor], Tensor], batch: int, device: torch.device) -> None:
        self._plan = torch.zeros(STEPS, batch, dtype=torch.int64, device=device)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._losses = train(self._plan)

    def __call__(self, plan: Int[Tensor, "steps batch"]) -> Float[Tensor, " steps"]:
        """Take the steps of this plan."""
        self._plan.copy_(plan)
        self._graph.replay()
        return self._losses.clone()
