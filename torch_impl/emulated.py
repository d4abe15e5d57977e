"""Sides whose float32 products are no more exact than a smaller format's: `torch_impl.emulated:tf32` and others.

    tf32      operands rounded to 11 significant bits, products and sums in float32, as NVIDIA's tensor cores take them
    bfloat16  operands rounded to 8 significant bits, sums in float32, results rounded to 8 again
    float16   the same with float16's 11 significant bits and its range

This holds for every product of the layers, forward and backward. In float64 they are the plain program, exactly: so
what they differ in is precision and no formula, on any machine.

Source: https://docs.nvidia.com/cuda/cublas/#tensor-core-usage, https://en.wikipedia.org/wiki/TensorFloat-32
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight
from torch.overrides import TorchFunctionMode

from parity.contract import StepTrace
from torch_impl.implementation import Resident, State, TorchImplementation

__all__ = ["EmulatedTorch", "Format", "bfloat16", "float16", "round_significand", "tf32"]

FLOAT32_BITS = 24


def round_significand(x: Tensor, bits: int) -> Tensor:
    """Round to so many significant bits, to nearest, ties to even; float32's range of exponents stays.

    Args:
        x: float32, any shape; what is not finite stays as it is.
        bits: from 1 to 23, the leading one included.
    """
    dropped = FLOAT32_BITS - bits
    pattern = x.view(torch.int32)
    # Just under half of the last bit that is kept, and the whole half where that bit is odd; a carry into the exponent
    # is what rounding up to the next power of two means.
    half = (1 << (dropped - 1)) - 1 + ((pattern >> dropped) & 1)
    rounded = ((pattern + half) >> dropped << dropped).view(torch.float32)
    return torch.where(torch.isfinite(x), rounded, x)


@dataclass(frozen=True, kw_only=True)
class Format:
    """How products are computed: `operand` and `result` round float32 tensors."""

    name: str
    operand: Callable[[Tensor], Tensor]
    result: Callable[[Tensor], Tensor]


class _Linear(torch.autograd.Function):
    """y = x w^T + b."""

    @staticmethod
    def forward(ctx: Any, to: Format, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        ctx.to = to
        x, w = to.operand(x), to.operand(w)
        ctx.save_for_backward(x, w)
        return to.result(F.linear(x, w, b))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, Tensor, Tensor, Tensor]:
        """By x dy w, by w dy^T x, by b the sum of dy, which is no product."""
        (x, w), to = ctx.saved_tensors, ctx.to
        dy = to.operand(upstream[0])
        return None, to.result(dy @ w), to.result(dy.T @ x), upstream[0].sum(0)


class _Conv2d(torch.autograd.Function):
    """No padding, stride 1."""

    @staticmethod
    def forward(ctx: Any, to: Format, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        ctx.to = to
        x, w = to.operand(x), to.operand(w)
        ctx.save_for_backward(x, w)
        return to.result(F.conv2d(x, w, b))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, Tensor, Tensor, Tensor]:
        (x, w), to = ctx.saved_tensors, ctx.to
        dy = to.operand(upstream[0])
        dx, dw = conv2d_input(x.shape, w, dy), conv2d_weight(x, w.shape, dy)
        return None, to.result(dx), to.result(dw), upstream[0].sum((0, 2, 3))


class _Products(TorchFunctionMode):
    """Within it, linear layers and convolutions of float32 tensors multiply as the format says."""

    def __init__(self, to: Format) -> None:
        super().__init__()
        self.to = to

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The layers' own calls are replaced, everything else is as it was."""
        if func in _REPLACED and args[0].dtype == torch.float32:
            # What follows in a convolution's arguments is the tutorial's: stride 1, no padding, no dilation, one group.
            return _REPLACED[func].apply(self.to, *args[:3])
        return func(*args, **(kwargs or {}))


_REPLACED: Mapping[Any, type[torch.autograd.Function]] = {F.linear: _Linear, F.conv2d: _Conv2d}


@dataclass(frozen=True)
class EmulatedTorch(TorchImplementation):
    """The eager side with other products.

    Args:
        compiled: False, since compiled code does not see the replacement.
        to: the products' format.
    """

    to: Format = field(kw_only=True)

    def describe(self, state: State) -> str:
        """As the eager side, and the format."""
        return f"{super().describe(state)}, float32 products as in {self.to.name}"

    def run(self, state: State, data: Resident, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """See `parity.contract.Implementation`; so for all methods."""
        with _Products(self.to):
            return super().run(state, data, plan)

    def observe(self, state: State, data: Resident, rows: NDArray[np.int32]) -> tuple[State, StepTrace]:
        """One step, with every stage recorded."""
        with _Products(self.to):
            return super().observe(state, data, rows)

    def logits(self, state: State, data: Resident) -> NDArray[np.floating]:
        """The outputs, in order."""
        with _Products(self.to):
            return super().logits(state, data)


def _unchanged(x: Tensor) -> Tensor:
    return x


def _through(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """To the dtype and back."""
    return lambda x: x.to(dtype).to(torch.float32)


tf32 = EmulatedTorch(to=Format(name="TF32", operand=lambda x: round_significand(x, 11), result=_unchanged))
bfloat16 = EmulatedTorch(to=Format(name="bfloat16", operand=_through(torch.bfloat16), result=_through(torch.bfloat16)))
float16 = EmulatedTorch(to=Format(name="float16", operand=_through(torch.float16), result=_through(torch.float16)))
