"""One side of a run, asked through one door: what it raises, and what it returns in another shape, is its own error."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import NUM_CLASSES, Weights
from parity.data import Dataset
from parity.settings import Settings, Side

__all__ = ["Lane"]


@dataclass(kw_only=True)
class Lane:
    """A side with its data on the device, the losses of its chunks, and the shapes of its tensors.

    `seconds` is the time spent in training calls. The side's state is not kept here: the driver moves all sides' states
    together.
    """

    side: Side
    description: str = ""
    pieces: list[NDArray[np.floating]] = field(default_factory=list)
    seconds: float = 0.0
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _train: Any = None
    _test: Any = None

    def start(self, dataset: Dataset, settings: Settings, weights: Weights, device: str) -> Any:
        """The side's first state; its data are placed on the device."""
        call = self.side.call
        state = call("start", weights, settings.sgd, dtype=settings.dtype, device=device)
        self.description = str(call("describe", state))
        self._train = call("place", state, dataset.train_images, dataset.train_labels)
        self._test = call("place", state, dataset.test_images, dataset.test_labels)
        self.shapes = {name: value.shape for name, value in self._tensors("weights", state).items()}
        self.momentum(state)
        return state

    def run(self, state: Any, plan: NDArray[np.int32]) -> tuple[Any, NDArray[np.floating]]:
        """What this side makes of a chunk: its next state and (steps,) losses."""
        begin = time.perf_counter()
        answer = self.side.call("run", state, self._train, plan)
        self.seconds += time.perf_counter() - begin
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise self.side.error("run() did not return a state and losses")
        return answer[0], self._array("run", answer[1], (len(plan),))

    def logits(self, state: Any, size: int) -> NDArray[np.floating]:
        """(size, classes): the outputs for the test set."""
        return self._array("logits", self.side.call("logits", state, self._test), (size, NUM_CLASSES))

    def weights(self, state: Any) -> Weights:
        """The side's parameters: the same tensors at every step."""
        return self._require_same("weights", self._tensors("weights", state))

    def momentum(self, state: Any) -> Weights:
        """The side's momentum buffers: one for each parameter, or none at all."""
        return self._require_same("momentum", tensors) if (tensors := self._tensors("momentum", state)) else {}

    def losses(self, first: int, last: int) -> NDArray[np.floating]:
        """The losses of steps `first` to `last`, which is not included."""
        if len(self.pieces) > 1:  # joined once, not again at every window of a long run
            self.pieces = [np.concatenate(self.pieces)]
        return self.pieces[0][first:last] if self.pieces else np.empty(0)

    def _array(self, method: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.floating]:
        if not (isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)):
            raise self.side.error(f"{method}() returned {type(value).__name__}, not a NumPy array of floats")
        if value.shape != shape:
            raise self.side.error(f"{method}() returned shape {value.shape}, not {shape}")
        return value

    def _tensors(self, method: str, state: Any) -> Weights:
        tensors = self.side.call(method, state)
        if not isinstance(tensors, Mapping):
            raise self.side.error(f"{method}() returned {type(tensors).__name__}, not tensors by name")
        return {name: self._array(method, value, np.shape(value)) for name, value in tensors.items()}

    def _require_same(self, method: str, tensors: Weights) -> Weights:
        if {name: value.shape for name, value in tensors.items()} != self.shapes:
            raise self.side.error(f"{method}() returned other tensors than weights() at the start")
        return tensors
