"""Convolutions with another padding, stride or dilation: both frameworks' own, and whole programs."""

import tracemalloc
from itertools import pairwise

import flax.linen
import jax
import numpy as np
import pytest
import torch
from jax import lax
from torch import nn
from torch.nn import functional

from parity.explain import convolution
from parity.explain.convolution import other_convolution
from tests.explain.own import checked, jax_side, torch_side

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4, 11, 8)) * np.array([1.0, 2.0, 9.0]).reshape(3, 1, 1, 1)
KERNEL = RNG.normal(size=(6, 4, 3, 5))
BIAS = RNG.normal(size=6)
WEIGHTS = {
    "other": RNG.normal(size=6),
    "square": RNG.normal(size=(4, 4, 3, 3)),
    "of two groups, but for its filters": RNG.normal(size=(7, 2, 3, 5)),
    "of no channels": np.zeros((6, 0, 3, 5)),
    "kernel": KERNEL,
    "bias": BIAS,
}


def found(x, weights, meant, *held, beside=()):
    """Of activations alone."""
    first = {"meant": meant, **{f"beside {number}": value for number, value in enumerate(beside)}}
    return other_convolution([x], weights, "meant", (first, {str(number): value for number, value in enumerate(held)}))


def by_torch(x, kernel, bias=None, **geometry):
    convolve = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}[x.ndim]
    bias = None if bias is None else torch.tensor(bias)
    return convolve(torch.tensor(x), torch.tensor(kernel), bias, **geometry).numpy()


def by_jax(x, kernel, padding, strides, *, groups=1):
    """Channels last, as flax has it."""
    letters = "HWD"[: x.ndim - 2]
    with jax.enable_x64(True):
        y = lax.conv_general_dilated(
            np.moveaxis(x, 1, -1),
            np.moveaxis(kernel, (0, 1), (-1, -2)),
            [strides] * len(letters),
            padding,
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
            feature_group_count=groups,
        )
    return np.asarray(y)


GEOMETRIES = [
    {"padding": 0, "stride": 1, "dilation": 1},
    {"padding": 1, "stride": 1, "dilation": 1},
    {"padding": (1, 2), "stride": 1, "dilation": 1},
    {"padding": (0, 1), "stride": 2, "dilation": 1},
    {"padding": (1, 2), "stride": 2, "dilation": 1},
    {"padding": (1, 2), "stride": 3, "dilation": 1},
    {"padding": (2, 2), "stride": 1, "dilation": 2},
    {"padding": (2, 4), "stride": 2, "dilation": 2},
]


def parts(geometry):
    padding = dict.fromkeys(map(str, np.atleast_1d(geometry["padding"])))
    return {name: str(geometry[name]) for name in ("stride", "dilation")} | {"padding": " and ".join(padding)}


@pytest.mark.parametrize(("meant", "held"), [*pairwise(GEOMETRIES), *pairwise(GEOMETRIES[::-1])])
@pytest.mark.parametrize("biases", [(None, None), (BIAS, BIAS), (BIAS, None), (None, BIAS)])
def test_torchs_convolutions_are_read_as_they_were_computed(meant, held, biases):
    a, b = (by_torch(X, KERNEL, bias, **each) for bias, each in zip(biases, (meant, held), strict=True))
    other = found(X, WEIGHTS, a, X, np.ones_like(b), b)
    assert other.meant.parts == parts(meant)
    assert other.held.parts == parts(held)
    assert other.name == "2"
    assert 0 <= other.residual < 1e-14


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_jaxs_same_beside_torchs_symmetric_padding(layout, dimensions, groups):
    """From either side, whatever the layouts: of 8 elements and 5 of a kernel SAME pads (1, 2) at a stride of 2."""
    x = RNG.normal(size=(3, 8, *[8] * dimensions))
    kernel = RNG.normal(size=(8, 8 // groups, *[5] * dimensions))
    symmetric = by_torch(x, kernel, padding=2, stride=2, groups=groups)
    same = by_jax(x, kernel, "SAME", 2, groups=groups)
    held = {"kernel": kernel}
    if layout == "channels last":
        x, held = np.moveaxis(x, 1, -1), {"kernel": np.moveaxis(kernel, (0, 1), (-1, -2))}
    other = found(x, held, symmetric, same)
    assert other.differences == [("padding", "2", '(1, 2) ("SAME")')]
    assert not other.cut
    assert found(x, held, same, symmetric).differences == [("padding", '(1, 2) ("SAME")', "2")]


def test_other_uneven_paddings_are_told_without_a_word_for_them():
    other = found(X, WEIGHTS, by_torch(X, KERNEL), by_jax(X, KERNEL, [(1, 0), (0, 2)], 1))
    assert other.held.parts["padding"] == "(1, 0) and (0, 2)"


def test_patches_are_a_stride_as_large_as_the_kernel():
    x, kernel = RNG.normal(size=(2, 3, 36, 24)), RNG.normal(size=(5, 3, 12, 12))
    other = found(x, {"kernel": kernel}, by_torch(x, kernel, stride=12), by_torch(x, kernel, stride=4))
    assert other.differences == [("stride", "12", "4")]
    assert other.cut


def test_padding_that_no_window_reads_is_no_other_one():
    """Of 8 elements a kernel of 3 at a stride of 2 never reads a zero behind the last element."""
    x, kernel = X[..., :8, :], RNG.normal(size=(6, 4, 3, 3))
    a, b = by_torch(x, kernel, padding=1, stride=2), by_jax(x, kernel, [(1, 0), (1, 0)], 2)
    assert np.allclose(a, np.moveaxis(b, -1, 1))
    assert found(x, {"kernel": kernel}, a, b) is None


def test_a_stride_that_one_window_does_not_show_is_taken_for_the_others():
    x, kernel = RNG.normal(size=(3, 4, 5)), RNG.normal(size=(6, 4, 5))
    a, b = by_torch(x, kernel, stride=2), by_torch(x, kernel, stride=2, padding=2)
    assert (a.shape[-1], b.shape[-1]) == (1, 3)
    assert found(x, {"kernel": kernel}, a, b).differences == [("padding", "0", "2")]


def test_of_branches_with_one_kernel_that_one_is_told_which_the_first_side_lacks():
    one, two, three, four = (by_torch(X, KERNEL, dilation=d, padding=(d, 2 * d)) for d in (1, 2, 3, 4))
    other = found(X, WEIGHTS, two, one, three, four, beside=(one, three))
    assert other.differences == [("dilation", "2", "4"), ("padding", "2 and 4", "4 and 8")]


def test_what_of_two_geometries_one_contains_is_cut():
    a, b = by_torch(X, KERNEL, padding=(1, 2)), by_torch(X, KERNEL)
    assert found(X, WEIGHTS, a, b).cut
    assert found(X, WEIGHTS, b, a).cut
    assert found(X, WEIGHTS, by_torch(X, KERNEL, stride=2), b).cut
    assert not found(X, WEIGHTS, by_torch(X, KERNEL, padding=(1, 2), dilation=2), b).cut


def test_an_example_of_zeros_shows_no_geometry_and_another_does(monkeypatch):
    whole = []
    computed = convolution._Layer.all
    monkeypatch.setattr(convolution._Layer, "all", lambda self, each: whole.append(each) or computed(self, each))
    x = np.concatenate([np.zeros_like(X[:1]), X])
    other = found(x, {"kernel": KERNEL}, by_torch(x, KERNEL, padding=(1, 2)), by_torch(x, KERNEL))
    assert other.differences == [("padding", "1 and 2", "0")]
    assert len(whole) == 2


def test_a_kernel_whose_axes_are_read_in_another_order_costs_little():
    """(64, 64, 3, 3) of torch is a window of 64 by 64 elements, if it is read as flax has it."""
    x = RNG.normal(size=(2, 3, 96, 96))
    tracemalloc.start()
    assert found(x, {"kernel": RNG.normal(size=(64, 64, 3, 3))}, x / 2, x / 3) is None
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * x.nbytes


def test_a_kernel_larger_than_its_input_is_read_in_another_order():
    kernel = {"kernel": RNG.normal(size=(64, 64, 3, 3))}
    assert not list(convolution._layers(RNG.normal(size=(2, 3, 32, 32)), kernel))
    assert len(list(convolution._layers(RNG.normal(size=(2, 64, 2, 2)), kernel))) == 1  # but for a small one


def test_filters_that_are_no_multiple_of_the_groups_are_of_no_such_layer():
    assert found(X, WEIGHTS, np.ones((3, 7, 9, 4)), np.ones((3, 7, 10, 5))) is None


A = by_torch(X, KERNEL, BIAS, padding=1)


@pytest.mark.parametrize(
    "held",
    [
        [],
        [by_torch(X, KERNEL * (1 + 1e-9), BIAS)],  # not to rounding
        [by_torch(X, KERNEL[..., ::-1].copy(), BIAS)],
        [by_torch(X[::-1].copy(), KERNEL, BIAS)],
        [np.concatenate([by_torch(X[:2], KERNEL * 2, BIAS), by_torch(X[2:], KERNEL, BIAS)])],  # one example of three
        [by_torch(X, KERNEL, BIAS), A],  # it holds the first side's too
        [by_torch(X, KERNEL, BIAS)[:2]],
        [np.zeros(3)],
    ],
)
def test_what_no_other_geometry_makes_is_none(held):
    assert found(X, WEIGHTS, A, *held) is None


def test_an_activation_without_elements_is_none():
    assert found(X[:, :, :2], WEIGHTS, np.zeros((3, 6, 0, 4)), np.zeros((3, 6, 0, 4))) is None


@pytest.mark.parametrize("x", [np.zeros_like(X), X + 1, X[:, :3], X[0], np.arange(3)])
def test_where_the_first_side_does_not_convolve_these_none_is_named(x):
    assert found(x, WEIGHTS, A, by_torch(X, KERNEL, BIAS)) is None


@pytest.mark.parametrize(("x", "kernel"), [(np.zeros_like(X), KERNEL), (X, np.zeros_like(KERNEL))])
def test_zeros_are_of_any_geometry(x, kernel):
    a, b = by_torch(x, kernel, BIAS, padding=1), by_torch(x, kernel, BIAS)
    assert found(x, {"kernel": kernel, "bias": BIAS}, a, b) is None


DATA = (RNG.normal(size=(64, 12, 3)).astype(np.float32), RNG.integers(0, 3, 64))


class Convolved(nn.Module):
    """A convolution with another beneath it, so that its input is an activation too."""

    def __init__(self, length=None, **geometry):
        super().__init__()
        torch.manual_seed(0)
        self.length = length
        self.below, self.conv, self.fc = nn.Conv1d(3, 6, 1), nn.Conv1d(6, 4, 5, **geometry), nn.Linear(4, 3)

    def forward(self, x):
        y = self.conv(torch.relu(self.below(x.transpose(1, 2))))
        return self.fc(functional.silu(y[..., : self.length]).mean(2))


class Ported(flax.linen.Module):
    padding: object
    strides: int = 2
    kernel_dilation: int = 1
    activation: object = jax.nn.silu

    @flax.linen.compact
    def __call__(self, x):
        conv = flax.linen.Conv(4, (5,), (self.strides,), padding=self.padding, kernel_dilation=self.kernel_dilation)
        y = conv(jax.nn.relu(flax.linen.Conv(6, (1,))(x)))
        return flax.linen.Dense(3)(self.activation(y).mean(1))


@pytest.mark.parametrize(
    ("net", "port", "meant", "found"),
    [
        ({"padding": 2, "stride": 2}, {"padding": "SAME"}, "padding 2", 'padding (1, 2) ("SAME")'),
        ({"padding": 2, "stride": 2}, {"padding": 2, "strides": 3}, "stride 2", "stride 3"),
        ({"padding": 2}, {"padding": "CAUSAL", "strides": 1}, "padding 2", "padding (4, 0)"),
        ({"padding": 2}, {"padding": "VALID", "strides": 1}, "padding 2", "padding 0"),
        (
            {"padding": 4, "stride": 2, "dilation": 2},
            {"padding": 2},
            "dilation 2, padding 4",
            "dilation 1, padding 2",
        ),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_another_geometry_of_a_port_is_named(net, port, meant, found, swapped):
    sides = (torch_side(Convolved(**net), DATA), jax_side(Ported(**port), DATA))
    (cause,) = checked(*(sides[::-1] if swapped else sides)).explanation.causes
    assert (cause.key, cause.side) == ("other-convolution", "b")
    told = (meant, found) if swapped else (found, meant)
    assert f"has a convolution with {told[0]} where a has {told[1]} (" in cause.sentence


@pytest.mark.parametrize(
    ("net", "port"),
    [
        ({"padding": 2, "stride": 2}, {"padding": 2}),
        ({"padding": 4, "length": 12}, {"padding": "CAUSAL", "strides": 1}),
    ],
)
def test_with_torchs_padding_the_port_matches(net, port):
    assert checked(torch_side(Convolved(**net), DATA), jax_side(Ported(**port), DATA)).finding is None


def test_a_causal_convolution_that_is_cut_is_no_cause():
    """torch has none: it pads both ends and cuts. What is wrong is the function after that."""
    port = Ported(padding="CAUSAL", strides=1, activation=jax.nn.gelu)
    found = checked(torch_side(Convolved(padding=4, length=12), DATA), jax_side(port, DATA))
    assert found.finding is not None
    assert "other-convolution" not in [getattr(each, "key", None) for each in found.explanation.causes]


IMAGES = (RNG.normal(size=(64, 8, 8, 3)).astype(np.float32), DATA[1])


class PortedImages(flax.linen.Module):
    @flax.linen.compact
    def __call__(self, x):
        y = jax.nn.relu(flax.linen.Conv(3, (5, 5), (2, 2), padding="SAME")(x))
        return flax.linen.Dense(3)(y.mean((1, 2)))


class ConvolvedImages(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 3, 5, stride=2, padding=2), nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x.permute(0, 3, 1, 2))).mean((2, 3)))


def test_of_images_and_square_kernels_too():
    (cause,) = checked(torch_side(ConvolvedImages(), IMAGES), jax_side(PortedImages(), IMAGES)).explanation.causes
    assert 'has a convolution with padding (1, 2) ("SAME") where a has padding 2 (' in cause.sentence
