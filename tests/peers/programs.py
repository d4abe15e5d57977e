"""What a peer is put to: settings of SGD, and 20 steps in two pieces. As a script: train one peer, in its own process.

    python -m tests.peers.programs parity_peers.eager:impl cpu out.npz float32 float64

Keras is bound to one backend for each process, and a DataLoader forks, which a process that JAX has been started in
should not.
"""

from __future__ import annotations

import importlib
import sys

import numpy as np

from parity.contract import SGD, initial_weights

OPTAX_SGDS = [SGD(lr=0.01), SGD(lr=0.01, nesterov=True), SGD(lr=0.02, momentum=0.0)]
TORCH_SGDS = [
    *OPTAX_SGDS,
    SGD(lr=0.002, dampening=0.3, weight_decay=0.05),
    SGD(lr=0.01, momentum=0.0, dampening=0.5, weight_decay=0.05),
    SGD(lr=0.002, nesterov=True, maximize=True, weight_decay=0.05),
]
SGDS = {
    "parity_peers.eager:impl": TORCH_SGDS,
    "parity_peers.tutorial:impl": TORCH_SGDS,
    "parity_peers.tutorial:without_workers": TORCH_SGDS,
    "parity_peers.lightning_loop:impl": TORCH_SGDS,
    "parity_peers.nnx_loop:impl": OPTAX_SGDS,
    "parity_peers.keras_fit:on_jax": OPTAX_SGDS,
    "parity_peers.keras_fit:on_torch": OPTAX_SGDS,
    "parity_peers.reference:impl": TORCH_SGDS,
}

SIZE = 96


def dataset():
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (SIZE, 32, 32, 3), np.uint8), rng.integers(0, 10, SIZE)


def plan():
    """20 steps of 4 images, each image once or twice."""
    return np.random.default_rng(8).permutation(np.arange(2 * SIZE) % SIZE)[:80].reshape(20, 4).astype(np.int32)


def train(side, sgd, dtype, device="cpu"):
    """All losses and the final weights. The first piece is trained twice: the state that it began with must be left."""
    state = side.start(initial_weights(0), sgd, dtype=dtype, device=device)
    data = side.place(state, *dataset())
    once, first = side.run(state, data, plan()[:7])
    kept = {name: value.copy() for name, value in side.weights(once).items()}
    after, second = side.run(once, data, plan()[7:])
    again, repeated = side.run(state, data, plan()[:7])
    np.testing.assert_array_equal(first, repeated)
    for name, value in kept.items():
        np.testing.assert_array_equal(side.weights(once)[name], value)
        np.testing.assert_array_equal(side.weights(again)[name], value)
    return np.concatenate([first, second]), side.weights(after)


def resolve(name):
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def main(name, device, path, *dtypes):
    """Losses and weights for every dtype and setting of SGD, in one file: "float32.0.losses", "float32.0.fc1.bias"."""
    arrays = {}
    for dtype in dtypes:
        for number, sgd in enumerate(SGDS[name]):
            losses, weights = train(resolve(name), sgd, dtype, device)
            for key, value in {"losses": losses, **weights}.items():
                arrays[f"{dtype}.{number}.{key}"] = value
    np.savez(path, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
