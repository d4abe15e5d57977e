"""Why a side's steps are not those of the CNN's formulas, from losses and states alone: what a trace holds.

Layers, outputs and gradients are not recorded there. The formulas make them from the images that were due and the
weights that the side held, and the loss that was recorded says whether they are the side's own: one number a step, to
rounding. Where it is not theirs, the layers that ports get wrong are tried in their place, one at a time.

The gradients are then read in two ways, since b_t = m b_(t-1) + s (g_t + wd p_t) binds them to the optimizer:

    as the formulas have them      the buffer and the update show the optimizer's faults
    as the buffer implies them     they show faults of the gradients, for an optimizer that keeps its buffer as asked

Only a reading that explains all is a cause. Where both do, nothing recorded tells them apart: they are a class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from parity.compare import Stage
from parity.contract import StepTrace
from parity.explain.backward import Gradients, allowed_of, explain_gradients, explain_loss, predicted_gradients
from parity.explain.cause import Cause, Unknown
from parity.explain.evidence import Evidence
from parity.explain.fit import Deviation, Fit, far, settle
from parity.explain.forward import node_variants
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
    if _known(losses):
        read = _read(passed, NODES, loss)
        if read is not None:
            return [*_causes(losses), *read]
    layer = _other_layer(evidence) if losses else None
    if layer is None:
        return None
    cause, nodes = layer
    read = _read(_passed(evidence, nodes), nodes, HONEST)
    return None if read is None else [cause, *read]


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
    """g_t = sign ((b_t - m b_(t-1)) / s - wd p_t), s = 1 in a first step. Where b is not kept, b = (p_t - p_(t+1)) / lr."""
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
    buffers = [*explain_gradients(passed, nodes, loss, clip), *explain_optimizer(passed)]
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
"""Losses that a layer has to predict: one number may fit by chance."""


def _other_layer(evidence: Evidence) -> tuple[Cause, Nodes] | None:
    """A layer that, put in the place of the one that is meant, makes every loss that was recorded."""
    if len(evidence.traces) < FEWEST:
        return None
    allowed = [allowed_of(_forward(trace, NODES)) for trace in evidence.traces]
    fits, nodes = [], {}
    for name, key, sentence, changed in _changed():
        residual = _left(evidence.traces[:1], changed)
        if residual <= allowed[0]:  # only what fits one step is worth the time of the others
            residual = _left(evidence.traces, changed)
        fits.append(Fit(key=key, sentence=sentence, residual=residual))
        nodes[sentence] = (name, changed)
    deviation = Deviation(
        side=evidence.side,
        step=evidence.first_step,
        place=Stage(stage="loss", tensor="loss"),
        difference=_left(evidence.traces, NODES),
        allowed=max(allowed),
    )
    settled = settle(deviation, fits)
    if not isinstance(settled, Cause):
        return None
    name, changed = nodes[settled.sentence]
    stage = "logits" if name == "logits" else "activations"
    return replace(settled, place=Stage(stage=stage, tensor=name)), changed


def _changed() -> Iterator[tuple[str, str, str, Nodes]]:
    """The network with one layer changed: its name, the key and the sentence of the change."""
    for name, node in NODES.items():
        for key, sentence, variant in node_variants(name, node):
            yield name, key, sentence, {**NODES, name: variant}


def _left(traces: Sequence[StepTrace], nodes: Nodes) -> float:
    """How far the losses of these layers are from those recorded, the worst of the steps."""
    return max(_distance(trace, nodes) for trace in traces)


def _distance(trace: StepTrace, nodes: Nodes) -> float:
    try:
        expected = HONEST.of(_forward(trace, nodes))
    except ValueError:  # the change does not fit the shapes
        return float("inf")
    return far(np.asarray(trace.loss["loss"], np.float64), np.array(expected))
