"""Why a side's steps are not those of the CNN's formulas, from losses and states alone: what a trace holds.

Layers, outputs and gradients are not recorded there. The formulas make them from the images that were due and the
weights that the side held, and the loss that was recorded says whether they are the side's own: one number a step, to
rounding. Where it is not, what ports get wrong of a forward pass is tried in its place, one thing at a time.

The gradients are then read in two ways, since b_t = m b_(t-1) + s (g_t + wd p_t) binds them to the optimizer:

    as the formulas have them      the buffer and the update show the optimizer's faults
    as the buffer implies them     they show faults of the gradients, for an optimizer that keeps its buffer as asked

Only a reading that explains all is a cause. Where both do, nothing recorded tells them apart: they are a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from parity.contract import StepTrace
from parity.explain.alternatives import Alternative, alternatives
from parity.explain.backward import Gradients, allowed_of, explain_gradients, explain_loss, predicted_gradients
from parity.explain.cause import Cause, Unknown
from parity.explain.evidence import Evidence
from parity.explain.fit import Deviation, Fit, far, settle
from parity.explain.losses import HONEST, Loss
from parity.explain.network import NODES, Nodes, output_of
from parity.explain.optimizer import explain_optimizer
from parity.explain.rule import meant_rule
from parity.oracle.sgd import clip_gradients

__all__ = ["explain_states"]

Found = Sequence[Cause | Unknown]


def explain_states(evidence: Evidence) -> list[Cause] | None:
    """Every cause; [] where losses and states are those of the formulas, None where what is recorded shows no cause.

    Args:
        evidence: steps with the batch that was due, weights, loss, momentum and parameters; the rest is not read.
    """
    with np.errstate(all="ignore"):  # a guess that is wrong may overflow, and then does not fit
        return _explain(evidence)


def _explain(evidence: Evidence) -> list[Cause] | None:
    passed = _passed(evidence, NODES)
    losses, loss = explain_loss(passed, NODES)
    read = _read(passed, NODES, loss) if _known(losses) else None
    if not losses:
        return read
    other = _other_forward(evidence)
    if read is None:
        return other
    causes = [*_causes(losses), *read]
    return _class(causes, other) if other and len(other) == len(causes) else causes


def _known(found: Found) -> bool:
    return all(isinstance(each, Cause) for each in found)


def _causes(found: Found) -> list[Cause]:
    return [each for each in found if isinstance(each, Cause)]


def _passed(evidence: Evidence, nodes: Nodes) -> Evidence:
    """With activations and logits as these layers make them, and the gradients that the buffers imply."""
    implied = _implied(evidence)
    traces = [
        replace(_forward(trace, nodes), gradients=gradients)
        for trace, gradients in zip(evidence.traces, implied, strict=True)
    ]
    return replace(evidence, traces=tuple(traces))


def _forward(trace: StepTrace, nodes: Nodes) -> StepTrace:
    x = np.asarray(trace.batch["images"], np.float64)
    outputs = {}
    for name, node in nodes.items():
        x = outputs[name] = output_of(node, x, trace.weights)
    logits = outputs.pop("logits")
    return replace(trace, activations=outputs, logits={"logits": logits})


def _implied(evidence: Evidence) -> list[Gradients]:
    """g_t = sign ((b_t - m b_(t-1)) / s - wd p_t), s = 1 in a first step.

    Where no buffer is kept, (p_t - p_(t+1)) / lr stands for what it adds.
    """
    rule, implied = meant_rule(evidence), []
    weights, buffers, after = (evidence.tensors(kind) for kind in ("weights", "momentum", "parameters"))
    for step in range(len(evidence.traces)):
        before = evidence.before(step)[1]
        started = any(np.any(value) for value in before.values())
        gain = (rule.gain if started else rule.first_gain) or 1.0
        gradients = {}
        for name, p in weights[step].items():
            if rule.has_buffer and name in buffers[step]:
                kept = rule.momenta[step] * np.asarray(before[name], np.float64) if started else 0.0
                g = (buffers[step][name] - kept) / gain
            else:
                g = (p - after[step][name]) / (rule.rates[step] or 1.0)
            gradients[name] = rule.sign * (g - rule.decay * (name in rule.decays) * p)
        implied.append(gradients)
    return implied


def _read(passed: Evidence, nodes: Nodes, loss: Loss) -> list[Cause] | None:
    """The causes of gradients and optimizer in the reading that explains all; in both, a class; None in neither."""

    def clip(gradients: Gradients) -> Gradients:
        return clip_gradients(gradients, passed.sgd)

    meant = [replace(trace, gradients=clip(predicted_gradients(nodes, loss, trace))) for trace in passed.traces]
    formulas = explain_optimizer(replace(passed, traces=tuple(meant)))
    if not formulas:
        return []
    buffers: Found = explain_gradients(passed, nodes, loss, clip)
    buffers = [*buffers, *explain_optimizer(passed)] if _known(buffers) else buffers
    known = [_causes(found) for found in (formulas, buffers) if found and _known(found)]
    known.sort(key=len)
    if not known:
        return None
    return _class(known[0], known[1]) if len(known) == 2 and len(known[0]) == len(known[1]) else known[0]


def _class(first: list[Cause], second: list[Cause]) -> list[Cause]:
    """What only the second reading says is alike to what only the first says."""
    own = [cause for cause in first if str(cause) not in map(str, second)]
    others = [cause for cause in second if str(cause) not in map(str, first)]
    if not (own and others):
        return first
    sentence = " and ".join(cause.sentence for cause in others)
    keys = tuple(dict.fromkeys((*own[0].keys, *(key for cause in others for key in cause.keys))))
    alike = (*own[0].alike, sentence, *(other for cause in others for other in cause.alike))
    joined = replace(own[0], alike=alike, keys=keys)
    return [joined if cause is own[0] else cause for cause in first]


FEWEST = 2
"""Losses that a forward pass has to predict: one number may fit by chance."""


def _other_forward(evidence: Evidence) -> list[Cause] | None:
    """Every cause, where a forward pass that differs in one thing from the one meant makes every loss recorded.

    Of several that do, those that leave gradients and optimizer the fewest faults of their own; None where none does.
    """
    if len(evidence.traces) < FEWEST:
        return None
    allowed = [allowed_of(_forward(trace, NODES)) for trace in evidence.traces]
    fitting = [
        (alternative, read)
        for alternative in alternatives()
        if _left(evidence.traces[:1], alternative) <= allowed[0]  # only what fits one step is worth the others' time
        and _left(evidence.traces, alternative) <= max(allowed)
        and (read := _read_otherwise(evidence, alternative)) is not None
    ]
    fewest = min((len(read) for _, read in fitting), default=0)
    chosen = [(alternative, read) for alternative, read in fitting if len(read) == fewest]
    if not chosen:
        return None
    first, read = chosen[0]
    deviation = Deviation(
        side=evidence.side,
        step=evidence.first_step,
        place=first.place,
        difference=max(_distance(trace, NODES) for trace in evidence.traces),
        allowed=max(allowed),
    )
    fits = [Fit(key=each.key, sentence=each.sentence, residual=_left(evidence.traces, each)) for each, _ in chosen]
    return [*_causes([settle(deviation, fits)]), *read]


def _read_otherwise(evidence: Evidence, alternative: Alternative) -> list[Cause] | None:
    relabelled = _relabelled(evidence, alternative)
    return _read(_passed(relabelled, alternative.nodes), alternative.nodes, HONEST)


def _relabelled(evidence: Evidence, alternative: Alternative) -> Evidence:
    return replace(evidence, traces=tuple(_labelled(trace, alternative) for trace in evidence.traces))


def _labelled(trace: StepTrace, alternative: Alternative) -> StepTrace:
    labels = np.asarray(trace.batch["labels"], np.int64)
    return replace(trace, batch={**trace.batch, "labels": alternative.labels(labels)})


def _left(traces: Sequence[StepTrace], alternative: Alternative) -> float:
    """How far its losses are from those recorded, the worst of the steps."""
    return max(_distance(_labelled(trace, alternative), alternative.nodes) for trace in traces)


def _distance(trace: StepTrace, nodes: Nodes) -> float:
    try:
        expected = HONEST.of(_forward(trace, nodes))
    except ValueError:  # the change does not fit the shapes
        return float("inf")
    return far(np.asarray(trace.loss["loss"], np.float64), np.array(expected))
