import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl.device import exact
from jax_impl.windows import image_windows, pack, unfold, unpacked
from parity.contract import normalisation_table

CPU = jax.devices("cpu")[0]


def positions(values):
    """(..., p, q, image) -> (..., position), for 14 p and q, in the first convolution's order."""
    halves = values.reshape(*values.shape[:-3], 7, 2, 7, 2, -1)
    *before, outer_p, inner_p, outer_q, inner_q, image = range(halves.ndim)
    return halves.transpose(*before, inner_q, inner_p, outer_p, outer_q, image).reshape(*values.shape[:-3], -1)


def windows_of(features):
    """W by its definition, from (channels, height, width, images) -> (taps, p, q, images)."""
    out = (features.shape[1] - 4) // 2
    taps = [features[:, i : i + 2 * out : 2, j : j + 2 * out : 2] for j in range(6) for i in range(6)]
    return np.concatenate(taps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 3])
def test_image_windows_are_what_their_definition_says(dtype, batch):
    """Copies alone, so to the last bit."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    rows = rng.integers(0, 5, batch).astype(np.int32)
    normalised = normalisation_table(dtype)[images[rows]].transpose(3, 1, 2, 0)
    with exact(dtype, CPU):
        found = np.asarray(
            image_windows(jnp.array(pack(images)), jnp.array(rows), jnp.array(normalisation_table(dtype)))
        )
    np.testing.assert_array_equal(found, positions(windows_of(normalised)))


def test_packed_images_come_back_unpacked():
    """Every byte is another of 3,072 in its place; the table leaves it as it is."""
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = unpacked(jnp.array(pack(images)), jnp.arange(256.0))
    np.testing.assert_array_equal(found, images.transpose(0, 3, 1, 2))


def test_unfolded_features_are_what_their_definition_says():
    features = np.random.default_rng(0).normal(size=(2, 14, 14, 3))
    with exact("float64", CPU):
        found = np.asarray(unfold(jnp.array(positions(features)).reshape(2, 2, 2, 7, 7, 3)))
    np.testing.assert_array_equal(found, windows_of(features).reshape(72, -1))


def test_the_gradient_of_unfolding_adds_up_what_was_read():
    """It is the transpose. Sums of up to 9 numbers are rounded 8 times."""
    features = jnp.arange(2.0 * 196 * 3).reshape(2, 2, 2, 7, 7, 3)
    place = np.asarray(unfold(features)).astype(int)  # where each element of W was read
    gradient = np.random.default_rng(0).normal(size=place.shape)
    expected = np.bincount(place.ravel(), gradient.ravel())
    with exact("float64", CPU):
        zeros = jnp.zeros(features.shape, "float64")
        (found,) = jax.vjp(unfold, zeros)[1](jnp.array(gradient))
    np.testing.assert_allclose(found.ravel(), expected, rtol=0, atol=8 * 9 * 4 * 2**-53)
