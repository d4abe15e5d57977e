"""Losses of programs whose formulas are their own, where both end in a softmax cross-entropy of classes.

That is seen from one of the sides: its loss is the mean cross-entropy of its outputs and its targets. Then the other
side's loss is a function of its own outputs, whatever computed them, and the losses known for the CNN are fitted to it.
A loss is one number a step: what fits has to fit every step, and the gradient of the output layer's bias, which is the
sum of the gradients by the outputs, where the side with the mean cross-entropy shows that there is such a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from parity.contract import StepTrace
from parity.explain.backward import allowed_of
from parity.explain.fit import Fit, far
from parity.explain.losses import HONEST, Loss, loss_guesses

__all__ = ["classified", "own_loss_fits"]

Both = tuple[Sequence[StepTrace], Sequence[StepTrace]]


def classified(trace: StepTrace) -> StepTrace | None:
    """The step with outputs as (examples, classes) and its labels, as the CNN has them; None if it has no classes.

    The outputs of sequences are taken position by position: (batch, length, classes) and (batch, length).
    """
    z = next(iter(trace.logits.values()), None)
    y = list(trace.batch.values())[-1] if trace.batch else None
    if (
        z is None
        or y is None
        or np.ndim(z) < 2
        or np.shape(z)[:-1] != np.shape(y)
        or np.asarray(y).dtype.kind not in "iu"
    ):
        return None
    outputs, labels = np.asarray(z, np.float64).reshape(-1, np.shape(z)[-1]), np.asarray(y, np.int64).ravel()
    if outputs.shape[1] < 2 or labels.min(initial=0) < 0 or labels.max(initial=0) >= outputs.shape[1]:
        return None
    return replace(trace, batch={"labels": labels}, logits={"logits": outputs})


def own_loss_fits(other: str, traces: Both) -> Iterator[Fit]:
    """What the second side's loss may be, where the first side's is a mean cross-entropy; or the other way round.

    Args:
        other: the first side's name.
        traces: of both sides, step by step.
    """
    first, second = ([classified(trace) for trace in side] for side in traces)
    a, b = ([trace for trace in side if trace is not None] for side in (first, second))
    if not a or len(a) < len(first) or len(b) < len(second):
        return
    if _left(a, HONEST) <= _allowed(a):
        yield from _fits_of(b, beside=a)
    elif _left(b, HONEST) <= _allowed(b):
        for fit in _fits_of(a, beside=b):  # a port that lacks what the first program has
            sentence = f"takes the mean cross-entropy alone, where {other} {fit.sentence}"
            yield replace(fit, key="other-loss", sentence=sentence)


def _fits_of(traces: Sequence[StepTrace], *, beside: Sequence[StepTrace]) -> Iterator[Fit]:
    """What the loss of these steps may be; `beside` are those whose loss is the mean cross-entropy."""
    broken = [step for step, trace in enumerate(traces) if _distance(trace, HONEST) > allowed_of(trace)]
    if not broken:
        return
    full = max(len(trace.batch["labels"]) for trace in beside)
    bias = _output_bias(beside)
    for guess in loss_guesses(traces, broken, full):
        loss = _left(traces, guess.loss)
        gradient = _bias_left(traces, guess.loss, bias) if bias else 0.0
        # One step's loss alone fits any constant, unless a gradient speaks for it.
        unproved = guess.fitted and len(traces) == 1 and not bias
        residual = float("inf") if unproved else max(loss, gradient)
        yield Fit(key=guess.key, sentence=guess.sentence, residual=residual if np.isfinite(loss) else float("inf"))


def _allowed(traces: Sequence[StepTrace]) -> float:
    return max(allowed_of(trace) for trace in traces)


def _distance(trace: StepTrace, loss: Loss) -> float:
    found = float(np.sum([np.sum(value) for value in trace.loss.values()]))
    return far(np.array(found), np.array(loss.of(trace)))


def _left(traces: Sequence[StepTrace], loss: Loss) -> float:
    """The worst of all steps."""
    return max(_distance(trace, loss) for trace in traces)


def _output_bias(traces: Sequence[StepTrace]) -> str | None:
    """The parameter whose gradient is the sum of those by the outputs, as steps with the mean cross-entropy show."""
    classes = traces[0].logits["logits"].shape[1]
    names = [name for name, value in traces[0].gradients.items() if np.shape(value) == (classes,)]
    return next((name for name in names if _bias_left(traces, HONEST, name) <= _allowed(traces)), None)


def _bias_left(traces: Sequence[StepTrace], loss: Loss, name: str) -> float:
    """How far the gradient is from this loss'; rounding of a sum whose terms cancel is no difference."""
    worst = 0.0
    for trace in traces:
        by_logits = loss.by_logits(trace)
        expected = by_logits.sum(axis=0)
        if loss.penalty:
            expected = expected + loss.by_weights(trace)[name]
        found = trace.gradients.get(name)
        worst = max(worst, _relative(found, expected, float(np.abs(by_logits).sum())))
    return worst


def _relative(found: NDArray[np.generic] | None, expected: NDArray[np.float64], size: float) -> float:
    if found is None or np.shape(found) != expected.shape or not size:
        return far(found, expected)
    return float(np.abs(np.asarray(found, np.float64) - expected).max()) / size
