"""What this machine can do, measured on the spot: the rates that bound every contestant.

Run in processes of their own, with as many threads as the contestants have, and with one; before, between and after the
cells. The best of each figure counts: other programs take from a rate and add to nothing, so a disturbed measurement
would make the floor too high.

- operations per second: a product of two square matrices, large enough to be bound by arithmetic;
- bytes per second: copies by all threads at once, each of its part, read and written bytes counted, at several sizes
  from the cache's to the memory's. The fastest counts: a step's tensors may lie in a cache, and a floor must hold
  wherever they lie;
- latency: the seconds that the least call takes: of a NumPy function on the CPU, of a kernel on a GPU.

The floor of a step is then max(operations / rate, bytes / bandwidth): no program that does this work on this machine is
faster, and how near one comes is its share of the floor. `parity.bench.work` counts both, and says what is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.bench.work import Work

__all__ = ["PROBES", "Limits", "best_of", "cpu", "floor_seconds"]

PROBES: Mapping[str, str] = {"cpu": "parity.bench.limits:cpu", "cuda": "torch_impl.limits:cuda"}
"""The function that measures a device, and returns the fields of `Limits`.

parity itself knows no framework, so a GPU is measured through one.
"""

MATRIX = 1024
COPIES = tuple(2**power for power in range(17, 27))  # 128 KiB to 64 MiB
COPIED = 2**26
"""The bytes that each thread's calls copy together, at least: starting threads takes less than a percent of that."""
SECONDS = 0.5
"""How long each figure is measured; the fastest call counts."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of a device, with so many threads.

    Args:
        threads: of the host.
        operations: per second, by dtype; a fused multiply and add counts as two.
        bandwidth: bytes per second, read and written, of the fastest copy.
        memory_bandwidth: the same of the largest copy, which no cache holds.
        latency: seconds of the least call.
        name: of the device; "" for the CPU, which the environment names.
    """

    threads: int
    operations: Mapping[str, float]
    bandwidth: float
    memory_bandwidth: float
    latency: float
    name: str = ""


def best_of(one: Limits, other: Limits) -> Limits:
    """The best of each figure of two measurements, with the same threads and dtypes."""
    return replace(
        one,
        operations={dtype: max(rate, other.operations[dtype]) for dtype, rate in one.operations.items()},
        bandwidth=max(one.bandwidth, other.bandwidth),
        memory_bandwidth=max(one.memory_bandwidth, other.memory_bandwidth),
        latency=min(one.latency, other.latency),
    )


def floor_seconds(work: Work, limits: Limits, dtype: str) -> tuple[float, str]:
    """The least seconds that a step can take, and what bounds it: "operations" or "bytes"."""
    bounds = {"operations": work.operations / limits.operations[dtype], "bytes": work.bytes / limits.bandwidth}
    what = max(bounds, key=lambda name: bounds[name])
    return bounds[what], what


def cpu(*, threads: int, dtypes: tuple[str, ...]) -> dict[str, Any]:
    """NumPy's own rates in this process, as the fields of `Limits`."""
    rates = {size: bandwidth(size, threads) for size in COPIES}
    return {
        "threads": threads,
        "operations": {dtype: 2 * MATRIX**3 / fastest(_product(dtype)) for dtype in dtypes},
        "bandwidth": max(rates.values()),
        "memory_bandwidth": rates[COPIES[-1]],
        "latency": fastest(_least()),
    }


def fastest(call: Callable[[], object], seconds: float = SECONDS) -> float:
    """Seconds of the fastest of the calls that fit into so many seconds, at least three."""
    best, count, end = float("inf"), 0, time.perf_counter() + seconds
    while count < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
        count += 1
    return best


def _product(dtype: str) -> Callable[[], object]:
    a = np.ones((MATRIX, MATRIX), dtype)
    b, c = np.ones_like(a), np.empty_like(a)
    return lambda: np.matmul(a, b, out=c)


def bandwidth(size: int, threads: int) -> float:
    """Bytes per second, read and written, of so many threads that copy `size` bytes between them, again and again.

    np.copyto lets the other threads run meanwhile.
    """
    part, repeats = size // threads, max(COPIED // size, 1)
    copies = [_copy(part, repeats) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        seconds = fastest(lambda: list(pool.map(lambda call: call(), copies)), SECONDS / len(COPIES))
    return 2 * part * threads * repeats / seconds


def _copy(size: int, repeats: int) -> Callable[[], None]:
    source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)

    def copy() -> None:
        for _ in range(repeats):
            np.copyto(target, source)

    return copy


def _least() -> Callable[[], object]:
    one, zero = np.ones(1), np.zeros(1)
    return lambda: np.add(one, zero, out=one)
