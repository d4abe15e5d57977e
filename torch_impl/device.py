"""Which device, and how exactly it computes: full float32 and deterministic kernels.

By default torch multiplies float32 matrices in full but runs cuDNN's convolutions in TF32 (10-bit mantissa), which
would look like a difference between the two programs.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from parity.contract import InputError

__all__ = ["available_devices", "exact", "resolve", "threads_for"]

SMALL_BATCH = 16


def available_devices() -> tuple[str, ...]:
    """The devices that torch can use here, the preferred one first."""
    return ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)


def resolve(device: str) -> torch.device:
    """The torch device of that name.

    Raises:
        InputError: there is no such device here.
    """
    if device not in available_devices():
        raise InputError("device", device, "torch has no such device here", f"use {' or '.join(available_devices())}")
    if device == "cuda":
        # cuBLAS is deterministic only with a fixed workspace, and reads this when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device(device)


@contextmanager
def threads_for(batch_size: int) -> Iterator[None]:
    """Within it, a small batch is computed by one CPU thread; the caller's setting returns afterwards.

    A step of 4 images gains little from a second thread, and loses much where other processes want the cores too: each
    of its many short parallel regions then waits for a thread that is not running, and steps took 5 times as long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if batch_size < SMALL_BATCH else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _cudnn_operators() -> tuple[Any, Any]:
    cudnn: Any = torch.backends.cudnn
    return cudnn.conv, cudnn.rnn


@contextmanager
def exact() -> Iterator[None]:
    """Within it, float32 means float32 and kernels are deterministic; the caller's settings return afterwards."""
    # Any: torch makes these attributes when it runs, where a type checker does not see them.
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, *_cudnn_operators())
    precisions = [backend.fp32_precision for backend in backends]
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        # Only warn: torch calls the gradient of max-pooling non-deterministic because overlapping windows add up in
        # any order, but this CNN's windows do not overlap.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*max_pool2d.*deterministic", category=UserWarning)
            yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        for backend, precision in zip(backends, precisions, strict=True):
            backend.fp32_precision = precision
