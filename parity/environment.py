"""What a result was measured with: versions of the packages and the machine. Nothing is imported to find out."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

__all__ = ["Environment", "describe_environment", "usable_cores"]

_PACKAGES = (
    *("parity", "numpy", "torch", "torchvision", "jax", "jaxlib", "flax", "optax", "safetensors"),
    *("keras", "lightning", "numba"),
)

VARIABLES = (
    *("CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE"),
    *("JAX_DEFAULT_MATMUL_PRECISION", "JAX_ENABLE_X64", "JAX_PLATFORMS", "XLA_FLAGS"),
    *("MKL_NUM_THREADS", "OMP_NUM_THREADS", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
"""Environment variables that decide where the frameworks compute, in which precision, or with how many threads."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Python's and the packages' versions (those installed), and the machine's processor and system.

    `variables` are those of VARIABLES that are set: they change how the frameworks compute.
    """

    python: str
    packages: dict[str, str]
    system: str
    processor: str
    cores: int
    variables: dict[str, str] = field(default_factory=dict)


def describe_environment() -> Environment:
    """Describe the running process's environment."""
    return Environment(
        python=platform.python_version(),
        packages={name: version for name in _PACKAGES if (version := _version(name))},
        system=platform.platform(),
        processor=_processor(),
        cores=usable_cores(),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
    )


def usable_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name; platform.processor() is empty on most Linux systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
