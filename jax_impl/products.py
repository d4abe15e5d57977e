"""The same CNN for the CPU: convolution, ReLU and pooling as one matrix product and a choice, images as the last axis.

With W as in windows.py, a kernel stands in four places among zeros, once for each element (a, b) of a pooling window:

    K[(a, b, f), (j, i, c)] = kernel[f, c, i - a, j - b]        0 where that is outside the kernel
    Z = K W + bias                                              the convolution
    M[f, n] = max(0, max over (a, b) of Z[(a, b, f), n])        ReLU and pooling

The first of equal elements is chosen, and none where the largest is not above 0. With D the gradient of M, and dZ = D
at the chosen elements and 0 elsewhere:

    dK^T = W dZ^T        dW = K^T dZ        dbias = the sum of dZ over elements and positions

That is 1.44 times the arithmetic of the convolutions, but few, large products, and between them loops over contiguous
memory. Inside a scan on the CPU XLA's own convolution is slow, its gradient for the kernel above all, and so is the
gradient of its window reduction: with them a step took 10 times the processor's time at batch 4, and 20 times at 128
(jax 0.10.2, float32).

Parameters are canonical: torch's names, shapes and layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, UInt8, UInt32
from numpy.typing import NDArray

from jax_impl.apart import apart
from jax_impl.device import to_device
from jax_impl.formulation import Params
from jax_impl.pooling import chosen_of_four
from jax_impl.windows import image_windows, pack, unfold, unpacked
from parity.contract import CNN_ACTIVATIONS, CNN_PARAMETERS, Weights, check_weights

__all__ = ["FAST", "Fast", "convolve", "convolve_and_pool"]

NOT_CHOSEN = 4
"""In place of the number of a window's chosen element, where none is above 0."""


@jax.custom_vjp
def convolve_and_pool(
    windows: Float[Array, "taps positions"],
    kernel: Float[Array, "filters channels 5 5"],
    bias: Float[Array, " filters"],
) -> Float[Array, "filters positions"]:
    """M: a convolution of what the windows see, ReLU, and 2x2 max-pooling."""
    return _forward(windows, kernel, bias)[0]


def convolve(
    windows: Float[Array, "taps positions"],
    kernel: Float[Array, "filters channels 5 5"],
    bias: Float[Array, " filters"],
) -> Float[Array, "4 filters positions"]:
    """Z: the convolution at the four elements of every window, in row-major order."""
    products = _in_four_places(kernel) @ windows
    return products.reshape(4, len(bias), -1) + bias[:, jnp.newaxis]


Saved = tuple[Array, Array, Array]


def _forward(windows: Array, kernel: Array, bias: Array) -> tuple[Array, Saved]:
    pooled, chosen = _pool((_in_four_places(kernel) @ windows).reshape(4, len(bias), -1), bias)
    return pooled, (windows, kernel, chosen)


def _backward(saved: Saved, gradient: Float[Array, "filters positions"]) -> tuple[Array, Array, Array]:
    windows, kernel, chosen = saved
    elements = _unpool(gradient, chosen)
    flat = elements.reshape(-1, elements.shape[-1])
    kernel_gradient = _from_four_places(windows @ flat.T)
    return _transposed(_in_four_places(kernel)) @ flat, kernel_gradient, elements.sum((0, 2))


convolve_and_pool.defvjp(_forward, _backward)


@apart
def _in_four_places(kernel: Float[Array, "filters channels 5 5"]) -> Float[Array, "four_filters taps"]:
    """K."""
    turned = kernel.transpose(0, 3, 2, 1)
    places = [((0, 0), (b, 1 - b), (a, 1 - a), (0, 0)) for a in (0, 1) for b in (0, 1)]
    return jnp.stack([jnp.pad(turned, place) for place in places]).reshape(4 * len(kernel), -1)


@apart
def _from_four_places(gradient: Float[Array, "taps four_filters"]) -> Float[Array, "filters channels 5 5"]:
    """The gradient of the kernel, from that of K, transposed."""
    four = gradient.T.reshape(4, gradient.shape[1] // 4, 6, 6, -1)
    turned = reduce(jnp.add, [four[2 * a + b, :, b : b + 5, a : a + 5] for a in (0, 1) for b in (0, 1)])
    return turned.transpose(0, 3, 2, 1)


@apart
def _pool(
    products: Float[Array, "4 filters positions"], bias: Float[Array, " filters"]
) -> tuple[Float[Array, "filters positions"], UInt8[Array, "filters positions"]]:
    """M, and the number of every window's chosen element."""
    largest, chosen = chosen_of_four(*(products + bias[:, jnp.newaxis]))
    return jnp.maximum(largest, 0), jnp.where(largest > 0, chosen, NOT_CHOSEN).astype(jnp.uint8)


@apart
def _unpool(
    gradient: Float[Array, "filters positions"], chosen: UInt8[Array, "filters positions"]
) -> Float[Array, "4 filters positions"]:
    """DZ."""
    elements = jnp.arange(4, dtype=jnp.uint8)[:, jnp.newaxis, jnp.newaxis]
    return jnp.where(chosen == elements, gradient, 0)


@jax.custom_vjp
def _transposed(matrix: Float[Array, "n m"]) -> Float[Array, "m n"]:
    """In memory, too: inside a product, XLA would make it one of another form, which may be many times slower."""
    transposed: Array = apart(jnp.transpose)(matrix)
    return transposed


_transposed.defvjp(lambda matrix: (_transposed(matrix), None), lambda _, gradient: (_transposed(gradient),))


def _linear(params: Params, layer: str, inputs: Float[Array, "batch inputs"]) -> Float[Array, "batch outputs"]:
    outputs: Array = inputs @ params[f"{layer}.weight"].T + params[f"{layer}.bias"]
    return outputs


@dataclass(frozen=True)
class Fast:
    """See `jax_impl.formulation.Formulation`; so for all methods."""

    name: str = "convolutions as products"
    # What the windows of 64 images see takes 5 MB in float32, and stays in a shared cache until it is read again: of
    # 1,024 images at once a step took 1.6 times as long.
    at_once: int | None = 64

    def from_canonical(self, weights: Weights, *, dtype: str) -> Params:
        """As they are."""
        check_weights(weights)
        return {name: to_device(weights[name], dtype) for name in CNN_PARAMETERS}

    def to_canonical(self, params: Params) -> dict[str, NDArray[np.floating]]:
        """Copies."""
        return {name: np.array(params[name]) for name in CNN_PARAMETERS}

    def activation_to_canonical(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        """From images as the last axis, and the order of positions in windows.py."""
        shape = CNN_ACTIVATIONS[name]
        if len(shape) == 1:
            return np.array(value)
        images = _from_elements(value, shape) if name.startswith("conv") else _from_positions(value, shape)
        return np.ascontiguousarray(images)

    def resident(self, images: NDArray[np.generic]) -> NDArray[np.uint32]:
        """Four pixels a word."""
        return pack(images)

    def images(
        self, table: Float[Array, " 256"], resident: UInt32[Array, "size 768"], rows: Int[Array, " batch"]
    ) -> Float[Array, "batch 3 32 32"]:
        """Unpacked."""
        return unpacked(resident[rows], table)

    def batch(
        self, table: Float[Array, " 256"], resident: UInt32[Array, "size 768"], rows: Int[Array, " batch"]
    ) -> Float[Array, "108 positions"]:
        """What the first convolution's windows see."""
        return image_windows(resident, rows, table)

    def logits(self, params: Params, batch: Float[Array, "108 positions"]) -> Float[Array, "batch 10"]:
        """Of images in windows."""
        return self.recorded(params, batch)[0]

    def recorded(
        self, params: Params, batch: Float[Array, "108 positions"]
    ) -> tuple[Float[Array, "batch 10"], dict[str, Array]]:
        """XLA leaves out what is not read: the convolutions, which are computed inside `convolve_and_pool` too."""
        first = batch, params["conv1.weight"], params["conv1.bias"]
        pool1 = convolve_and_pool(*first).reshape(6, 2, 2, 7, 7, -1)
        second = unfold(pool1), params["conv2.weight"], params["conv2.bias"]
        pool2 = convolve_and_pool(*second)
        fc1 = _linear(params, "fc1", _transposed(pool2.reshape(400, -1)))
        relu3 = jax.nn.relu(fc1)
        fc2 = _linear(params, "fc2", relu3)
        relu4 = jax.nn.relu(fc2)
        seen = {"conv1": convolve(*first), "pool1": pool1, "conv2": convolve(*second), "pool2": pool2}
        return _linear(params, "fc3", relu4), seen | {"fc1": fc1, "relu3": relu3, "fc2": fc2, "relu4": relu4}


def _from_elements(value: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Z -> (B, C, H, W)."""
    channels, height, width = shape
    elements = [_from_positions(element, (channels, height // 2, width // 2)) for element in value]
    images = np.empty((len(elements[0]), *shape), value.dtype)
    for number, element in enumerate(elements):
        images[:, :, number // 2 :: 2, number % 2 :: 2] = element
    return images


def _from_positions(value: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """M -> (B, C, H, W); of the first convolution, whose maps are 14 high, rows and columns come in two halves."""
    channels, height, width = shape
    if height % 2:
        return value.reshape(channels, height, width, -1).transpose(3, 0, 1, 2)
    halves = value.reshape(channels, 2, 2, height // 2, width // 2, -1)
    return halves.transpose(5, 0, 3, 2, 4, 1).reshape(-1, *shape)


FAST = Fast()
