"""SGD with momentum: torch.optim.SGD itself, and its momentum buffers as plain tensors.

Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from parity.contract import SGD

__all__ = ["make_optimizer", "momentum_buffers", "set_momentum_buffers"]

_BUFFER = "momentum_buffer"


def make_optimizer(parameters: Iterable[nn.Parameter], sgd: SGD) -> torch.optim.SGD:
    """The optimizer over these parameters, with no momentum yet."""
    return torch.optim.SGD(
        parameters,
        lr=sgd.lr,
        momentum=sgd.momentum,
        dampening=sgd.dampening,
        weight_decay=sgd.weight_decay,
        nesterov=sgd.nesterov,
        maximize=sgd.maximize,
    )


def momentum_buffers(optimizer: torch.optim.SGD, named: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The live buffers by parameter name; empty before the first step, and for ever when momentum is 0."""
    buffers = {name: optimizer.state[p].get(_BUFFER) for name, p in named.items() if p in optimizer.state}
    return {name: buffer for name, buffer in buffers.items() if buffer is not None}


def set_momentum_buffers(
    optimizer: torch.optim.SGD, named: Mapping[str, nn.Parameter], buffers: Mapping[str, Tensor]
) -> None:
    """Give the optimizer copies of these buffers; a parameter without one takes its next step as a first step.

    Buffers that are there already are overwritten in place: compiled code is tied to the tensors that it was made for.
    """
    for name, parameter in named.items():
        if name not in buffers:
            optimizer.state.pop(parameter, None)
        elif (existing := optimizer.state[parameter].get(_BUFFER)) is None:
            optimizer.state[parameter][_BUFFER] = buffers[name].clone()
        else:
            existing.copy_(buffers[name])
