"""One update of stochastic gradient descent, as `parity.contract.SGD` words it.

Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from parity.contract import SGD
from parity.oracle.layers import Array
from parity.oracle.schedule import rates

__all__ = ["CLIP_EPS", "clip_gradients", "sgd_update"]

CLIP_EPS = 1e-6  # torch.nn.utils.clip_grad_norm_ adds it to the norm


def clip_gradients(gradients: Mapping[str, Array], sgd: SGD) -> dict[str, Array]:
    """All parameters' gradients, no longer together, or no larger each, than the hyper-parameters allow; new arrays."""
    if sgd.clip_norm is not None:
        norm = np.sqrt(sum(np.sum(g * g) for g in gradients.values()))
        factor = np.minimum(sgd.clip_norm / (norm + CLIP_EPS), 1.0)
        return {name: g * factor for name, g in gradients.items()}
    if sgd.clip_value is not None:
        return {name: np.clip(g, -sgd.clip_value, sgd.clip_value) for name, g in gradients.items()}
    return dict(gradients)


def sgd_update(
    parameter: Array, gradient: Array, buffer: Array | None, sgd: SGD, step: int = 0
) -> tuple[Array, Array | None]:
    """One parameter's step: b <- momentum b + (1 - dampening) g, p <- p - lr b, and what the other arguments add.

    Args:
        parameter: p, of any shape.
        gradient: of the loss by p, clipped.
        buffer: b after the last step; None before the first, which takes the gradient whole.
        sgd: hyper-parameters.
        step: training steps taken before this one, which a schedule counts.

    Returns:
        New arrays: p and b after the step. b is None when there is no momentum.
    """
    lr, momentum = rates(sgd, step)
    g = -gradient if sgd.maximize else gradient
    if sgd.decay_biases or parameter.ndim > 1:
        g = g + sgd.weight_decay * parameter
    if not sgd.has_buffer:
        return parameter - lr * g, None
    b = g if buffer is None else momentum * buffer + (1 - sgd.dampening) * g
    g = g + momentum * b if sgd.nesterov else b
    return parameter - lr * g, b
