"""What the GPU can do, measured through torch: see `parity bench`, which finds `cuda` by its name.

Operations by a product of two square matrices in full float32, float64 or TF32, as the run's products are, bytes by
copies inside the device's memory, latency by kernels that do nothing, launched one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from torch_impl.device import exact, precision

__all__ = ["cuda"]

MATRIX = 8192
COPIES = tuple(2**power for power in range(20, 31, 2))  # 1 MiB to 1 GiB
REPEATS = 10
CALLS, LAUNCHES = 10, 100


def cuda(*, threads: int, dtypes: tuple[str, ...]) -> dict[str, Any]:
    """The rates of the GPU, as the fields of `parity.bench.limits.Limits`."""
    rates = {size: 2 * size / _seconds(_copy(size), together=CALLS) for size in COPIES}
    one = torch.zeros(1, device="cuda")
    return {
        "threads": threads,
        "operations": {dtype: _operations(dtype) for dtype in dtypes},
        "bandwidth": max(rates.values()),
        "memory_bandwidth": rates[COPIES[-1]],
        "latency": _seconds(lambda: one.add_(1), together=LAUNCHES),
        "name": torch.cuda.get_device_name(),
    }


def _operations(name: str) -> float:
    """Per second, in this precision."""
    dtype, tf32 = precision(name, torch.device("cuda"))
    with exact(tf32=tf32):
        return 2 * MATRIX**3 / _seconds(_product(dtype))


def _seconds(call: Callable[[], object], together: int = 1) -> float:
    """Seconds of a call by the device's own clock, after one that warms up: the fastest of REPEATS counts.

    Each is so many calls together, for calls that are shorter than the clock's step. All are launched before any is
    waited for, so that one begins where the one before it ends.
    """
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(REPEATS + 1)]
    call()
    for mark in marks[:-1]:
        mark.record()
        for _ in range(together):
            call()
    marks[-1].record()
    torch.cuda.synchronize()
    return min(float(begin.elapsed_time(end)) for begin, end in pairwise(marks)) / 1e3 / together


def _product(dtype: torch.dtype) -> Callable[[], object]:
    a = torch.ones(MATRIX, MATRIX, dtype=dtype, device="cuda")
    b, c = torch.ones_like(a), torch.empty_like(a)
    return lambda: torch.matmul(a, b, out=c)


def _copy(size: int) -> Callable[[], object]:
    source = torch.ones(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return lambda: target.copy_(source)
