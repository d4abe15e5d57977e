"""One update of stochastic gradient descent, as `parity.contract.SGD` words it.

Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
"""

from __future__ import annotations

from parity.contract import SGD
from parity.oracle.layers import Array

__all__ = ["sgd_update"]


def sgd_update(parameter: Array, gradient: Array, buffer: Array | None, sgd: SGD) -> tuple[Array, Array | None]:
    """One parameter's step: b <- momentum b + (1 - dampening) g, p <- p - lr b, and what the other arguments add.

    Args:
        parameter: p, of any shape.
        gradient: of the loss by p.
        buffer: b after the last step; None before the first, which takes the gradient whole.
        sgd: hyper-parameters.

    Returns:
        New arrays: p and b after the step. b is None when momentum is 0.
    """
    g = -gradient if sgd.maximize else gradient
    g = g + sgd.weight_decay * parameter
    if sgd.momentum == 0:
        return parameter - sgd.lr * g, None
    b = g if buffer is None else sgd.momentum * buffer + (1 - sgd.dampening) * g
    g = g + sgd.momentum * b if sgd.nesterov else b
    return parameter - sgd.lr * g, b
