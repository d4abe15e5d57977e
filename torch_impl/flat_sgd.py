"""SGD on the flat vectors of all parameters: the equations of `parity.contract.sgd`, in place.

Every operation on every element is the one of torch.optim.SGD and torch.nn.utils, in their order, so that the same
gradients give the same weights; only the norm of all gradients is summed in another order.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from parity.contract import SGD
from torch_impl.flat import Flat
from torch_impl.schedule import Rates

__all__ = ["decayed", "update"]

NORM_EPSILON = 1e-6
"""What torch.nn.utils.clip_grad_norm_ adds to the norm."""


def update(
    weights: Float[Tensor, " parameters"],
    gradient: Float[Tensor, " parameters"],
    buffer: Float[Tensor, " parameters"],
    *,
    sgd: SGD,
    rates: Rates,
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
    if not rates.momentum:
        weights.add_(gradient, alpha=-rates.lr)
        return
    if first:
        buffer.copy_(gradient)
    else:
        buffer.mul_(rates.momentum).add_(gradient, alpha=1 - sgd.dampening)
    direction = gradient.add_(buffer, alpha=rates.momentum) if sgd.nesterov else buffer
    weights.add_(direction, alpha=-rates.lr)


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
