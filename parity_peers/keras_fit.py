"""Keras 3: a Sequential model, compiled and trained by `fit`, on torch or on JAX.

Batches come from a PyDataset, in the plan's order. What `fit` reports as the loss is a running mean, so a metric keeps
the last batch's loss beside it: in JAX a part of the compiled step, in torch a few operations on (batch, 10) logits. A
callback reads it, off the training thread where Keras allows that, so that it costs what the callbacks of any `fit`
cost. Channels come last, Keras's default on both.

Keras chooses its backend when it is imported, so `start` imports it, and a process is bound to the backend that it
starts first. Of torch and JAX a process imports that one alone, the other need not be installed.

Source: https://keras.io/guides/training_with_built_in_methods/
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, InputError, Weights, check_weights, normalisation_table, storage
from parity_peers.channels_last import LAYERS, from_canonical, to_canonical
from parity_peers.sgd import require_only

__all__ = ["KerasFit", "Resident", "State", "on_jax", "on_torch"]

if importlib.util.find_spec("keras") is None:  # a missing extra shows when this is imported, not only in `start`
    raise ModuleNotFoundError("No module named 'keras'", name="keras")


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """A snapshot of the variables, in NumPy, and the model that they are put into."""

    model: Any  # keras.Model; Keras has no types
    parameters: list[NDArray[np.floating]]
    optimizer: list[NDArray[np.generic]]
    dtype: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Resident:
    """A data set in the host's memory: (N, 32, 32, 3) uint8 images, (N,) int32 labels, and the normalised pixels."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    table: NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class KerasFit:
    """See `parity_peers`.

    Args:
        backend: "torch" or "jax".
    """

    backend: str

    def devices(self) -> tuple[str, ...]:
        """See `parity.contract.Implementation`; so for all methods. Keras takes a GPU where its backend has one."""
        return ("cuda",) if _has_gpu(self.backend) else ("cpu",)

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """A state with these weights and no momentum; of `sgd`, what means the same to keras.optimizers.SGD.

        Raises:
            InputError: Keras runs on another backend in this process already; `sgd` says more; or float64 on torch.
        """
        check_weights(weights)
        require_only(sgd, ("lr", "momentum", "nesterov"))
        if (self.backend, dtype) == ("torch", "float64"):
            problem = "Keras rounds the loss to float32 on torch, and with it the gradients"
            raise InputError("dtype", dtype, problem, "use float32, or Keras on JAX")
        if device not in self.devices():
            raise InputError("device", device, "Keras does not choose it here", f"use {self.devices()[0]}")
        if (dtype, device) == ("tf32", "cpu"):
            raise InputError("dtype", dtype, "the CPU has no TF32", "use float32, or a GPU")
        dtype = storage(dtype)  # Keras has no switch: in both its backend uses TF32 where it does so by default
        _bind(self.backend)
        with _in_dtype(dtype, self.backend):
            model = _model(sgd)
            layers = from_canonical(weights, dtype)
            model.set_weights([layers[layer][leaf] for layer in LAYERS for leaf in ("kernel", "bias")])
            return _snapshot(State(model=model, parameters=[], optimizer=[], dtype=dtype))

    def describe(self, state: State) -> str:  # noqa: ARG002  all its states compute alike
        """Framework, backend and device."""
        import keras

        where = "GPU, kernels need not be deterministic" if _has_gpu(self.backend) else "CPU"
        return f"keras {keras.__version__} on {self.backend}, model.fit, {where}"

    def place(self, state: State, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> Resident:
        """Copy the data set; it stays in the host's memory."""
        return Resident(images=images.copy(), labels=labels.astype(np.int32), table=normalisation_table(state.dtype))

    def run(self, state: State, data: Resident, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows."""
        import keras

        class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
            def __len__(self) -> int:
                return len(plan)

            def __getitem__(self, number: int) -> tuple[NDArray[np.floating], NDArray[np.int32]]:
                rows = plan[number]
                return data.table[data.images[rows]], data.labels[rows]

        class Losses(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
            # Whether another thread may call it, and so out of order. There JAX has no 64-bit types.
            async_safe = state.dtype == "float32"

            def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
                losses[batch] = logs["batch_loss"]

        losses = np.empty(len(plan), state.dtype)
        with _in_dtype(state.dtype, self.backend), warnings.catch_warnings():
            # Keras 3.15 reads torch's tensors in a way that NumPy 2 calls deprecated.
            warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
            _load(state)
            state.model.fit(Batches(), shuffle=False, verbose=0, callbacks=[Losses()])
            return _snapshot(state), losses

    def weights(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the parameters."""
        leaves = iter(state.parameters)
        return to_canonical({layer: {"kernel": next(leaves), "bias": next(leaves)} for layer in LAYERS})

    def peak_memory(self) -> int | None:
        """The most bytes of the GPU that the backend has held; None on the CPU."""
        if not _has_gpu(self.backend):
            return None
        if self.backend == "torch":
            import torch

            return torch.cuda.max_memory_allocated()
        import jax

        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def _bind(backend: str) -> None:
    """Import Keras on this backend.

    Raises:
        InputError: it is imported already, on another.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = backend
    import keras

    if (bound := keras.backend.backend()) != backend:
        problem = f"Keras runs on {bound} in this process already"
        raise InputError("backend", backend, problem, "start each backend in a process of its own")


def _has_gpu(backend: str) -> bool:
    if backend == "torch":
        import torch

        return torch.cuda.is_available()
    import jax

    return jax.default_backend() == "gpu"


@contextmanager
def _in_dtype(dtype: str, backend: str) -> Iterator[None]:
    """Within it, Keras makes and trains models of this dtype."""
    import keras

    # Keras takes the policy from floatx when it first needs one, and keeps it.
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        if backend == "jax":
            import jax

            with jax.enable_x64(dtype == "float64"):
                yield
        else:
            yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def _model(sgd: SGD) -> Any:
    """The tutorial's net, compiled."""
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((32, 32, 3)),
            layers.Conv2D(6, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(10),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.SGD(sgd.lr, momentum=sgd.momentum, nesterov=sgd.nesterov),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[_batch_loss()],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _batch_loss() -> Any:
    """A metric: the mean cross-entropy of the last batch alone."""
    import keras

    class BatchLoss(keras.metrics.Metric):  # type: ignore[misc]  # Keras has no types
        def __init__(self) -> None:
            super().__init__(name="batch_loss")
            self.value = self.add_variable((), "zeros", name="value")

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # noqa: ARG002
            losses = keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
            self.value.assign(keras.ops.sum(losses) / y_pred.shape[0])  # keras.ops.mean rounds to float32

        def result(self) -> Any:
            # torch's variables change in place, and another thread reads what is returned here.
            return keras.ops.copy(self.value)

    return BatchLoss()


def _snapshot(state: State) -> State:
    """The state of the model as it is now."""
    return replace(
        state,
        parameters=[_to_numpy(variable) for variable in state.model.weights],
        optimizer=[_to_numpy(variable) for variable in state.model.optimizer.variables],
    )


def _load(state: State) -> None:
    """Put the state into the model."""
    state.model.set_weights(state.parameters)
    for variable, value in zip(state.model.optimizer.variables, state.optimizer, strict=True):
        variable.assign(value)


def _to_numpy(variable: Any) -> NDArray[Any]:
    """A copy of a variable; of torch's tensors Keras's own conversion gives a warning, see `run`."""
    value = variable.value
    return np.array(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


on_torch = KerasFit(backend="torch")
on_jax = KerasFit(backend="jax")
