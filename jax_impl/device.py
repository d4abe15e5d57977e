"""Which device, and how exactly it computes: full float32, deterministic kernels, a fair share of the GPU's memory.

By default JAX multiplies float32 matrices and convolves in TF32 (10-bit mantissa) on NVIDIA GPUs, and takes 75 % of
their memory. Both are set otherwise here, without touching what the user has set. TF32 is off unless it is what `parity
bench` asks for.

Source: https://docs.jax.dev/en/latest/gpu_memory_allocation.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxlib import version
from numpy.typing import NDArray

from parity.contract import InputError

__all__ = [
    "TRIED_WITH",
    "available_cores",
    "available_devices",
    "exact",
    "peak_memory",
    "prepare_environment",
    "resolve",
    "to_device",
    "xla_flags",
]

TF32_SINCE = 8.0
"""The compute capability of the first GPUs that have it."""

_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"

_FORMER_EMITTERS = "--xla_cpu_use_fusion_emitters=false"
"""XLA's former code generation for the CPU, which compiles the training of this CNN in 1.6 to 1.8 s instead of 2.2 to
2.5, to steps that take 4 to 9 % longer at batch 4 (medians of 30 to 40 turns, three times), a fifth to a quarter at 1
and 2, and no longer at 32 and 128: a check, which compiles for most of its time, ends sooner, and ten minutes of
training at batch 4 take half a minute to a minute more."""

TRIED_WITH = ("0.10.2",)
"""The releases of jaxlib with which both were tried, that flag and the option in by_batch.py: XLA ends the process at a
flag that it does not know, as 0.11.2 does at this one."""


def prepare_environment() -> None:
    """Set what XLA reads only once, when it starts: called at import, before anything has been computed."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ["XLA_FLAGS"] = xla_flags(os.environ.get("XLA_FLAGS", ""), release=version.__version__)


def xla_flags(given: str, *, release: str) -> str:
    """The flags for a release of jaxlib: what the user has given, and ours where nothing is said of them."""
    flags = given
    if "xla_gpu_deterministic_ops" not in given and "xla_gpu_exclude_nondeterministic_ops" not in given:
        flags = f"{flags} {_DETERMINISTIC}"
    if "xla_cpu_use_fusion_emitters" not in given and release in TRIED_WITH:
        flags = f"{flags} {_FORMER_EMITTERS}"
    return flags.strip()


def available_devices() -> tuple[str, ...]:
    """The devices that JAX can use here, the preferred one first."""
    return ("cuda", "cpu") if _find("cuda") is not None else ("cpu",)


def available_cores() -> int:
    """The CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # where the system restricts processes to cores
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve(device: str) -> jax.Device:
    """The JAX device of that name.

    Raises:
        InputError: there is no such device here.
    """
    found = _find(device)
    if found is None:
        raise InputError("device", device, "JAX has no such device here", f"use {' or '.join(available_devices())}")
    return found


def require_precision(name: str, device: jax.Device) -> None:
    """Refuse TF32 where there is none.

    Raises:
        InputError: the device has none.
    """
    if name == "tf32" and (device.platform == "cpu" or float(device.compute_capability) < TF32_SINCE):
        raise InputError("dtype", name, f"this {device.platform} has no TF32", "use float32, or a GPU from Ampere on")


def _find(device: str) -> jax.Device | None:
    try:
        return jax.devices(device)[0]
    except RuntimeError:  # how JAX says that a platform is unknown or has no device
        return None


def peak_memory() -> int | None:
    """The most bytes of the GPU that JAX's arrays have taken at once in this process; None where it has used none."""
    gpu = _find("cuda")
    statistics = gpu.memory_stats() if gpu else None
    return (statistics or {}).get("peak_bytes_in_use") or None


def to_device(array: NDArray[np.generic], dtype: str | None = None) -> Array:
    """A copy on the default device, in the array's own dtype or another, that later changes of the array do not reach.

    `jnp.array(array, copy=True)` does not promise that: on the CPU JAX reads NumPy's memory while the caller goes on.
    Of 200 sets of 1,000 images, overwritten right afterwards, 30 came out changed (jax 0.10.2). So it gets memory that
    nobody else has, already in its dtype: the conversions of JAX are small programs, compiled for every shape.
    """
    host = np.array(array, dtype=dtype)
    return jnp.asarray(host, dtype=host.dtype)


@contextmanager
def exact(dtype: str, device: jax.Device) -> Iterator[None]:
    """Within it, JAX computes on this device in this dtype exactly; the caller's settings return afterwards.

    64-bit types are on for float64 alone, mixed types are an error, and float32 products are full float32, unless the
    dtype is "tf32": that is float32 whose products may be TF32's.
    """
    with (
        jax.enable_x64(dtype == "float64"),
        jax.numpy_dtype_promotion("strict"),
        jax.default_matmul_precision("tensorfloat32" if dtype == "tf32" else "highest"),
        jax.default_device(device),
    ):
        yield
