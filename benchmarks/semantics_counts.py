"""The rates that optax's and torch's schedules give, beside their closed forms: what the type of a count costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from numpy.typing import NDArray
from torch.optim import lr_scheduler

from benchmarks.semantics_paths import Measurement, on_cpu


def rate_error(schedule: optax.Schedule, truth: NDArray[np.float64], dtype: str, *, x64: bool = True) -> float:
    """The largest error of an optax schedule at counts of this type, as a share of the highest rate."""
    with on_cpu(x64=x64):
        found = np.array(jax.jit(jax.vmap(schedule))(jnp.arange(len(truth), dtype=dtype)), np.float64)
    return float(np.abs(np.broadcast_to(found, truth.shape) - truth).max() / np.abs(truth).max())


def relative_rate_error(schedule: optax.Schedule, truth: NDArray[np.float64], dtype: str, *, x64: bool) -> float:
    """The same, each error as a share of its own rate."""
    with on_cpu(x64=x64):
        found = np.array(jax.jit(jax.vmap(schedule))(jnp.arange(len(truth), dtype=dtype)), np.float64)
    return float(np.abs(found / truth - 1).max())


COUNTS = 200
N = np.arange(COUNTS, dtype=np.float64)
LONG = np.arange(100_000, dtype=np.float64)
SCHEDULES: Mapping[str, tuple[str, optax.Schedule, NDArray[np.float64]]] = {
    "step": (
        "exponential_decay(1, 10, .3, staircase=True)",
        optax.exponential_decay(1.0, 10, 0.3, staircase=True),
        0.3 ** (N // 10),
    ),
    "exponential": ("exponential_decay(1, 1, .97)", optax.exponential_decay(1.0, 1, 0.97), 0.97**N),
    "linear": (
        "linear_schedule(1/3, 1, 150)",
        optax.linear_schedule(1 / 3, 1.0, 150),
        1 / 3 + 2 / 3 * np.minimum(N, 150) / 150,
    ),
    "polynomial": (
        "polynomial_schedule(1, 0, 2, 150)",
        optax.polynomial_schedule(1.0, 0.0, 2.0, 150),
        (1 - np.minimum(N, 150) / 150) ** 2,
    ),
    "cosine": (
        "cosine_decay_schedule(1, 150)",
        optax.cosine_decay_schedule(1.0, 150),
        (1 + np.cos(np.pi * np.minimum(N, 150) / 150)) / 2,
    ),
    "piecewise": (
        "piecewise_constant_schedule(1, {50: .1, 100: .1})",
        optax.piecewise_constant_schedule(1.0, {50: 0.1, 100: 0.1}),
        np.where(N < 50, 1.0, np.where(N < 100, 0.1, 0.1 * 0.1)),
    ),
}


def count_rows() -> list[dict[str, Any]]:
    """Each schedule's error with an int32 count, as optax keeps it, and with a float64 count."""
    return [
        {
            "key": key,
            "schedule": text,
            "int32": rate_error(schedule, truth, "int32"),
            "float64": rate_error(schedule, truth, "float64"),
        }
        for key, (text, schedule, truth) in SCHEDULES.items()
    ]


def torch_rates(make: Callable[[torch.optim.Optimizer], Any], counts: int) -> NDArray[np.float64]:
    """The rates that a torch scheduler sets, from 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer)
    optimizer.step()
    rates = []
    for _ in range(counts):
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    return np.array(rates, np.float64)


def torch_cosine_error() -> float:
    """Of torch's recursion, after T_max."""
    truth = (1 + np.cos(np.pi * N / 50)) / 2
    return float(np.abs(torch_rates(lambda opt: lr_scheduler.CosineAnnealingLR(opt, 50), COUNTS) - truth).max())


def torch_exponential_error() -> float:
    """Of torch's repeated product, as a share of the rate."""
    truth = 0.9999**LONG
    return float(np.abs(torch_rates(lambda opt: lr_scheduler.ExponentialLR(opt, 0.9999), len(LONG)) / truth - 1).max())


def schedule_values() -> Mapping[str, Measurement]:
    """Long runs, float32 programs, and torch's own rounding."""
    long = optax.exponential_decay(1.0, 1, 0.9999)
    return {
        "exponential-long-float32": lambda: relative_rate_error(long, 0.9999**LONG, "int32", x64=False),
        "exponential-long-x64": lambda: relative_rate_error(long, 0.9999**LONG, "int32", x64=True),
        "exponential-long-float64-count": lambda: relative_rate_error(long, 0.9999**LONG, "float64", x64=True),
        "first-lost-count": first_lost_count,
        "torch-cosine": torch_cosine_error,
        "torch-exponential-long": torch_exponential_error,
    }


def first_lost_count() -> float:
    """The least count that float32 cannot hold."""
    counts = np.arange(2**24 - 4, 2**24 + 4)
    return float(counts[np.flatnonzero(counts.astype(np.float32).astype(np.int64) != counts)[0]])
