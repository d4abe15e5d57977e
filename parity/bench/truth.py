"""What every contestant must compute: a short run in NumPy and float64, on batches where rounding decides nothing.

The steps are those of `parity.oracle`. A ReLU or a pooling window that is within rounding of its switch may fall either
way in float32, and then honest programs part at once (`parity.compare.flips`): at batch 4,096 that happens in every
step. So an image takes part in a step only if all of its choices are clear there. What is left between two programs is
smooth, and small for a reason that `parity.bench.judge` states. Exact ties stay: of two elements that are equal because
they see equal pixels, either gives the same gradient.

A large batch holds each of a few images several times, as often as the draw has it: the gradient is then the sum of few
images' gradients with those weights, which the oracle computes quickly, and the contestant computes it in full.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count as count_from

import numpy as np
from numpy.typing import NDArray

from parity.compare.flips import POOLED, RECTIFIED
from parity.contract import SGD, InputError, Stream, Weights
from parity.oracle.layers import Array
from parity.oracle.model import Arrays, Operations, backward, forward

__all__ = ["DISTINCT", "STEPS", "Probe", "Truth", "probe", "true_run", "update"]

STEPS = 20
DISTINCT = 32
"""The most different images in a step."""

MARGIN = 2e-5
"""How far from its switch a choice must be to be clear, in the root mean square of its layer.

Sums of n terms err by about eps sqrt(n) / 2 of it in float32: 1.2e-6 for the longest, fc1's 400; the largest of a
layer's 10^5 errors is some five times as large, and errors of the layers before add up.
"""

TIE = 1e-12
"""Below it a difference is none: equal pixels, summed in another order in float64."""

TRIES = 50

PROBES = 10**6
"""The first order of images that is a probe's; those before are the run's."""

_PURPOSE = 14  # keeps the images that are drawn here apart from other streams


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """A run: the weights before it, the rows (steps, batch) int32, the true losses (steps,), the weights after each."""

    start: Weights
    plan: NDArray[np.int32]
    losses: Array
    path: tuple[Arrays, ...]

    @property
    def weights(self) -> Arrays:
        """Those after the last step."""
        return self.path[-1]

    def first(self, steps: int) -> Truth:
        """Its first steps, at least one."""
        return replace(self, plan=self.plan[:steps], losses=self.losses[:steps], path=self.path[:steps])


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """One batch at given weights, without a choice that hangs on rounding.

    Args:
        weights: those that it was computed with.
        rows: (batch,) int32.
        loss: the true one.
        gradients: likewise.
        logits: (n, classes) of its different images; a small loss is a small difference of them.
    """

    weights: Arrays
    rows: NDArray[np.int32]
    loss: float
    gradients: Arrays
    logits: Array


def true_run(
    weights: Weights,
    sgd: SGD,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    *,
    batch_size: int,
    seed: int,
    steps: int = STEPS,
) -> Truth:
    """Train in float64.

    Args:
        weights: canonical tensors to begin with.
        sgd: hyper-parameters.
        images: (N, 32, 32, 3) uint8.
        labels: (N,) class numbers.
        batch_size: images in a step.
        seed: of the images that are drawn.
        steps: how many.

    Raises:
        InputError: hardly any image has clear choices.
    """
    parameters: Arrays = {name: value.astype(np.float64) for name, value in weights.items()}
    buffers: Mapping[str, Array | None] = dict.fromkeys(parameters)
    plan, losses, path = np.empty((steps, batch_size), np.int32), np.empty(steps), []
    candidates = _candidates(len(images), seed)
    for step in range(steps):
        drawn = _clear_images(candidates, images, parameters, count=min(batch_size, DISTINCT))
        picks = _picks(batch_size, len(drawn.rows), Stream(seed, _PURPOSE, 1, step))
        plan[step] = drawn.rows[picks]
        losses[step], gradients = _differentiate(parameters, drawn, labels[drawn.rows], picks)
        parameters, buffers = _update(parameters, buffers, gradients, sgd, step)
        path.append(parameters)
    return Truth(start=weights, plan=plan, losses=losses, path=tuple(path))


def probe(
    weights: Weights,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    *,
    batch_size: int,
    seed: int,
    number: int,
) -> Probe:
    """Differentiate in float64, at weights that a program has come to.

    Args:
        weights: canonical tensors.
        images: (N, 32, 32, 3) uint8.
        labels: (N,) class numbers.
        batch_size: images in the batch.
        seed: of the images that are drawn.
        number: of the probe; another one has other images.

    Raises:
        InputError: hardly any image has clear choices.
    """
    parameters: Arrays = {name: value.astype(np.float64) for name, value in weights.items()}
    candidates = _candidates(len(images), seed, first=PROBES + number)
    drawn = _clear_images(candidates, images, parameters, count=min(batch_size, DISTINCT))
    picks = _picks(batch_size, len(drawn.rows), Stream(seed, _PURPOSE, 2, number))
    loss, gradients = _differentiate(parameters, drawn, labels[drawn.rows], picks)
    rows, logits = drawn.rows[picks], drawn.outputs["fc3"]
    return Probe(weights=parameters, rows=rows, loss=loss, gradients=gradients, logits=logits)


def update(parameters: Arrays, gradients: Arrays, sgd: SGD, steps: int) -> Arrays:
    """The parameters after a step from a momentum of zero, so many steps after the first."""
    buffers = {name: np.zeros_like(value) if sgd.has_buffer else None for name, value in parameters.items()}
    return _update(parameters, buffers, gradients, sgd, steps)[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Drawn:
    """Images of a step: rows (n,), normalised (n, 3, 32, 32), and every layer's outputs."""

    rows: NDArray[np.int32]
    images: Array
    outputs: Arrays


_OPS = Operations()


def _candidates(size: int, seed: int, *, first: int = 0) -> Iterator[NDArray[np.int32]]:
    """All rows in random order, again and again, a few at a time."""
    for round_ in count_from(first):
        order = Stream(seed, _PURPOSE, 0, round_).permutation(size)
        for begin in range(0, size, DISTINCT):
            yield order[begin : begin + DISTINCT]


def _clear_images(
    candidates: Iterator[NDArray[np.int32]], pixels: NDArray[np.uint8], parameters: Arrays, *, count: int
) -> _Drawn:
    """The next images all of whose choices are clear with these parameters."""
    found: list[_Drawn] = []
    for _ in range(TRIES):
        rows = next(candidates)
        images = _OPS.normalise(pixels[rows])
        outputs = forward(_OPS, parameters, images)
        clear = np.flatnonzero(_is_clear(outputs))[: count - sum(len(drawn.rows) for drawn in found)]
        kept = {name: value[clear] for name, value in outputs.items()}
        found.append(_Drawn(rows=rows[clear], images=images[clear], outputs=kept))
        if sum(len(drawn.rows) for drawn in found) == count:
            return _joined(found)
    seen = TRIES * min(DISTINCT, len(pixels))
    problem = f"of {seen} images drawn fewer than {count} have choices that rounding cannot change"
    raise InputError("data", "images", problem, "use other images: these say nothing about a contestant")


def _joined(parts: list[_Drawn]) -> _Drawn:
    return _Drawn(
        rows=np.concatenate([part.rows for part in parts]),
        images=np.concatenate([part.images for part in parts]),
        outputs={name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs},
    )


def _is_clear(outputs: Arrays) -> NDArray[np.bool_]:
    """(n,): whether no ReLU and no pooling window of the image is within MARGIN of its switch."""
    clear = np.ones(len(outputs["fc3"]), np.bool_)
    for layer in (*POOLED, *RECTIFIED):
        scale = MARGIN * np.sqrt(np.mean(np.square(outputs[layer])))
        clear &= (np.abs(outputs[layer]) > scale).reshape(len(clear), -1).all(axis=1)
        if layer in POOLED:
            clear &= _pools_are_clear(outputs[layer], scale)
    return clear


def _pools_are_clear(values: Array, scale: float) -> NDArray[np.bool_]:
    """(n,): whether the largest of each 2x2 window is ahead, or tied; what the ReLU cuts off has no part in it."""
    n, c, h, w = values.shape
    windows = values.reshape(n, c, h // 2, 2, w // 2, 2).swapaxes(3, 4).reshape(n, -1, 4)
    second, first = np.moveaxis(np.partition(windows, (2, 3), axis=-1)[..., 2:], -1, 0)
    lead = first - second
    clear: NDArray[np.bool_] = ((lead > scale) | (lead < TIE * scale / MARGIN) | (first < 0)).all(axis=1)
    return clear


def _picks(batch_size: int, distinct: int, stream: Stream) -> NDArray[np.int32]:
    """(batch,): which of the images stands at each place of the batch; each once, if there are enough."""
    return np.arange(distinct, dtype=np.int32) if batch_size == distinct else stream.integers(distinct, batch_size)


def _differentiate(
    parameters: Arrays, drawn: _Drawn, labels: NDArray[np.integer], picks: NDArray[np.int32]
) -> tuple[float, Arrays]:
    """The mean loss of the batch, and its gradients."""
    logits = drawn.outputs["fc3"]
    upstream = np.zeros_like(logits)
    np.add.at(upstream, picks, _OPS.cross_entropy_backward(logits[picks], labels[picks]))
    loss = _OPS.cross_entropy(logits[picks], labels[picks])
    return float(loss), backward(_OPS, parameters, drawn.images, drawn.outputs, upstream)


def _update(
    parameters: Arrays, buffers: Mapping[str, Array | None], gradients: Arrays, sgd: SGD, step: int
) -> tuple[Arrays, Mapping[str, Array | None]]:
    clipped = _OPS.clip_gradients(gradients, sgd)
    moved = {name: _OPS.sgd_update(p, clipped[name], buffers[name], sgd, step) for name, p in parameters.items()}
    return {name: p for name, (p, _) in moved.items()}, {name: b for name, (_, b) in moved.items()}
