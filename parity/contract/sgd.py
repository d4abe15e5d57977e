"""The hyper-parameters of stochastic gradient descent, with torch's meaning and torch's errors.

Per parameter p with gradient g (torch.optim.SGD):

    g <- -g                                  if maximize
    g <- g + weight_decay * p
    b <- g on the first step, else momentum * b + (1 - dampening) * g
    g <- g + momentum * b                    if nesterov, else b
    p <- p - lr * g

With momentum = 0 there is no buffer b: dampening then has no effect. lr stays outside the buffer.

Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from parity.contract.errors import InputError

__all__ = ["SGD"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SGD:
    """Hyper-parameters of SGD; the defaults are the tutorial's (lr 0.001, momentum 0.9).

    Args:
        lr: learning rate, >= 0.
        momentum: factor of the momentum buffer, >= 0.
        dampening: the gradient enters the buffer times 1 - dampening, from the second step on.
        weight_decay: L2 factor, >= 0, added to the gradient before the momentum (coupled).
        nesterov: look ahead along the buffer; needs momentum > 0 and dampening = 0.
        maximize: climb instead of descend; the decay still shrinks.

    Raises:
        InputError: where torch.optim.SGD raises ValueError, with torch's sentence; also for NaN and infinity,
            which torch lets through.

    >>> SGD(nesterov=True).momentum
    0.9
    """

    lr: float = 1e-3
    momentum: float = 0.9
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    maximize: bool = False

    def __post_init__(self) -> None:
        _require_finite("lr", self.lr, "learning rate")
        _require_finite("momentum", self.momentum, "momentum value")
        _require_finite("weight_decay", self.weight_decay, "weight_decay value")
        if not math.isfinite(self.dampening):
            raise InputError("dampening", self.dampening, "it is not finite", "give a finite number, 0 for none")
        if self.nesterov and (self.momentum <= 0 or self.dampening != 0):
            raise InputError(
                "nesterov",
                True,
                "Nesterov momentum requires a momentum and zero dampening "
                f"(momentum is {self.momentum}, dampening {self.dampening})",
                "set momentum above 0 and dampening to 0, or leave nesterov out",
            )


def _require_finite(argument: str, value: float, noun: str) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise InputError(argument, value, f"Invalid {noun}: {value}", "give a finite number, 0 or more")
