"""SGD on the flat vectors of all parameters: the equations of `parity.contract.sgd`, in place.

Every operation on every element is the one of torch.optim.SGD and torch.nn.utils, in their order, so that the same
gradients give the same weights; only the norm of all gradients is summed in another order.

A CUDA graph repeats the numbers that it was captured with, so that there rates are read from the device's memory. A
product with one of them may be rounded once more than torch.optim.SGD's, which passes its rates as numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from parity.contract import SGD
from torch_impl.flat import Flat
from torch_impl.schedule import Rates

__all__ = ["DeviceRates", "decayed", "on_device", "update"]

NORM_EPSILON = 1e-6
"""What torch.nn.utils.clip_grad_norm_ adds to the norm."""


class DeviceRates(NamedTuple):
    """`Rates` as scalars in the device's memory; momentum is None where there is none, which no kernel can ask."""

    lr: Float[Tensor, ""]
    momentum: Float[Tensor, ""] | None


def on_device(rates: Float[Tensor, "2 steps"], sgd: SGD) -> list[DeviceRates]:
    """Each step's, of learning rates and momenta; no schedule takes a momentum to 0, or away from it."""
    return [DeviceRates(lr, m if sgd.has_buffer else None) for lr, m in zip(*rates.unbind(), strict=True)]


def update(
    weights: Float[Tensor, " parameters"],
    gradient: Float[Tensor, " parameters"],
    buffer: Float[Tensor, " parameters"],
    *,
    sgd: SGD,
    rates: Rates | DeviceRates,
    is_decayed: Float[Tensor, " parameters"],
    first: bool,
) -> None:
    """Take a step with these rates; the gradient is used up.

    Args:
        weights: updated in place.
        gradient: of the loss, before clipping.
        buffer: the momentum, updated in place where there is any.
        sgd: the rest of the hyper-parameters.
        rates: learning rate and momentum.
        is_decayed: see `decayed`.
        first: whether there is no momentum yet, so that the buffer becomes the gradient.
    """
    _clip(gradient, sgd)
    if sgd.maximize:
        gradient.neg_()
    if sgd.weight_decay:
        _decay(gradient, weights, sgd, is_decayed)
    momentum = rates.momentum if isinstance(rates, DeviceRates) else rates.momentum or None
    if momentum is None:
        _add(weights, gradient, rates.lr, sign=-1)
        return
    if first:
        buffer.copy_(gradient)
    else:
        buffer.mul_(momentum).add_(gradient, alpha=1 - sgd.dampening)
    direction = _add(gradient, buffer, momentum, sign=1) if sgd.nesterov else buffer
    _add(weights, direction, rates.lr, sign=-1)


def _add(total: Tensor, term: Tensor, factor: float | Tensor, *, sign: int) -> Tensor:
    """Total + sign * factor * term, in place."""
    if isinstance(factor, Tensor):
        return total.addcmul_(term, factor, value=sign)
    return total.add_(term, alpha=sign * factor)


def decayed(*, dtype: torch.dtype, device: torch.device) -> Float[Tensor, " parameters"]:
    """1 for weights and 0 for biases: where `weight_decay` applies unless `decay_biases`."""
    flat = Flat(dtype=dtype, device=device)
    for tensor in flat.tensors.values():
        tensor.fill_(tensor.ndim > 1)
    return flat.vector


def _clip(gradient: Tensor, sgd: SGD) -> None:
    if sgd.clip_norm is not None:
        norm = torch.linalg.vector_norm(gradient)
        gradient.mul_((sgd.clip_norm / (norm + NORM_EPSILON)).clamp(max=1))
    if sgd.clip_value is not None:
        gradient.clamp_(-sgd.clip_value, sgd.clip_value)


def _decay(gradient: Tensor, weights: Tensor, sgd: SGD, is_decayed: Tensor) -> None:
    if sgd.decay_biases:
        gradient.add_(weights, alpha=sgd.weight_decay)
    else:
        # Not addcmul_, which rounds the product before it is added; torch.optim.SGD's add_ with alpha need not.
        gradient.add_(weights * is_decayed, alpha=sgd.weight_decay)
