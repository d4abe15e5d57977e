"""Pixels to floating point: (x / 255 - 0.5) / 0.5, the tutorial's ToTensor and Normalize, as a table.

A uint8 pixel has 256 values, so the formula is computed once, here, in NumPy, at the run's precision. Both sides gather
from this table and so start from bit-identical inputs: compilers may rewrite x / 255 as x * (1 / 255), which rounds
differently, but cannot touch a gather.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["normalisation_table"]


def normalisation_table(dtype: str) -> NDArray[np.floating]:
    """The normalised value of each pixel value.

    Args:
        dtype: "float32" or "float64"; every operation is rounded to it, as torchvision does in float32.

    Returns:
        (256,) array of that dtype, from -1 to 1.
    """
    pixel = np.arange(256).astype(dtype)
    half = pixel.dtype.type(0.5)
    table: NDArray[np.floating] = (pixel / pixel.dtype.type(255) - half) / half
    return table
