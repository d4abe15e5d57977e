"""Where a gradient is a matter of choice (pools that tie, ReLUs at exactly 0), the oracle chooses as torch and JAX do.

Natural images hardly ever get there. These probes do, and exactly: pixels are -1 or 1 and weights small multiples of
2**-4, so that no sum before the softmax is rounded, in whatever order a framework adds it up.
"""

from __future__ import annotations

import numpy as np
import pytest

import jax_impl
import torch_impl
from parity.compare import largest_gap
from parity.contract import CNN_PARAMETERS, SGD
from parity.oracle import Operations, Oracle, impl

ROWS = np.arange(4, dtype=np.int32)
LABELS = np.array([1, 7, 3, 0])
# Rounding begins at the softmax and goes on through the backward sums, of up to 3,136 terms: each an error of 1.1e-16,
# and such errors grow with the square root of their number, to 56 * 1.1e-16 = 6e-15.
BOUND = 1e-14


def probe_weights(rng):
    """Biases are 0, most weights too, and one unit in each layer has none: its pre-activation is exactly 0."""
    weights = {}
    for name, shape in CNN_PARAMETERS.items():
        few = name.endswith("weight") * (rng.random(shape) < 0.2)
        weights[name] = few * rng.integers(-2, 3, shape) * 2.0**-4
        weights[name][1] = 0
    return weights


def probe(kind):
    rng = np.random.default_rng(8)
    weights = probe_weights(rng)
    if kind == "no weights":
        weights = {name: np.zeros(shape) for name, shape in CNN_PARAMETERS.items()}
    if kind == "white":
        return weights, np.full((4, 32, 32, 3), 255, np.uint8)
    return weights, rng.choice(np.array([0, 255], np.uint8), (4, 32, 32, 3))


def gradients(side, kind):
    """The momentum buffers after the first step are the gradients."""
    weights, images = probe(kind)
    state = side.start(weights, SGD(), dtype="float64", device="cpu")
    state, _ = side.run(state, side.place(state, images, LABELS), ROWS[np.newaxis])
    return side.momentum(state)


KINDS = ["black and white", "white", "no weights"]
SIDES = {
    "torch": torch_impl.eager,
    "torch, fast": torch_impl.fast,
    "jax": jax_impl.plain,
    "jax, fast": jax_impl.fast,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", SIDES)
def test_ties_are_decided_as_the_frameworks_do(side, kind):
    gap = largest_gap(gradients(impl, kind), gradients(SIDES[side], kind))
    assert gap is not None
    assert gap.difference < BOUND, gap


def last_wins(upstream, images):
    reversed_images = np.ascontiguousarray(images[:, :, ::-1, ::-1])
    reversed_upstream = np.ascontiguousarray(upstream[:, :, ::-1, ::-1])
    return np.ascontiguousarray(Operations().max_pool_backward(reversed_upstream, reversed_images)[:, :, ::-1, ::-1])


def shared(upstream, images):
    """What differentiating a reshape and a maximum gives: equal elements share."""
    maxima = np.repeat(np.repeat(Operations().max_pool(images), 2, axis=2), 2, axis=3)
    winners = images == maxima
    counts = winners.reshape(*upstream.shape[:3], 2, upstream.shape[3], 2).sum(axis=(3, 5))
    return winners * np.repeat(np.repeat(upstream / counts, 2, axis=2), 2, axis=3)


def half_at_zero(upstream, x):
    """What differentiating jnp.maximum(x, 0) gives."""
    return upstream * ((x > 0) + 0.5 * (x == 0))


@pytest.mark.parametrize(
    "other",
    [
        {"max_pool_backward": last_wins},
        {"max_pool_backward": shared},
        {"relu_backward": half_at_zero},
        {"relu_backward": lambda upstream, x: np.where(x >= 0, upstream, 0.0)},
    ],
    ids=["last wins", "shared", "half at zero", "open at zero"],
)
def test_another_choice_shows(other):
    gap = largest_gap(gradients(Oracle(operations=Operations(**other)), KINDS[0]), gradients(impl, KINDS[0]))
    assert gap is not None
    assert gap.difference > 1e-4


@pytest.mark.parametrize("kind", KINDS[:2])
def test_the_probes_tie(kind):
    weights, images = probe(kind)
    state = impl.start(weights, SGD(), dtype="float64", device="cpu")
    _, trace = impl.observe(state, impl.place(state, images, LABELS), ROWS)
    for name in ("conv1", "conv2", "fc1", "fc2"):
        assert (trace.activations[name] == 0).any()
    for name in ("conv1", "conv2"):
        x = trace.activations[name]
        windows = np.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)])
        winners = (windows == windows.max(axis=0)) & (windows > 0)
        assert np.mean(winners.sum(axis=0) > 1) > 0.01
