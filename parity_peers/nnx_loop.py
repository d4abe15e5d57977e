"""The training loop of flax.nnx's own documentation: a module, an optimizer, one call of a jitted step for each batch.

The batches come from NumPy. A loss stays on the device until the end of a call of `run`, as the documentation's metrics
do until the end of an epoch.

Source: https://flax.readthedocs.io/en/latest/mnist_tutorial.html
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from numpy.typing import NDArray

from parity.contract import SGD, InputError, Weights, check_weights, normalisation_table, storage
from parity_peers.channels_last import from_canonical, to_canonical
from parity_peers.sgd import require_only

__all__ = ["NnxLoop", "Resident", "State", "impl"]


NOT_DETERMINISTIC = "kernels need not be deterministic"
"""On a GPU jax_impl asks XLA for such, and XLA then refuses the gradient of nnx.max_pool: this peer cannot."""


class CNN(nnx.Module):
    """The tutorial's net, in NHWC."""

    def __init__(self, dtype: str, rngs: nnx.Rngs) -> None:
        kind = jnp.dtype(dtype)
        self.conv1 = nnx.Conv(3, 6, kernel_size=(5, 5), padding="VALID", param_dtype=kind, rngs=rngs)
        self.conv2 = nnx.Conv(6, 16, kernel_size=(5, 5), padding="VALID", param_dtype=kind, rngs=rngs)
        self.fc1 = nnx.Linear(400, 120, param_dtype=kind, rngs=rngs)
        self.fc2 = nnx.Linear(120, 84, param_dtype=kind, rngs=rngs)
        self.fc3 = nnx.Linear(84, 10, param_dtype=kind, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """(batch, 32, 32, 3) -> (batch, 10) logits."""
        x = nnx.max_pool(nnx.relu(self.conv1(x)), window_shape=(2, 2), strides=(2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), window_shape=(2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(self.fc1(x))
        x = nnx.relu(self.fc2(x))
        logits: Array = self.fc3(x)
        return logits


@nnx.jit
def train_step(model: CNN, optimizer: nnx.Optimizer[CNN], images: Array, labels: Array) -> Array:
    """Update both in place; returns the loss before the update."""

    def loss_fn(model: CNN) -> Array:
        losses: Array = optax.softmax_cross_entropy_with_integer_labels(logits=model(images), labels=labels)
        return losses.mean()

    loss: Array
    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """The model and the optimizer, split: arrays, which nothing changes, and what they are put together by."""

    graph: Any  # nnx.GraphDef of the two
    arrays: Any  # nnx.State of the two
    dtype: str
    device: jax.Device
    tf32: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Resident:
    """A data set in the host's memory: (N, 32, 32, 3) uint8 images, (N,) int32 labels, and the normalised pixels."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    table: NDArray[np.floating]


class NnxLoop:
    """See `parity_peers`."""

    def devices(self) -> tuple[str, ...]:
        """See `parity.contract.Implementation`; so for all methods."""
        return ("cuda", "cpu") if jax.default_backend() == "gpu" else ("cpu",)

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """A state with these weights and no momentum; of `sgd`, what optax.sgd takes."""
        check_weights(weights)
        require_only(sgd, ("lr", "momentum", "nesterov"))
        if device not in self.devices():
            raise InputError("device", device, "JAX has no such device here", f"use {' or '.join(self.devices())}")
        where, precision, dtype = jax.devices(device)[0], dtype, storage(dtype)
        if (device, precision) == ("cpu", "tf32"):
            raise InputError("dtype", precision, "the CPU has no TF32", "use float32, or a GPU")
        with jax.enable_x64(dtype == "float64"), jax.default_device(where):
            model = CNN(dtype, nnx.Rngs(0))
            nnx.update(model, from_canonical(weights, dtype))
            tx = optax.sgd(sgd.lr, momentum=sgd.momentum or None, nesterov=sgd.nesterov)
            graph, arrays = nnx.split((model, nnx.Optimizer(model, tx, wrt=nnx.Param)))
        return State(graph=graph, arrays=arrays, dtype=dtype, device=where, tf32=precision == "tf32")

    def describe(self, state: State) -> str:
        """Framework, loop and device."""
        gpu = state.device.platform != "cpu"
        name = f"{state.device.device_kind}, {NOT_DETERMINISTIC}" if gpu else "CPU"
        return f"jax {jax.__version__}, flax.nnx's own loop, a jitted call a step, {name}"

    def place(self, state: State, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> Resident:
        """Copy the data set; it stays in the host's memory."""
        return Resident(images=images.copy(), labels=labels.astype(np.int32), table=normalisation_table(state.dtype))

    def run(self, state: State, data: Resident, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows."""
        products = jax.default_matmul_precision("tensorfloat32") if state.tf32 else nullcontext()
        with jax.enable_x64(state.dtype == "float64"), jax.default_device(state.device), products:
            model, optimizer = nnx.merge(state.graph, state.arrays, copy=True)
            losses = [train_step(model, optimizer, data.table[data.images[rows]], data.labels[rows]) for rows in plan]
            after = replace(state, arrays=nnx.state((model, optimizer)))
            return after, np.array(jax.device_get(losses))

    def weights(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the parameters."""
        model, _ = nnx.merge(state.graph, state.arrays)
        return to_canonical(nnx.to_pure_dict(nnx.state(model, nnx.Param)))

    def peak_memory(self) -> int | None:
        """The most bytes of the device that JAX has held; None where it does not count them, as on the CPU."""
        statistics = jax.devices()[0].memory_stats()
        return statistics.get("peak_bytes_in_use") if statistics else None


impl = NnxLoop()
