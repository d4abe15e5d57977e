"""`jax.jit` with what XLA is told for the size of a batch: larger ones leave their products to Eigen.

On the CPU XLA leaves matrix products to YNNPACK by default. Where it does not, steps of this CNN take 1.02 of the time
at batch 4 and 1.10 at 2, but 0.84 at 6, 0.87 at 8, 0.95 at 16, 0.97 at 32 and 64, 0.94 to 1.02 at 128 and 0.93 at 1,024
(jax 0.10.2, products.py, float32, medians of 24 to 30 turns on 2 cores), and programs take as long to compile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax.stages import Wrapped
from jaxlib import version

from jax_impl.device import TRIED_WITH

__all__ = ["ByBatch", "by_batch", "options_without_ynnpack"]

YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
"""What XLA leaves to YNNPACK."""

WITH_YNNPACK = 4
"""The largest batch that keeps it."""


@dataclass(frozen=True)
class ByBatch:
    """A function, compiled as XLA does by default, and without YNNPACK.

    Both exist from the start: of threads that ask at the same time one compiles, and the others wait for it. Inside
    another compiled function only the first may be called: JAX refuses options there.
    """

    default: Wrapped
    without_ynnpack: Wrapped

    def for_batch(self, size: int, platform: str) -> Wrapped:
        """The one for batches of this size, on "cpu" or "gpu"."""
        return self.without_ynnpack if platform == "cpu" and size > WITH_YNNPACK else self.default


def by_batch(*, static_argnames: tuple[str, ...]) -> Callable[[Callable[..., Any]], ByBatch]:
    """A decorator, as `jax.jit`."""

    def compiled(function: Callable[..., Any]) -> ByBatch:
        options = options_without_ynnpack(os.environ.get("XLA_FLAGS", ""), release=version.__version__)
        return ByBatch(
            default=jax.jit(function, static_argnames=static_argnames),
            without_ynnpack=jax.jit(function, static_argnames=static_argnames, compiler_options=options),
        )

    return compiled


def options_without_ynnpack(flags: str, *, release: str) -> dict[str, str]:
    """For a release of jaxlib: none where the option was not tried, or the user's flags say what YNNPACK is to do."""
    return {YNNPACK: ""} if release in TRIED_WITH and YNNPACK not in flags else {}
