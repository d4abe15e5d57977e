"""The hyper-parameters of stochastic gradient descent, with torch's meaning and torch's errors.

In the update of training step t (from 0), per parameter p with gradient g (torch.optim.SGD, and what torch programs do
around it):

    g <- g min(1, clip_norm / (|all gradients| + 1e-6))   if clip_norm      (torch.nn.utils.clip_grad_norm_)
    g <- min(max(g, -clip_value), clip_value)             if clip_value     (torch.nn.utils.clip_grad_value_)
    g <- -g                                               if maximize
    g <- g + weight_decay * p                             but not for biases, unless decay_biases
    b <- g on the first step, else momentum * b + (1 - dampening) * g
    g <- g + momentum * b                                 if nesterov, else b
    p <- p - lr * g

With momentum = 0 there is no buffer b: dampening then has no effect. lr stays outside the buffer. With a schedule, lr
(and the momentum, if it cycles that) is what the schedule gives for the count floor((t + taken) / every), so that the
first step is taken with count 0; see `parity.contract.schedule`. A bias is a tensor of at most one dimension. |.| is
the Euclidean norm of all parameters' gradients together. What a `StepTrace` calls gradients is g after clipping, as
torch leaves it in `p.grad`.

Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from parity.contract.errors import InputError
from parity.contract.schedule import Schedule

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
        schedule: how lr changes; None for a constant one.
        clip_norm: the largest norm of all gradients together, > 0; None for no limit.
        clip_value: the largest absolute value in a gradient, > 0; None for no limit. Only one of both.
        decay_biases: whether weight_decay applies to biases too: to tensors of at most one dimension.

    Raises:
        InputError: where torch.optim.SGD raises ValueError, with torch's sentence; also for NaN and infinity,
            which torch lets through, and for limits that are not above 0, with which torch climbs or stands still.

    >>> SGD(nesterov=True).momentum
    0.9
    """

    lr: float = 1e-3
    momentum: float = 0.9
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    maximize: bool = False
    schedule: Schedule | None = None
    clip_norm: float | None = None
    clip_value: float | None = None
    decay_biases: bool = True

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
        self._require_limits()
        if self.schedule is not None and (type(self.schedule) is Schedule or not isinstance(self.schedule, Schedule)):
            raise InputError("schedule", self.schedule, "it is no schedule", "give a StepLR, for example, or None")

    def _require_limits(self) -> None:
        for name in ("clip_norm", "clip_value"):
            limit = getattr(self, name)
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                problem = "it is not above 0, or not finite"
                raise InputError(name, limit, problem, "give a finite number above 0, or leave it out")
        if self.clip_norm is not None and self.clip_value is not None:
            raise InputError("clip_norm", self.clip_norm, "clip_value is given too", "give one of both")

    @property
    def has_buffer(self) -> bool:
        """Whether there is a momentum buffer: momentum is not 0, or the schedule sets it."""
        return self.momentum != 0 or (self.schedule is not None and self.schedule.cycles_momentum)

    def resumed(self, steps: int) -> SGD:
        """The same for a program that begins where this one stands after so many steps.

        >>> from parity.contract import StepLR
        >>> SGD(schedule=StepLR(step_size=2)).resumed(5).schedule.taken
        5
        """
        if self.schedule is None:
            return self
        return replace(self, schedule=replace(self.schedule, taken=self.schedule.taken + steps))


def _require_finite(argument: str, value: float, noun: str) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise InputError(argument, value, f"Invalid {noun}: {value}", "give a finite number, 0 or more")
