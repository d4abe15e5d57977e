"""A 5x5 convolution and the 2x2 max-pooling after it, as one matrix product over 6x6 windows, and the gradients.

The four elements of a pooling window see 6x6 pixels between them. These are laid out as one row of a matrix R, with a 1
at its end for the bias, and multiplied by four copies of every kernel, each at its own place among zeros, a matrix K:

    Y = K R^T                       Y: (4 filters, windows), K: (4 filters, width), R: (windows, width)
    dL/dK = (dL/dY) R               the gradient of a kernel is the sum over its four copies
    dL/dR = (dL/dY)^T K             the gradient of a pixel is the sum over the windows that see it

That is 1.44 times the arithmetic of the convolution, on rows that are a third as many numbers as a row for each element
would be. Y consists of four slabs, one for each element of a pooling window, so that the largest of every window is
found by operations on whole slabs. A width is 36 C + 1 and zeros up to a multiple of 16, with which the product for
dL/dK takes a fifth less (float32, MKL 2024.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["FourKernels", "MaxOfFour", "Overlaps", "Windows", "relu_backward"]

relu_backward = torch.ops.aten.threshold_backward.grad_input
"""relu_backward(g, y, 0, grad_input=out): g where the ReLU's output y is above 0, else 0; torch's own gradient."""


def _width(channels: int) -> int:
    return -(-(36 * channels + 1) // 16) * 16


class Windows:
    """Every 6x6 window at stride 2 of some images, as a matrix of rows.

    The two axes of the images change places on the way: images (batch, p, q, channel) become rows by (batch, q', p'),
    each of them (6 p, 6 q, channel), a 1 and zeros. Then a row is copied as one run of memory, out of strips 6 pixels
    wide.

    Args:
        images: (batch, p, q, channel), read by every `fill`.
    """

    def __init__(self, images: Float[Tensor, "batch p q channel"]) -> None:
        batch, p, _, channels = images.shape
        seen = images.unfold(2, 6, 2).permute(0, 2, 1, 4, 3)  # (batch, q', p, 6 q, channel)
        self._in_images = seen
        self._strips = images.new_empty(seen.shape)
        self._in_strips = self._strips.unfold(2, 6, 2).permute(0, 1, 2, 5, 3, 4)  # (batch, q', p', 6 p, 6 q, channel)
        self.shape = (batch, seen.shape[1], p // 2 - 2)
        self.rows = images.new_zeros(self._in_strips.shape[:3].numel(), _width(channels))
        self.rows[:, 36 * channels] = 1
        self._in_rows = self.rows[:, : 36 * channels].view(self._in_strips.shape)

    def fill(self) -> None:
        """Copy the images into `rows`."""
        self._strips.copy_(self._in_images)
        self._in_rows.copy_(self._in_strips)


class Overlaps:
    """The opposite of `Windows`: the gradient of the images from the gradient of the rows, overlaps added up.

    Windows begin at every second pixel, so the pixels are added in pairs, of which every window has three.

    Args:
        rows: (windows, 36 channel), without the bias's column, read by every `add`.
        images: (batch, p, q, channel), written by every `add`.
    """

    def __init__(self, rows: Float[Tensor, "windows seen"], images: Float[Tensor, "batch p q channel"]) -> None:
        batch, p, q, channels = images.shape
        across, down = q // 2 - 2, p // 2 - 2
        strips = images.new_empty(batch, across, p, 6 * channels)
        by_pair = rows.view(batch, across, down, 3, 12 * channels)
        in_strips = strips.view(batch, across, p // 2, 12 * channels)
        self._into_strips = [(in_strips[:, :, pair : pair + down], by_pair[..., pair, :]) for pair in range(3)]
        by_pair = strips.view(batch, across, p, 3, 2 * channels).transpose(1, 2)
        in_images = images.view(batch, p, q // 2, 2 * channels)
        self._into_images = [(in_images[:, :, pair : pair + across], by_pair[..., pair, :]) for pair in range(3)]
        self._sums = (strips, self._into_strips), (images, self._into_images)

    def add(self) -> None:
        """Compute the images' gradient."""
        for total, pairs in self._sums:
            total.zero_()
            for part, term in pairs:
                part.add_(term)


class FourKernels:
    """The matrix K of four copies of a layer's kernels, and its gradient.

    Args:
        kernels: the layer's [W | b], (filters, 25 channels + 1): a filter's weights by (p, q, channel) of the images.
        gradient: the same for the gradient.
        p_is_row: whether the images' axis p is their rows; otherwise it is their columns.

    Attributes:
        seen: how many numbers a window sees, 36 channels.
        matrix: (4 filters, width): slabs by (column, row) of the element in its pooling window.
        matrix_gradient: the same for the gradient.
    """

    def __init__(
        self,
        kernels: Float[Tensor, "filters inputs"],
        gradient: Float[Tensor, "filters inputs"],
        *,
        p_is_row: bool,
    ) -> None:
        filters, channels = len(kernels), kernels.shape[1] // 25
        self._kernels, self._bias = kernels[:, :-1].view(filters, 5, 5, channels), kernels[:, -1]
        self._gradient, self._bias_gradient = gradient[:, :-1].view(self._kernels.shape), gradient[:, -1]
        self.seen = 36 * channels
        self.matrix = kernels.new_zeros(4 * filters, _width(channels))
        self.matrix_gradient = torch.zeros_like(self.matrix)
        self._places, self._biases = _places(self.matrix, self.seen, p_is_row=p_is_row)
        self._gradients, self._bias_gradients = _places(self.matrix_gradient, self.seen, p_is_row=p_is_row)

    def expand(self) -> None:
        """Copy the layer's kernels into the matrix."""
        for place in self._places:
            place.copy_(self._kernels)
        self._biases.copy_(self._bias)

    def contract(self) -> None:
        """Sum the matrix's gradient into the layer's."""
        first, second, *others = self._gradients
        torch.add(first, second, out=self._gradient)
        for other in others:
            self._gradient.add_(other)
        torch.sum(self._bias_gradients, 0, out=self._bias_gradient)


def _places(matrix: Tensor, seen: int, *, p_is_row: bool) -> tuple[Sequence[Tensor], Tensor]:
    """The four copies' places in the matrix, each (filters, 5, 5, channels), and the biases', (4, filters)."""
    slabs = matrix.unflatten(0, (4, -1))
    windows = slabs[..., :seen].unflatten(2, (6, 6, -1))
    places = []
    for slab, (column, row) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        p, q = (row, column) if p_is_row else (column, row)
        places.append(windows[slab, :, p : p + 5, q : q + 5])
    return places, slabs[..., seen]


class MaxOfFour:
    """ReLU and the largest of four slabs, as three choices: left or right, twice, then upper or lower.

    Of equal elements the first in the pooling window is chosen, and gets the gradient; at 0 the ReLU's gradient is 0:
    both as torch's own operations have it. A choice is kept as 1 or 0, and a gradient multiplied by it.

    Args:
        four: (4, channel, batch, pixels), slabs by (column, row), read by `forward`; `backward` puts its gradient
            there.
        pooled: (channel, batch, pixels), written by `forward`.
        pooled_gradient: the same for the gradient, read by `backward`.
    """

    def __init__(
        self,
        four: Float[Tensor, "4 channel batch pixels"],
        pooled: Float[Tensor, "channel batch pixels"],
        pooled_gradient: Float[Tensor, "channel batch pixels"],
    ) -> None:
        self._left, self._right = four[:2], four[2:]
        self._pooled, self._pooled_gradient = pooled, pooled_gradient
        self._rows = torch.empty_like(self._left)
        self._upper, self._lower = self._rows
        self._is_right, self._is_lower = torch.empty_like(self._left), torch.empty_like(self._upper)
        self._largest = torch.empty_like(self._upper)

    def forward(self) -> None:
        """Write `pooled`."""
        torch.maximum(self._left, self._right, out=self._rows)
        torch.gt(self._right, self._left, out=self._is_right)
        torch.gt(self._lower, self._upper, out=self._is_lower)
        torch.maximum(self._upper, self._lower, out=self._largest)
        torch.clamp_min(self._largest, 0, out=self._pooled)

    def backward(self) -> None:
        """Write the gradient of `four`, over its values: those are in the choices, as far as they matter."""
        largest, rows = self._largest, self._rows
        relu_backward(self._pooled_gradient, self._pooled, 0, grad_input=largest)
        torch.mul(largest, self._is_lower, out=self._lower)
        torch.sub(largest, self._lower, out=self._upper)
        torch.mul(rows, self._is_right, out=self._right)
        torch.sub(rows, self._right, out=self._left)
