"""Which device, and how exactly it computes: full float32 and deterministic kernels.

By default torch multiplies float32 matrices in full but runs cuDNN's convolutions in TF32 (10-bit mantissa), which
would look like a difference between the two programs. So TF32 is off, unless it is what `parity bench` asks for: then
both may use it.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from parity.contract import InputError

__all__ = [
    "available_devices",
    "exact",
    "peak_memory",
    "precision",
    "require_compiler",
    "resolve",
    "threads",
    "threads_for",
]

SMALL_BATCH = 8
ON_GPU = 3
TF32_SINCE = (8, 0)
"""The compute capability of the first GPUs that have it."""


def available_devices() -> tuple[str, ...]:
    """The devices that torch can use here, the preferred one first."""
    return ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)


def require_compiler(device: torch.device) -> None:
    """Refuse to compile where there is nothing to compile with.

    Raises:
        InputError: the device is the CPU and there is no C++ compiler.
    """
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
        problem = "no C++ compiler is found, which torch.compile needs for the CPU"
        raise InputError("implementation", "torch_impl:compiled", problem, "install g++, or use torch_impl:eager")


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


def peak_memory() -> int | None:
    """The most bytes of the GPU that torch's tensors have taken at once in this process; None where it has used none.

    What a captured graph reads and writes is in it: it is taken while the graph is captured.
    """
    return torch.cuda.max_memory_allocated() or None if torch.cuda.is_initialized() else None


def precision(name: str, device: torch.device) -> tuple[torch.dtype, bool]:
    """The dtype of tensors, and whether their products may be TF32's.

    Raises:
        InputError: the device has no TF32.
    """
    if name != "tf32":
        return getattr(torch, name), False
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < TF32_SINCE:
        raise InputError("dtype", name, f"this {device.type} has no TF32", "use float32, or a GPU from Ampere on")
    return torch.float32, True


@contextmanager
def threads_for(batch_size: int) -> Iterator[None]:
    """Within it, a small batch is computed by one CPU thread; the caller's setting returns afterwards.

    A step of 4 images gains little from a second thread (1.45 instead of 1.63 ms undisturbed, torch 2.15, 2 cores), and
    loses much where other processes want the cores too: each of its many short parallel regions then waits for a thread
    that is not running, and steps took 5 times as long.
    """
    with threads(1 if batch_size < SMALL_BATCH else torch.get_num_threads()):
        yield


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Within it, an operation is computed by so many CPU threads; the caller's setting returns afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def exact(*, tf32: bool = False) -> Iterator[None]:
    """Within it, float32 means float32 and kernels are deterministic; the caller's settings return afterwards.

    Args:
        tf32: whether a GPU's float32 products, and convolutions, may be TF32's all the same.
    """
    with _float32_products("tf32" if tf32 else "ieee"), _deterministic():
        yield


@contextmanager
def _float32_products(on_gpu: str) -> Iterator[None]:
    """Full products, "ieee", or TF32's, "tf32"; never bfloat16's, and on the CPU always full.

    torch has two ways to say so, and complains where they contradict each other: the older one (whole program) first,
    then the newer one (by operation), which the older one does not cover entirely.
    """
    operations = _operations()
    precisions = [operation.fp32_precision for operation in operations]
    matmul, cudnn = torch.get_float32_matmul_precision(), _cudnn_allows_tf32()
    try:
        torch.set_float32_matmul_precision("high" if on_gpu == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = on_gpu == "tf32"
        for operation in operations:
            operation.fp32_precision = "ieee"
        for operation in operations[:ON_GPU]:
            operation.fp32_precision = on_gpu
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn
        for operation, precision in zip(operations, precisions, strict=True):
            operation.fp32_precision = precision


def _operations() -> tuple[Any, ...]:
    """The operations that have a precision of their own, the GPU's first."""
    # Any: torch makes these attributes when it runs, where a type checker does not see them.
    cuda: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    return cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv


def _cudnn_allows_tf32() -> bool:
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:  # the caller used the newer way, with another precision than the older one still says
        return bool(_operations()[1].fp32_precision == "tf32")


@contextmanager
def _deterministic() -> Iterator[None]:
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    try:
        # Only warn: torch calls the gradient of max-pooling non-deterministic because overlapping windows add up in
        # any order, but this CNN's windows do not overlap.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*max_pool2d.*deterministic", category=UserWarning)
            # The compiler's advice to allow TF32, which is off on purpose.
            warnings.filterwarnings("ignore", message=".*TensorFloat32.*", category=UserWarning)
            yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
