"""Forward and backward pass of the CNN, written out in products, with every tensor in memory that is used again.

For a layer y = [W | b] [x; 1] with gradient g = dL/dy:

    dL/d[W | b] = g [x; 1]^T,    dL/dx = W^T g,    through a ReLU before x: where x > 0

and for the mean cross-entropy of logits z, with the labels' one-hot vectors t and B images:

    L = sum(-t/B * log_softmax(z)),    dL/dz = (softmax(z) - t) / B

At batch 4 half of an eager step is spent between the operations: on making tensors, on autograd's graph, on slicing.
Here a step is some 80 operations on tensors and views that are made once.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from torch_impl.flat import Flat
from torch_impl.windows import FourKernels, MaxOfFour, Overlaps, Windows, relu_backward

__all__ = ["Kernels", "Pass"]

log_softmax_backward = torch.ops.aten._log_softmax_backward_data.out  # noqa: SLF001  torch names its gradients so
"""log_softmax_backward(g, y, dim, dtype, out=out): g - exp(y) sum(g)."""


class Kernels:
    """Both layers' kernels as the passes of any size use them; `expand` before them, `contract` after them."""

    def __init__(self, weights: Flat, gradient: Flat) -> None:
        self.conv1 = FourKernels(weights.matrices["conv1"], gradient.matrices["conv1"], p_is_row=True)
        self.conv2 = FourKernels(weights.matrices["conv2"], gradient.matrices["conv2"], p_is_row=False)

    def expand(self) -> None:
        """Read the weights."""
        self.conv1.expand()
        self.conv2.expand()

    def contract(self) -> None:
        """Write the gradient."""
        self.conv1.contract()
        self.conv2.contract()


class ConvPool:
    """A convolution, ReLU and max-pooling: (batch, p, q, channel) images -> `pooled`, (filter, batch, q' p')."""

    def __init__(self, images: Tensor, kernels: FourKernels, pooled: Tensor, pooled_gradient: Tensor) -> None:
        self.kernels, self.windows = kernels, Windows(images)
        self._rows = self.windows.rows.t()
        self.products = images.new_empty(len(kernels.matrix), len(self.windows.rows))
        self._choice = MaxOfFour(self.products.view(4, *pooled.shape), pooled, pooled_gradient)

    def forward(self) -> None:
        """Write `pooled`."""
        self.windows.fill()
        torch.mm(self.kernels.matrix, self._rows, out=self.products)
        self._choice.forward()

    def backward(self, *, keep: bool) -> None:
        """Write the kernels' gradient, added to what is there if that is to be kept; `products` becomes its own."""
        self._choice.backward()
        self.kernels.matrix_gradient.addmm_(self.products, self.windows.rows, beta=int(keep))


class ImagesGradient:
    """Through a convolution to the gradient of its images, (batch, p, q, channel)."""

    def __init__(self, layer: ConvPool, images: Tensor) -> None:
        self._gradient = layer.products.t()
        self._matrix = layer.kernels.matrix[:, : layer.kernels.seen]
        self._rows = images.new_empty(len(layer.windows.rows), self._matrix.shape[1])
        self._overlaps = Overlaps(self._rows, images)

    def backward(self) -> None:
        """Write the images' gradient."""
        torch.mm(self._gradient, self._matrix, out=self._rows)
        self._overlaps.add()


class Linear:
    """A linear layer; its input, `x`, ends with a column of ones, which the layer before does not write."""

    def __init__(self, size: int, matrix: Tensor, gradient: Tensor, y: Tensor, y_gradient: Tensor) -> None:
        self._transposed, self._weight, self._gradient = matrix.t(), matrix[:, :-1], gradient
        self._y, self._y_gradient, self._y_gradient_transposed = y, y_gradient, y_gradient.t()
        self._with_ones = matrix.new_ones(size, matrix.shape[1])
        self.x = self._with_ones[:, :-1]
        self.x_gradient = torch.empty_like(self.x)

    def forward(self) -> None:
        """Write `y`."""
        torch.mm(self._with_ones, self._transposed, out=self._y)

    def backward(self, *, keep: bool) -> None:
        """Write the layer's gradient, added to what is there if that is to be kept, and that of `x`."""
        self._gradient.addmm_(self._y_gradient_transposed, self._with_ones, beta=int(keep))
        torch.mm(self._y_gradient, self._weight, out=self.x_gradient)


class Pass:
    """Both passes of a fixed number of images.

    Args:
        size: how many.
        table: what a pixel's value is normalised to.
        weights: read by `forward` and `backward`, the kernels' through `kernels`.
        gradient: written by `backward`, the kernels' through `kernels`.
    """

    def __init__(
        self, size: int, table: Float[Tensor, " 256"], weights: Flat, gradient: Flat, kernels: Kernels
    ) -> None:
        def linear(layer: str, y: Tensor, y_gradient: Tensor) -> Linear:
            return Linear(size, weights.matrices[layer], gradient.matrices[layer], y, y_gradient)

        self._table, empty = table, table.new_empty
        self._bytes = empty(size, 32 * 32 * 3, dtype=torch.uint8)
        self._pixels = empty(size * 32 * 32 * 3, dtype=torch.int32)
        self._logits, self._logits_gradient = empty(size, 10), empty(size, 10)
        self._log_softmax = empty(size, 10)
        self._fc3 = linear("fc3", self._logits, self._logits_gradient)
        self._fc2 = linear("fc2", self._fc3.x, self._fc3.x_gradient)
        self._fc1 = linear("fc1", self._fc2.x, self._fc2.x_gradient)

        images, pooled = empty(size, 32, 32, 3), empty(size, 14, 14, 6)  # the second is (batch, column, row, channel)
        pooled_gradient = torch.empty_like(pooled)
        features = (_features_first(x) for x in (self._fc1.x, self._fc1.x_gradient))
        self._image_values = images.view(-1)
        self._conv1 = ConvPool(images, kernels.conv1, _channels_first(pooled), _channels_first(pooled_gradient))
        self._conv2 = ConvPool(pooled, kernels.conv2, *features)
        self._conv2_images = ImagesGradient(self._conv2, pooled_gradient)

    def load(self, pixels: UInt8[Tensor, "size pixels"], rows: Int[Tensor, " batch"]) -> None:
        """Gather and normalise these rows of the data set's (N, 32*32*3) pixels, which are (row, column, channel)."""
        torch.index_select(pixels, 0, rows, out=self._bytes)
        self._pixels.copy_(self._bytes.view(-1))
        torch.index_select(self._table, 0, self._pixels, out=self._image_values)

    def forward(self, targets: Float[Tensor, "batch 10"], loss: Float[Tensor, ""]) -> None:
        """Write the loss: the sum of targets * log_softmax(logits), where targets are -1/B for the label, else 0."""
        self._conv1.forward()
        self._conv2.forward()
        self._fc1.forward()
        self._fc2.x.clamp_min_(0)
        self._fc2.forward()
        self._fc3.x.clamp_min_(0)
        self._fc3.forward()
        torch.log_softmax(self._logits, 1, out=self._log_softmax)
        torch.dot(targets.view(-1), self._log_softmax.view(-1), out=loss)

    def backward(self, targets: Float[Tensor, "batch 10"], *, keep: bool) -> None:
        """Write the gradient of the loss in all parameters, added to what is there if that is to be kept."""
        log_softmax_backward(targets, self._log_softmax, 1, targets.dtype, out=self._logits_gradient)
        self._fc3.backward(keep=keep)
        relu_backward(self._fc3.x_gradient, self._fc3.x, 0, grad_input=self._fc3.x_gradient)
        self._fc2.backward(keep=keep)
        relu_backward(self._fc2.x_gradient, self._fc2.x, 0, grad_input=self._fc2.x_gradient)
        self._fc1.backward(keep=keep)
        self._conv2.backward(keep=keep)
        self._conv2_images.backward()
        self._conv1.backward(keep=keep)


def _channels_first(images: Float[Tensor, "batch p q channel"]) -> Float[Tensor, "channel batch pixels"]:
    return images.flatten(1, 2).permute(2, 0, 1)


def _features_first(x: Float[Tensor, "batch 400"]) -> Float[Tensor, "16 batch 25"]:
    """The first linear layer's input in the layout of `ConvPool`; its order is the canonical (channel, row, column)."""
    features: Tensor = x.unflatten(1, (16, 25))
    return features.transpose(0, 1)
