"""The weights that a program starts from, and how it lays them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from parity.contract import Stream, Weights
from parity.drill.fault import ANY, CNN, Fault
from parity.drill.reporting import alias_biases
from parity.drill.starting import Layout, lay_out, start_with
from parity.drill.wrapped import Inapplicable

__all__ = ["WEIGHTS"]

Array = NDArray[np.floating]
FloatT = TypeVar("FloatT", bound=np.floating)

_PURPOSE = 8  # keeps this random stream apart from other streams of the same seed


def bfloat16(value: NDArray[FloatT]) -> NDArray[FloatT]:
    """Rounded to 8 significant bits, to nearest, ties to even."""
    pattern = value.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (pattern + 0x7FFF + ((pattern >> 16) & 1)) & 0xFFFF0000
    narrow: NDArray[FloatT] = rounded.astype(np.uint32).view(np.float32).astype(value.dtype)
    return narrow


def float16(value: Array) -> Array:
    """Through float16 and back."""
    return value.astype(np.float16).astype(value.dtype)


def of_one(name: str, change: Callable[[Array], Array]) -> Callable[[Weights], Weights]:
    """One tensor changed."""
    return lambda weights: {**weights, name: np.ascontiguousarray(change(weights[name]))}


def of_all(change: Callable[[Array], Array]) -> Callable[[Weights], Weights]:
    """All tensors changed."""
    return lambda weights: {name: change(value) for name, value in weights.items()}


def swapped(value: Array) -> Array:
    """A kernel's rows and columns exchanged."""
    return value.swapaxes(-1, -2)


def flipped(value: Array) -> Array:
    """A kernel mirrored in both directions: a convolution for a cross-correlation."""
    return value[..., ::-1, ::-1]


def reversed_inputs(value: Array) -> Array:
    """A kernel's input channels in reverse."""
    return value[:, ::-1]


def columns_to_hwc(value: Array) -> Array:
    """fc1 as if its features came in (H, W, C) order."""
    return value.reshape(120, 16, 5, 5).transpose(0, 2, 3, 1).reshape(120, 400)


def columns_to_chw(value: Array) -> Array:
    """The inverse."""
    return value.reshape(120, 5, 5, 16).transpose(0, 3, 1, 2).reshape(120, 400)


def reshaped(weights: Weights) -> Weights:
    """Every matrix read as its transpose's bytes: a reshape where a transpose is meant."""
    matrices = [name for name, value in weights.items() if value.ndim == 2 and min(value.shape) > 1]
    if not matrices:
        raise Inapplicable("it has no matrix")
    return {**weights, **{name: weights[name].T.reshape(weights[name].shape) for name in matrices}}


def own_initialiser(weights: Weights) -> Weights:
    """Biases 0, and all else normal with the deviation times sqrt(3): flax's default beside torch's."""
    stream = Stream(0, _PURPOSE)

    def drawn(value: Array) -> Array:
        if value.ndim < 2:
            return np.zeros_like(value)
        # The sum of twelve uniform draws, less 6, is normal enough, and the same on every platform.
        normal = stream.uniform(12 * value.size).reshape(12, *value.shape).sum(axis=0) - 6
        return np.asarray(normal * value.std() * np.sqrt(3), value.dtype)

    return {name: drawn(value) for name, value in weights.items()}


SWAP: Layout = (swapped, swapped)
FLIP: Layout = (flipped, flipped)
HWC: Layout = (columns_to_hwc, columns_to_chw)


def _start(key: str, title: str, change: Callable[[Weights], Weights], *, scope: str = CNN, name: str = "") -> Fault:
    names = frozenset({key, name} - {""})
    return Fault(key=key, title=title, stage="weights", first=0, scope=scope, plant=start_with(change), names=names)


def _rounded(dtype: str, change: Callable[[Array], Array]) -> Fault:
    key, name = f"weights-rounded-{dtype}", "weights-rounded"
    return _start(key, f"weights pass through {dtype}", of_all(change), scope=ANY, name=name)


def _converter(key: str, title: str, tensor: str, layout: Layout, name: str) -> Fault:
    """A converter that errs both ways shows right weights; what the layer makes of them is the first that does not."""
    plant = lay_out({tensor: layout})
    return Fault(key=key, title=title, stage="activations", first=0, plant=plant, names=frozenset({key, name}))


WEIGHTS = (
    _start("kernel-axes-swapped", "conv1's kernels have rows and columns swapped", of_one("conv1.weight", swapped)),
    _converter(
        "kernel-axes-swapped-by-layout",
        "conv1's kernels are swapped on the way in and on the way out",
        "conv1.weight",
        SWAP,
        "kernel-axes-swapped",
    ),
    _start("kernel-flipped", "conv2's kernels are mirrored", of_one("conv2.weight", flipped)),
    _converter(
        "kernel-flipped-by-layout",
        "conv2's kernels are mirrored on the way in and on the way out",
        "conv2.weight",
        FLIP,
        "kernel-flipped",
    ),
    _start("conv1-channels-reversed", "conv1's input channels are reversed", of_one("conv1.weight", reversed_inputs)),
    _start("flatten-order", "fc1's features are not permuted to C, H, W", of_one("fc1.weight", columns_to_hwc)),
    _converter(
        "flatten-order-by-layout",
        "fc1's features stand in H, W, C order inside the program alone",
        "fc1.weight",
        HWC,
        "flatten-order",
    ),
    _start("linear-reshaped", "a reshape stands for the transpose of a linear weight", reshaped, scope=ANY),
    _rounded("bfloat16", bfloat16),
    _rounded("float16", float16),
    Fault(
        key="biases-aliased",
        title="biases share memory with another program's",
        stage="weights",
        first=1,  # the other program has taken a step by then
        scope=ANY,
        plant=alias_biases,
    ),
    _start("own-initialiser", "the program draws its own weights", own_initialiser, scope=ANY),
)
