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
        train: takes the steps of a plan, (STEPS, batch), with its rates, (2, STEPS), and returns their losses. It has
            run before, so that the libraries that it calls have made what they need.
        plan: of any such steps; says how many rows a step has, on which CUDA device.
        rates: theirs.

    Raises:
        RuntimeError: something that `train` does cannot be captured; nothing has been computed then.
    """

    def __init__(self, train: Callable[[Tensor, Tensor], Tensor], plan: Tensor, rates: Tensor) -> None:
        self._plan, self._rates = plan.clone(), rates.clone()
        self._graph = torch.cuda.CUDAGraph()
        # "thread_local": what other threads ask of CUDA meanwhile, as the other side's framework may in this process,
        # does not disturb the capture. By default it would end it.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._losses = train(self._plan, self._rates)

    def __call__(self, plan: Int[Tensor, "steps batch"], rates: Float[Tensor, "2 steps"]) -> Float[Tensor, " steps"]:
        """Take the steps of this plan, with these rates."""
        self._plan.copy_(plan)
        self._rates.copy_(rates)
        self._graph.replay()
        return self._losses.clone()
