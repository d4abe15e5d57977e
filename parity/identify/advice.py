"""What a run says of its rule beyond the equation: other forms of the same rule, and what to record to tell more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from parity.identify.rule import BY_NORM
from parity.identify.run import RecordedRun
from parity.identify.search import Found

__all__ = ["advice", "notes"]


def notes(found: Sequence[Found], run: RecordedRun) -> tuple[str, ...]:
    """Forms that no run can tell apart, and what this one does not show."""
    return tuple(dict.fromkeys(_notes(found, run)))


def _notes(found: Sequence[Found], run: RecordedRun) -> Iterator[str]:
    if run.every > 1:
        yield (
            f"gradients are accumulated over {run.every} steps, and averaged; summed is the same rule with lr divided "
            f"by {run.every} (SGD), epsilon, max_norm and coupled decay times {run.every}"
        )
    for each in found:
        rule = each.rule
        if rule.scaling == "none" and rule.buffer == "torch" and not rule.nesterov and not rule.dampened:
            yield (
                "the averaged form, b = mu b + (1 - mu) g, and dampening on every step, the first too, are this rule "
                "with lr multiplied by 1 / (1 - mu) and 1 / (1 - dampening): the lr that was set tells them apart, or "
                "the optimizer's buffers, which are smaller by that factor"
            )
        if rule.scaling in ("adam", "rms", "adagrad") and rule.epsilon == "none":
            yield "no epsilon is visible: it is far below the root of every squared gradient"
        if rule.initial or (rule.scaling == "adagrad" and rule.epsilon == "inside"):
            yield "an initial accumulator and an epsilon inside the root are known only by their sum"
        if rule.scaling == "lion":
            yield (
                "b1 and b2 are seen through signs alone, and known to an interval: the errors are how far it reaches, "
                "not standard errors"
            )
        if rule.decay in ("decoupled", "constant") and run.eps > 1e-10:
            yield "a factor 1 - lr weight_decay, rounded to float32, is off by up to 6e-8: weight_decay by 6e-8 / lr"


def advice(found: Sequence[Found], run: RecordedRun) -> tuple[str, ...]:
    """What to record to tell more."""
    return tuple(dict.fromkeys(_advice(found, run)))


def _advice(found: Sequence[Found], run: RecordedRun) -> Iterator[str]:
    if not found:
        yield "start the recording at the first step, and record the gradients that the optimizer is given"
        if run.eps > 1e-10:
            yield "record in float64: rounding hides less there"
        else:
            yield from _float32_advice(run)
        return
    rules = [each.rule for each in found]
    if len({rule.buffer for rule in rules}) > 1:
        yield "change lr during the run: torch's form rescales the buffer at once, Keras' does not"
    if len({rule.decay for rule in rules}) > 1:
        coupled = any(rule.decay == "coupled" for rule in rules)
        yield (
            "coupled and decoupled decay are the same without momentum: record with momentum"
            if coupled
            else "change lr during the run: decay that is not times lr stays as it is"
        )
    if len({(rule.epsilon, rule.initial) for rule in rules}) > 1:
        yield "record smaller gradients, or in float64: the epsilons then show"
    if len({rule.clip for rule in rules}) > 1:
        yield "record in float64, with clipping at work: the 1e-6 in torch's factor then shows"
    if not any(rule.clip == "value" for rule in rules):
        yield from _clip_advice(found, run)
    if any(each.decay.undecided.any() for each in found):
        yield "record more steps, or in float64: of some tensors it is undecided whether they decay"
    if _parallel(run):
        yield "all gradients are parallel: a buffer cannot be told from a schedule; record gradients that turn"
    if any(each.schedule.name == "free" for each in found):
        yield "no schedule fits the learning rates; in plain SGD, clipping that is always at work looks like that too"


def _float32_advice(run: RecordedRun) -> Iterator[str]:
    """Arrays that were converted after the run tell more digits than it had."""
    gradients, parameters = (np.array_equal(x, x.astype(np.float32)) for x in (run.gradients, run.parameters))
    if parameters:
        yield "all parameters are float32 numbers: if the run was computed in float32, say so with the dtype"
    elif gradients:
        yield "all gradients are float32 numbers, and the parameters are not: record the gradients that were used"


def _parallel(run: RecordedRun) -> bool:
    """Whether every step's gradient is a multiple of the first's, but for rounding."""
    steps = run.gradients[run.norms > 0]
    unit = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    return bool(np.all(np.abs(unit @ unit[0]) > 1 - 1e-6))


def _clip_advice(found: Sequence[Found], run: RecordedRun) -> Iterator[str]:
    largest = float(run.norms.max())
    for each in found:
        if each.rule.clip in BY_NORM:
            if each.fit.bound_is_free(run):
                yield "every step is clipped: max_norm is known only with lr; record a step with small gradients"
            return
    yield f"clipping by a norm above {largest:.3g} would not show: record larger gradients"
