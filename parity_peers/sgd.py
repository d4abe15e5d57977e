"""What of SGD a peer takes: a peer is what its users write, so what they would have to add by hand is refused."""

from __future__ import annotations

from dataclasses import fields

from parity.contract import SGD, InputError

__all__ = ["TORCH_SGD", "require_only"]

TORCH_SGD = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
"""The arguments of torch.optim.SGD."""


def require_only(sgd: SGD, arguments: tuple[str, ...]) -> None:
    """Refuse hyper-parameters that this peer does not take.

    Args:
        sgd: the hyper-parameters.
        arguments: those that it takes; the others must have their defaults.

    Raises:
        InputError: another one is given.
    """
    for field in fields(SGD):
        value = getattr(sgd, field.name)
        if field.name not in arguments and value != field.default:
            problem = f"this peer takes {', '.join(arguments)}"
            raise InputError(field.name, value, problem, "leave it out, or bench torch_impl or jax_impl instead")
