"""SGD with momentum: torch.optim.SGD itself, clipping before it, and its momentum buffers as plain tensors.

Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from parity.contract import SGD

__all__ = ["clip_gradients", "make_optimizer", "momentum_buffers", "set_momentum_buffers"]

_BUFFER = "momentum_buffer"


def make_optimizer(parameters: Iterable[nn.Parameter], sgd: SGD) -> torch.optim.SGD:
    """The optimizer over these parameters, with no momentum yet, at the first learning rate of a constant one."""
    return torch.optim.SGD(
        list(parameters) if sgd.decay_biases else _groups(parameters),
        lr=sgd.lr,
        momentum=sgd.momentum,
        dampening=sgd.dampening,
        weight_decay=sgd.weight_decay,
        nesterov=sgd.nesterov,
        maximize=sgd.maximize,
    )


def _groups(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Two groups of parameters: those that are decayed, and those of at most one dimension, which are not."""
    kinds: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameter in parameters:
        kinds[parameter.ndim <= 1].append(parameter)
    return [{"params": kinds[0]}, {"params": kinds[1], "weight_decay": 0.0}]


def clip_gradients(parameters: Iterable[nn.Parameter], sgd: SGD) -> None:
    """Limit the gradients, in place, as the hyper-parameters say."""
    if sgd.clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, sgd.clip_norm)
    if sgd.clip_value is not None:
        nn.utils.clip_grad_value_(parameters, sgd.clip_value)


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
