"""Functions that XLA compiles apart from what is around them.

On the CPU, XLA fuses an elementwise operation, a slice or a concatenation into each operation that reads it, and
computes it again there: a window of pixels once for each element of the product that it enters. It drops
`lax.optimization_barrier` before it fuses, but fuses nothing across a call, and leaves a call alone whose attribute
`inlineable` is false. Should it ever ignore that, results stay the same and only time is lost. All of this is said of
the CPU: elsewhere the functions are left as they are, since what XLA makes of such a call on a GPU has not been tried.

Source: xla/service/call_inliner.cc
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
from jax.experimental.xla_metadata import set_xla_metadata

__all__ = ["apart"]

P = ParamSpec("P")
R = TypeVar("R")


def apart(function: Callable[P, R]) -> Callable[P, R]:
    """The function of arrays as a call of its own, with its results written to memory once."""

    @wraps(function)
    def body(*args: P.args, **kwargs: P.kwargs) -> R:
        with _inlineable("true"):  # the attribute would hold for calls within, such as jnp.pad, too
            return function(*args, **kwargs)

    compiled = jax.jit(body)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not _on_cpu():
            return function(*args, **kwargs)
        with _inlineable("false"):
            result: R = compiled(*args, **kwargs)
        return result

    return call


def _on_cpu() -> bool:
    """Whether what is being traced is for the CPU: `jax_impl.device.exact` says so by the default device."""
    config: Any = jax.config  # its attributes are made when JAX runs, where a type checker does not see them
    device = config.jax_default_device
    platform: str = getattr(device, "platform", device) or jax.default_backend()
    return platform == "cpu"


def _inlineable(value: str) -> AbstractContextManager[None]:
    context: AbstractContextManager[None] = set_xla_metadata(inlineable=value)  # type: ignore[no-untyped-call]  # JAX's
    return context
