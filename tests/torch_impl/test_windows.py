"""The operations of the fast path, each against torch's own."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from torch_impl.windows import FourKernels, MaxOfFour, Overlaps, Windows


def whole_numbers(*shape):
    """Small integers, whose products and sums float64 holds exactly."""
    return torch.randint(-9, 10, shape, generator=torch.Generator().manual_seed(len(shape))).double()


@pytest.mark.parametrize("p_is_row", [True, False])
@pytest.mark.parametrize(("channels", "filters", "size"), [(3, 6, 32), (6, 16, 14)])
def test_the_product_is_the_convolution(channels, filters, size, p_is_row):
    images, weight, bias = whole_numbers(2, channels, size, size), whole_numbers(filters, channels, 5, 5), 7.0
    # From (batch, channel, row, column) to (batch, p, q, channel), and back.
    axes = (0, 2, 3, 1) if p_is_row else (0, 3, 2, 1)
    kernels = torch.cat([weight.permute(axes).flatten(1), torch.full((filters, 1), bias)], 1)
    four = FourKernels(kernels, torch.zeros_like(kernels), p_is_row=p_is_row)
    windows = Windows(images.permute(axes))
    four.expand()
    windows.fill()
    across, down = windows.shape[1:]
    slabs = (four.matrix @ windows.rows.t()).view(2, 2, filters, 2, across, down)  # (column, row) of the element, ...
    if not p_is_row:
        slabs = slabs.transpose(4, 5)  # ... then (filter, batch, column', row')
    found = slabs.permute(3, 2, 5, 1, 4, 0).reshape(2, filters, 2 * down, 2 * across)
    assert torch.equal(found, F.conv2d(images, weight) + bias)


def test_adding_overlaps_is_the_transposed_of_filling():
    """<R x, g> = <x, R^T g> for the linear map R of images to windows."""
    images, gradient = whole_numbers(3, 14, 14, 6), torch.full((3, 14, 14, 6), torch.nan).double()
    windows = Windows(images)
    windows.fill()
    rows = whole_numbers(len(windows.rows), 36 * 6)
    Overlaps(rows, gradient).add()
    assert (windows.rows[:, : 36 * 6] * rows).sum() == (images * gradient).sum()


@pytest.mark.parametrize("p_is_row", [True, False])
def test_contracting_is_the_transposed_of_expanding(p_is_row):
    kernels = whole_numbers(6, 25 * 3 + 1)
    gradient = torch.full_like(kernels, torch.nan)
    four = FourKernels(kernels, gradient, p_is_row=p_is_row)
    four.matrix_gradient.copy_(whole_numbers(*four.matrix.shape))
    four.expand()
    four.contract()
    assert (four.matrix * four.matrix_gradient).sum() == (kernels * gradient).sum()


def test_every_pattern_of_ties_is_decided_as_torch_does():
    """All windows of four values below, at and above 0, twice the latter."""
    images = torch.tensor(list(product([-1.0, 0.0, 1.0, 2.0], repeat=4)), dtype=torch.float64).view(-1, 1, 2, 2)
    upstream = torch.arange(1.0, 1 + len(images), dtype=torch.float64).view(-1, 1, 1, 1)
    expected = images.clone().requires_grad_()
    pooled = F.max_pool2d(F.relu(expected), 2)
    torch.autograd.backward(pooled, upstream)

    four = images.permute(3, 2, 1, 0).reshape(4, 1, 1, -1)  # (column, row)
    largest = torch.empty(1, 1, len(images), dtype=torch.float64)
    choice = MaxOfFour(four, largest, upstream.view(1, 1, -1))
    choice.forward()
    assert torch.equal(largest.view(-1), pooled.detach().view(-1))
    choice.backward()
    gradient = four.view(2, 2, -1).permute(2, 1, 0).unsqueeze(1)
    assert torch.equal(gradient, expected.grad)
