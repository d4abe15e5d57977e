import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import jax_impl
from jax_impl.apart import apart
from jax_impl.device import exact
from jax_impl.products import convolve_and_pool
from parity.compare import largest_gap, loss_differences, relative_difference
from parity.contract import CNN_ACTIVATIONS, SGD, initial_weights

CPU = jax.devices("cpu")[0]

# Two orders of adding n float64 products are apart by at most some n * 1.1e-16 of the products' size. On the way
# through all layers and back to a gradient of the CNN, of at most 5 images, n adds up to 5 * 28 * 28 for the longest
# sum, a kernel's gradient, and 2 * (75 + 150 + 400 + 120 + 84) for the others: 6.2e-13. Errors of either sign mostly
# cancel, so that there is room for sums that are smaller than their terms.
ROUNDING = 1e-12


def reference(features, kernel, bias):
    """The same by XLA's own operations, on (channels, height, width, images)."""
    convolved = lax.conv_general_dilated(
        features, kernel, (1, 1), "VALID", dimension_numbers=("CHWN", "OIHW", "NHWC"), precision="highest"
    )
    pooled = nnx.max_pool(nnx.relu(convolved + bias), (2, 2), strides=(2, 2))
    return pooled.transpose(3, 1, 2, 0).reshape(len(bias), -1)


def ours(features, kernel, bias):
    """On W by its definition."""
    height, width = features.shape[1] - 5, features.shape[2] - 5
    taps = [features[:, i : i + height : 2, j : j + width : 2] for j in range(6) for i in range(6)]
    return convolve_and_pool(jnp.concatenate(taps).reshape(36 * len(features), -1), kernel, bias)


@pytest.mark.parametrize("kind", ["normal", "few values"])
def test_a_convolution_and_its_pooling(kind):
    """Value and all gradients, dimensions all different.

    With few values most windows tie and many are 0; all sums are then exact, so that every choice has to be the same.
    """
    rng = np.random.default_rng(0)
    shapes = (3, 10, 12, 2), (5, 3, 5, 5), (5,)
    draw = rng.normal if kind == "normal" else lambda size: rng.integers(-1, 2, size) * (rng.random(size) < 0.3)
    with exact("float64", CPU):
        arguments = [jnp.array(draw(size=shape), dtype="float64") for shape in shapes]
        (expected, pull), (found, our_pull) = jax.vjp(reference, *arguments), jax.vjp(ours, *arguments)
        slope = jnp.array(rng.integers(-4, 5, expected.shape), dtype="float64")
        gradients, our_gradients = pull(slope), our_pull(slope)
    # Sums of at most 75 terms, of which the largest products are some 10: an error of at most 75 * 750 * 1.1e-16. The
    # gradients' are no longer.
    bound = 0 if kind == "few values" else 1e-11
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
    for ours_, theirs in zip(our_gradients, gradients, strict=True):
        assert np.count_nonzero(theirs)
        np.testing.assert_allclose(ours_, theirs, rtol=0, atol=bound)


@pytest.mark.parametrize("batch", [1, 4, 5])
@pytest.mark.parametrize("pixels", [(0,), (255,), (255, 0)])
def test_gradients_of_flat_images_are_the_plain_ones(pixels, batch):
    """In every pooling window all four are equal but for rounding, so that any may be chosen: it makes no difference.

    The first momentum is the gradient.
    """
    images = np.stack([np.full((32, 32, 3), pixel, np.uint8) for pixel in pixels])
    plan = np.arange(batch, dtype=np.int32)[np.newaxis] % len(images)
    found = []
    for side in (jax_impl.plain, jax_impl.fast):
        state = side.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
        state, losses = side.run(state, side.place(state, images, np.array([3, 8][: len(images)])), plan)
        found.append((losses, side.momentum(state)))
    (plain_losses, plain), (fast_losses, fast) = found
    assert all(gradient.any() for gradient in plain.values())
    assert loss_differences(fast_losses, plain_losses).max() < ROUNDING
    assert largest_gap(fast, plain).difference < ROUNDING


def test_both_formulations_record_the_same(small):
    """Every activation is where its name and its place say; in float64, to rounding."""
    traces = []
    for side in (jax_impl.plain, jax_impl.fast):
        state = side.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
        data = side.place(state, small.train_images, small.train_labels)
        traces.append(side.observe(state, data, np.array([4, 0, 9], np.int32))[1])
    plain, fast = traces
    assert fast.batch["images"].tobytes() == plain.batch["images"].tobytes()
    for name, shape in CNN_ACTIVATIONS.items():
        assert fast.activations[name].shape == (3, *shape)
        assert relative_difference(fast.activations[name], plain.activations[name]) < ROUNDING, name
    assert largest_gap(fast.gradients, plain.gradients).difference < ROUNDING


def test_what_is_apart_stays_a_call_and_can_be_vectorised():
    """What is called within it, as jnp.pad is, does not stay one."""
    double = apart(lambda x: jnp.pad(2 * x, 1))
    text = jax.jit(lambda x: double(x) + 1).lower(jnp.ones(3)).compile().as_text()
    assert text.count(" call(") == 1
    np.testing.assert_array_equal(jax.vmap(double)(jnp.ones((2, 1))), [[0, 2, 0]] * 2)
