"""One side's steps, stage by stage: each is predicted from what the side itself recorded before it.

So a fault is held apart from its consequences: what follows from it is predicted as well, and a second fault shows as a
deviation of its own. Only what a fault changes further back is carried on: layers and loss, for the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from parity.compare import Stage
from parity.explain.backward import explain_gradients, explain_loss
from parity.explain.batch import explain_batch
from parity.explain.cause import Cause, Unknown
from parity.explain.evidence import Evidence
from parity.explain.fit import Deviation
from parity.explain.forward import explain_forward
from parity.explain.network import NODES
from parity.explain.optimizer import explain_optimizer
from parity.explain.relayout import FORMATS, format_key, round_to
from parity.explain.weights import explain_weights
from parity.oracle.sgd import clip_gradients

__all__ = ["explain_side"]

FORWARD = ("batch", "weights", "activations", "logits", "loss")


def explain_side(evidence: Evidence) -> list[Cause | Unknown]:
    """Every cause, in the order of the stages; [] where the side follows its formulas."""
    with np.errstate(all="ignore"):  # a guess that is wrong may overflow, and then does not fit
        return _explain(evidence)


def _explain(evidence: Evidence) -> list[Cause | Unknown]:
    if single := _in_float32(evidence):
        return [single]
    found = [*explain_batch(evidence), *explain_weights(evidence)]
    causes, nodes = explain_forward(evidence, NODES)
    found += causes
    causes, loss = explain_loss(evidence, nodes)
    found += causes
    # Of a layer or a loss that is not known, the gradients are not known either.
    if not any(isinstance(each, Unknown) and each.place.stage in FORWARD[2:] for each in found):
        found += explain_gradients(evidence, nodes, loss, lambda gradients: clip_gradients(gradients, evidence.sgd))
    return [*found, *explain_optimizer(evidence)]


def _in_float32(evidence: Evidence) -> Cause | None:
    """Everything is float32 where float64 was asked for."""
    traces = evidence.traces
    arrays = [array for trace in traces for kind in (trace.logits, trace.gradients) for array in kind.values()]
    if not all(np.array_equal(np.asarray(array, np.float32), array) for array in arrays):
        return None
    kept = (name for name, bits in sorted(FORMATS.items(), key=lambda item: item[1]) if _hold(arrays, bits))
    name = next(kept, "float32")
    key = "x64-off" if name == "float32" else f"computes-in-{format_key(name)}"
    place = Stage(stage="logits", tensor="logits")
    rounding = float(np.finfo(np.float32).eps)
    deviation = Deviation(side=evidence.side, step=evidence.first_step, place=place, difference=rounding)
    sentence = f"computes in {name}, where float64 is asked for; other faults beside it are not looked for"
    return deviation.cause(key=key, sentence=sentence)


def _hold(arrays: Sequence[NDArray[np.generic]], bits: int) -> bool:
    """Whether so many significant bits hold every value."""
    return all(np.array_equal(round_to(np.asarray(array, np.float64), bits), array) for array in arrays)
