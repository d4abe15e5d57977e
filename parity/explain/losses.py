"""Losses that programs compute where a mean cross-entropy is meant, and how their constants are fitted.

A loss is one number a step, and a free constant fits any number: so a constant is fitted at one step, and has to hold
at all of them, and for the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parity.contract import StepTrace
from parity.explain.network import softmax
from parity.oracle.layers import Array, Labels

__all__ = ["HONEST", "PENALISED", "Guess", "Loss", "loss_guesses"]

NEWTON_STEPS = 30
CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss of logits and labels, and of the weights.

    Args:
        value: of (batch, classes) logits and (batch,) labels.
        gradient: by the logits.
        penalty: l in l/2 |p|^2, added to the value.
        penalised: the parameters that it counts.
    """

    value: Callable[[Array, Labels], float] = field(repr=False)
    gradient: Callable[[Array, Labels], Array] = field(repr=False)
    penalty: float = 0.0
    penalised: Callable[[str], bool] = field(default=lambda _: True, repr=False)

    def of(self, trace: StepTrace) -> float:
        """What a step's recorded outputs, labels and weights make."""
        return float(self.value(*_outputs(trace))) + self.penalty / 2 * _squares(trace, self.penalised)

    def by_logits(self, trace: StepTrace) -> Array:
        """(batch, classes)."""
        return self.gradient(*_outputs(trace))

    def by_weights(self, trace: StepTrace) -> dict[str, Array]:
        """What the penalty adds to the gradients."""
        return {
            name: self.penalty * np.asarray(value, np.float64) * self.penalised(name)
            for name, value in trace.weights.items()
        }


def _targets(z: Array, targets: Array) -> tuple[float, Array]:
    """Cross-entropy against any targets, and its gradient by the logits."""
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    by_logits = (np.exp(log_p) * targets.sum(axis=1, keepdims=True) - targets) / len(z)
    return float(-(targets * log_p).sum() / len(z)), by_logits


def _onehot(z: Array, y: NDArray[np.integer]) -> Array:
    """A label that is no class has no target."""
    targets: Array = (y[:, np.newaxis] == np.arange(z.shape[1])).astype(np.float64)
    return targets


HONEST = Loss(
    value=lambda z, y: _targets(z, _onehot(z, y))[0],
    gradient=lambda z, y: _targets(z, _onehot(z, y))[1],
)


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A loss that a program may compute: its key, what to say of it, and whether a constant of it was fitted."""

    key: str
    sentence: str
    loss: Loss
    fitted: bool = False


def loss_guesses(traces: Sequence[StepTrace], broken: Sequence[int], full: int) -> Iterator[Guess]:
    """Every loss known here, with its constant as the first broken step has it.

    Args:
        traces: all steps.
        broken: the numbers of those whose loss is not the honest one.
        full: the batch size asked for, which the last batch of an epoch may not have.
    """
    trace = traces[broken[0]]
    found, honest, (z, y) = _value(trace), HONEST.of(trace), _outputs(trace)
    yield from _scaled_guesses(found / honest if honest else 1.0, full)
    yield from _label_guesses()
    yield from _probability_guesses(found, honest, z, y)
    yield from _penalty_guesses(trace, found - honest)


def _scaled_guesses(factor: float, full: int) -> Iterator[Guess]:
    """The mean, but divided by something else."""
    yield Guess(
        key="loss-summed",
        sentence="sums the loss over the batch instead of taking the mean: gradients are larger by the batch's size",
        loss=_scaled(len),
    )
    yield Guess(
        key="last-batch-padded",
        sentence=f"divides the loss by {full} also where the batch is smaller, as if it were padded",
        loss=_scaled(lambda z: len(z) / full),
    )
    yield Guess(
        key="loss-mean-over-classes",
        sentence="divides the loss by the number of its elements, the classes included",
        loss=_scaled(lambda z: 1 / z.shape[1]),
    )
    known = {1 / np.log(2): "takes the logarithm of base 2", 1 / np.log(10): "takes the logarithm of base 10"}
    sentence = next((text for value, text in known.items() if np.isclose(factor, value, rtol=1e-12)), None)
    yield Guess(
        key="loss-scaled",
        sentence=sentence or f"multiplies the loss by {factor:.6g}",
        loss=_scaled(lambda z: factor),  # noqa: ARG005  the same for every batch
        fitted=sentence is None,
    )


def _scaled(factor: Callable[[Array], float]) -> Loss:
    return Loss(
        value=lambda z, y: factor(z) * HONEST.value(z, y),
        gradient=lambda z, y: factor(z) * HONEST.gradient(z, y),
    )


def _label_guesses() -> Iterator[Guess]:
    """Other labels than those that the batch has."""
    for offset in (-1, 1):
        yield Guess(
            key="label-offset",
            sentence=f"takes the loss at label {offset:+d}, around the end of the classes",
            loss=_labelled(offset),
        )
    yield Guess(
        key="one-based-label",
        sentence="takes labels as counted from 1: class 0 has no target, and its examples no loss",
        loss=_one_based,
    )


def _labelled(offset: int) -> Loss:
    return Loss(
        value=lambda z, y: HONEST.value(z, (y + offset) % z.shape[1]),
        gradient=lambda z, y: HONEST.gradient(z, (y + offset) % z.shape[1]),
    )


_one_based = Loss(
    value=lambda z, y: _targets(z, _onehot(z, y - 1))[0],
    gradient=lambda z, y: _targets(z, _onehot(z, y - 1))[1],
)


def _probability_guesses(found: float, honest: float, z: Array, y: Labels) -> Iterator[Guess]:
    """Other functions of the probabilities."""
    yield Guess(
        key="softmax-twice",
        sentence="takes the softmax twice: the loss reads probabilities as logits",
        loss=Loss(
            value=lambda z, y: HONEST.value(softmax(z), y),
            gradient=lambda z, y: _through_softmax(HONEST.gradient(softmax(z), y), softmax(z)),
        ),
    )
    epsilon = _epsilon(found, z, y)
    if epsilon > 0:
        sentence = f"takes log(softmax + {epsilon:.3g}) for log(softmax)"
        yield Guess(key="log-epsilon", sentence=sentence, loss=_with_epsilon(epsilon), fitted=True)
    even = _targets(z, np.full_like(z, 1 / z.shape[1]))[0]
    share = (found - honest) / (even - honest) if even != honest else 0.0
    if 0 < share < 1:
        sentence = f"smooths the labels by {share:.6g}"
        yield Guess(key="label-smoothing", sentence=sentence, loss=_smoothed(share), fitted=True)
    yield Guess(
        key="loss-without-log-softmax",
        sentence="reads logits as log-probabilities: there is no softmax in its loss",
        loss=Loss(
            value=lambda z, y: -(_onehot(z, y) * z).sum() / len(z), gradient=lambda z, y: -_onehot(z, y) / len(z)
        ),
    )


def _through_softmax(upstream: Array, p: Array) -> Array:
    by_logits: Array = p * (upstream - (upstream * p).sum(axis=1, keepdims=True))
    return by_logits


def _chosen(z: Array, y: Labels) -> Array:
    """The probability of each example's label."""
    p: Array = (softmax(z) * _onehot(z, y)).sum(axis=1)
    return p


def _epsilon(found: float, z: Array, y: Labels) -> float:
    """The e for which -mean log(p + e) is what was found, by Newton's method: the mean is convex in e."""
    p = np.maximum(_chosen(z, y), float(np.finfo(np.float64).tiny))
    epsilon, least = 0.0, -0.5 * float(p.min())
    for _ in range(NEWTON_STEPS):
        excess = -float(np.mean(np.log(p + epsilon))) - found
        epsilon = max(epsilon + excess / float(np.mean(1 / (p + epsilon))), least)
    return epsilon


def _with_epsilon(epsilon: float) -> Loss:
    def gradient(z: Array, y: Labels) -> Array:
        p = softmax(z)
        upstream = -_onehot(z, y) / (_chosen(z, y) + epsilon)[:, np.newaxis] / len(z)
        return _through_softmax(upstream, p)

    return Loss(value=lambda z, y: float(-np.mean(np.log(_chosen(z, y) + epsilon))), gradient=gradient)


def _smoothed(share: float) -> Loss:
    def targets(z: Array, y: Labels) -> Array:
        even: Array = (1 - share) * _onehot(z, y) + share / z.shape[1]
        return even

    return Loss(value=lambda z, y: _targets(z, targets(z, y))[0], gradient=lambda z, y: _targets(z, targets(z, y))[1])


def _penalty_guesses(trace: StepTrace, excess: float) -> Iterator[Guess]:
    """A penalty on the weights, of all parameters or without the biases."""
    for noun, penalised in PENALISED:
        squares = _squares(trace, penalised)
        factor = 2 * excess / squares if squares else 0.0
        if factor <= 0:
            continue
        yield Guess(
            key="l2-in-loss",
            sentence=f"adds {factor / 2:.6g} |p|^2 of {noun} to the loss (L2, a weight decay of {factor:.6g})",
            loss=Loss(value=HONEST.value, gradient=HONEST.gradient, penalty=factor, penalised=penalised),
            fitted=True,
        )


def _is_weight(name: str) -> bool:
    return not name.endswith("bias")


def _is_any(_: str) -> bool:
    return True


PENALISED = (("all parameters", _is_any), ("the weights", _is_weight))
"""What a penalty may count, in words and by name."""


def _squares(trace: StepTrace, counted: Callable[[str], bool]) -> float:
    values = (np.asarray(value, np.float64) for name, value in trace.weights.items() if counted(name))
    return sum(float(np.sum(np.square(value))) for value in values)


def _value(trace: StepTrace) -> float:
    return float(np.sum([np.sum(value) for value in trace.loss.values()]))


def _outputs(trace: StepTrace) -> tuple[Array, Labels]:
    return np.asarray(trace.logits["logits"], np.float64), np.asarray(trace.batch["labels"], np.int64)
