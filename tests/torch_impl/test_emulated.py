"""Emulated formats: rounded as they should be, in every product, and in float64 not at all."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import torch_impl
from parity.contract import SGD, Implementation, initial_weights
from torch_impl import emulated
from torch_impl.emulated import round_significand

FORMATS = {"tf32": emulated.tf32, "bfloat16": emulated.bfloat16, "float16": emulated.float16}


def reference(x, bits):
    """Rounded to so many significant bits with NumPy, whose `round` takes ties to even; normal numbers only."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)


def spread_floats(count, seed=0):
    """Normal float32 numbers of all signs and sizes."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(1, 2, count) * 2.0 ** rng.integers(-100, 100, count) * rng.choice([-1, 1], count)).astype("f4")


@pytest.mark.parametrize("bits", [2, 8, 11, 16, 23])
def test_rounding_is_numpys(bits):
    x = spread_floats(10_000)
    np.testing.assert_array_equal(round_significand(torch.tensor(x), bits).numpy(), reference(x, bits))


@given(st.integers(0, 2**10 - 1), st.integers(-120, 110), st.sampled_from([-1, 1]))
def test_ties_go_to_the_even_neighbour(kept, exponent, sign):
    """Half-way between two numbers of 11 bits, for every one of them."""
    tie = np.float32(sign * (2**10 + kept + 0.5) * 2.0**exponent)
    rounded = round_significand(torch.tensor(tie), 11).item()
    assert rounded == sign * (2**10 + kept + kept % 2) * 2.0**exponent
    for beside, neighbour in ((-np.inf, kept), (np.inf, kept + 1)):
        moved = np.nextafter(tie, np.float32(sign * beside))
        assert round_significand(torch.tensor(moved), 11).item() == sign * (2**10 + neighbour) * 2.0**exponent


def test_eight_bits_are_bfloat16_for_every_number_that_there_is():
    """Bit patterns from all of float32, so also numbers that are subnormal, overflow, or are not finite."""
    patterns = np.random.default_rng(1).integers(0, 2**32, 200_000, np.uint64).astype(np.uint32)
    special = np.array([0, 1 << 31, 1, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001], np.uint32)
    x = torch.tensor(np.concatenate([patterns, special]).view(np.float32))
    torch.testing.assert_close(
        round_significand(x, 8), x.to(torch.bfloat16).float(), rtol=0, atol=0, equal_nan=True, check_dtype=True
    )


def started(side, dtype, small):
    state = side.start(initial_weights(3), SGD(weight_decay=0.01), dtype=dtype, device="cpu")
    return state, side.place(state, small.train_images, small.train_labels)


@pytest.mark.parametrize("name", FORMATS)
def test_in_float64_it_is_the_plain_program(name, small):
    seen = []
    for side in (FORMATS[name], torch_impl.eager):
        state, data = started(side, "float64", small)
        after, trace = side.observe(state, data, np.arange(4, dtype=np.int32))
        after, losses = side.run(after, data, np.arange(12, dtype=np.int32).reshape(3, 4))
        seen.append([*trace.gradients.values(), *side.weights(after).values(), losses, side.logits(after, data)])
    for mine, plain in zip(*seen, strict=True):
        np.testing.assert_array_equal(mine, plain)


BITS = {"tf32": 11, "bfloat16": 8, "float16": 11}


@pytest.mark.parametrize("name", FORMATS)
def test_every_product_of_a_step_has_the_formats_error(name, small):
    """A share of 2^-bits of its size. No upper bound for gradients: some choose otherwise at a ReLU or in a pool."""
    traces = []
    for side in (FORMATS[name], torch_impl.eager):
        state, data = started(side, "float32", small)
        traces.append(side.observe(state, data, np.arange(16, dtype=np.int32))[1])
    low, plain = traces
    forward = {"logits": (low.logits["logits"], plain.logits["logits"])}
    forward |= {key: (low.activations[key], plain.activations[key]) for key in ("conv1", "conv2", "fc1", "fc2")}
    gradients = {key: (low.gradients[key], plain.gradients[key]) for key in plain.gradients if "weight" in key}
    assert len(gradients) == 5
    for key, (mine, reference) in {**forward, **gradients}.items():
        error = np.linalg.norm(mine - reference) / np.linalg.norm(reference)
        assert error > 2.0 ** -(BITS[name] + 5), key
        assert key in gradients or error < 2.0 ** -(BITS[name] - 1), key


def test_run_and_observe_and_logits_are_the_same_program(small):
    side = emulated.tf32
    state, data = started(side, "float32", small)
    rows = np.arange(4, dtype=np.int32)
    observed, trace = side.observe(state, data, rows)
    ran, losses = side.run(state, data, rows[np.newaxis])
    assert losses[0] == trace.loss["loss"]
    for name, value in side.weights(ran).items():
        np.testing.assert_array_equal(value, side.weights(observed)[name])
    np.testing.assert_allclose(side.logits(state, data)[:4], trace.logits["logits"], rtol=1e-5)
    assert np.abs(torch_impl.eager.logits(state, data) - side.logits(state, data)).max() > 1e-5


def conv2d(x, w):
    return F.conv2d(x, w, torch.zeros(len(w), dtype=x.dtype))


def linear(x, w):
    return F.linear(x, w, torch.zeros(len(w), dtype=x.dtype))


@pytest.mark.parametrize(
    ("layer", "shapes"), [(linear, ((5, 7), (3, 7), (5, 3))), (conv2d, ((2, 3, 8, 8), (4, 3, 5, 5), (2, 4, 4, 4)))]
)
@pytest.mark.parametrize("name", FORMATS)
def test_a_layer_multiplies_rounded_operands_forward_and_backward(name, layer, shapes):
    """Against torch's own layer in float64 on operands that were rounded before: what differs is float32's rounding, or
    one unit of the format where that makes its result round the other way."""
    rng = np.random.default_rng(2)
    to = FORMATS[name].to
    x, w, dy = (torch.tensor(rng.normal(size=shape).astype("f4")) for shape in shapes)
    with emulated._Products(to):
        found = through(layer, x, w, dy)
    expected = through(layer, *(to.operand(value).double() for value in (x, w, dy)))
    limit = 1e-6 if name == "tf32" else 2.0 ** -(BITS[name] + 2)
    for mine, exact in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        error = (mine.double() - to.result(exact.float()).double()).norm() / exact.norm()
        assert error < limit
        assert name == "tf32" or torch.equal(mine, to.result(mine))


def through(layer, x, w, dy):
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = layer(x, w)
    y.backward(dy)
    return y.detach(), x.grad, w.grad


def test_it_says_what_it_is():
    assert isinstance(emulated.tf32, Implementation)
    state = emulated.tf32.start(initial_weights(0), SGD(), dtype="float32", device="cpu")
    assert emulated.tf32.describe(state).endswith("eager, CPU, float32 products as in TF32")
