"""One side of a run, asked through one door: what it raises, and what it returns in another shape, is its own error."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import NUM_CLASSES, ParityError, Weights
from parity.data import Dataset
from parity.history import NonFiniteLossError, SideError
from parity.settings import Settings, Side

__all__ = ["Lane"]


@dataclass(kw_only=True)
class Lane:
    """A side, its data on the device, the losses of its chunks, and the seconds that it spent in training calls.

    The side's state is not kept here: the driver moves all sides' states together.
    """

    side: Side
    description: str = ""
    pieces: list[NDArray[np.floating]] = field(default_factory=list)
    seconds: float = 0.0
    _train: Any = None
    _test: Any = None

    def start(self, dataset: Dataset, settings: Settings, weights: Weights, device: str) -> Any:
        """The side's first state; its data are placed on the device."""
        state = self._call("start", weights, settings.sgd, dtype=settings.dtype, device=device)
        self.description = self._call("describe", state)
        self._train = self._call("place", state, dataset.train_images, dataset.train_labels)
        self._test = self._call("place", state, dataset.test_images, dataset.test_labels)
        return state

    def run(self, state: Any, plan: NDArray[np.int32]) -> tuple[Any, NDArray[np.floating]]:
        """What this side makes of a chunk: its next state and (steps,) losses."""
        begin = time.perf_counter()
        state, losses = self._call("run", state, self._train, plan)
        self.seconds += time.perf_counter() - begin
        if losses.shape != (len(plan),):
            raise self.error(f"run() returned losses of shape {losses.shape} for {len(plan)} steps")
        return state, losses

    def logits(self, state: Any, size: int, steps: int) -> NDArray[np.floating]:
        """The finite outputs for the test set of `size` images, after so many steps."""
        logits: NDArray[np.floating] = self._call("logits", state, self._test)
        if logits.shape != (size, NUM_CLASSES):
            raise self.error(f"logits() returned shape {logits.shape}, not {(size, NUM_CLASSES)}")
        if not np.isfinite(logits).all():
            raise NonFiniteLossError(
                f"{self.side.name}: the outputs after {steps} steps are not finite; try a smaller learning rate"
            )
        return logits

    def weights(self, state: Any) -> Weights:
        """The side's parameters."""
        tensors: Weights = self._call("weights", state)
        return tensors

    def momentum(self, state: Any) -> Weights:
        """The side's momentum buffers."""
        tensors: Weights = self._call("momentum", state)
        return tensors

    def losses(self, first: int, last: int) -> NDArray[np.floating]:
        """The losses of steps `first` to `last`, which is not included."""
        return np.concatenate(self.pieces)[first:last] if self.pieces else np.empty(0)

    def error(self, problem: str) -> SideError:
        """The problem under the side's name."""
        return SideError(f"{self.side.name}: {problem}")

    def _call(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        try:
            return getattr(self.side.implementation, method)(*arguments, **keywords)
        except ParityError:
            raise
        except Exception as error:  # a user's program may raise anything
            raise self.error(f"{method}() raised {type(error).__name__}: {error}") from error
