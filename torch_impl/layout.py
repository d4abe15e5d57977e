"""Between canonical NumPy and torch tensors. The canonical layout is torch's, so only images change their axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parity.contract import Weights, check_weights

__all__ = ["from_canonical", "images_from_canonical", "to_canonical"]


def from_canonical(weights: Weights, *, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Canonical weights -> new tensors by parameter name.

    Raises:
        InputError: a tensor is missing, unknown or ill-shaped.
    """
    check_weights(weights)
    # torch.tensor copies; torch.from_numpy would share the caller's memory.
    return {name: torch.tensor(value, dtype=dtype, device=device) for name, value in weights.items()}


def to_canonical(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[np.floating]]:
    """Tensors by parameter name -> canonical arrays. Copies: `Tensor.numpy` alone would show later updates."""
    return {name: np.array(tensor.detach().cpu().numpy()) for name, tensor in tensors.items()}


def images_from_canonical(images: NDArray[np.generic], *, device: torch.device) -> Tensor:
    """(N, H, W, C) uint8 -> a contiguous (N, C, H, W) uint8 tensor on the device, a copy."""
    return torch.tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), device=device)
