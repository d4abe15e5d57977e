"""Why a side's weights are not those that it was given, or not those that its last step left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from parity.compare import Stage
from parity.contract import CNN_ACTIVATIONS
from parity.explain.cause import Cause, Unknown
from parity.explain.evidence import Evidence
from parity.explain.fit import ALLOWED, Deviation, Fit, factor_of, far, settle
from parity.explain.network import Reading
from parity.explain.relayout import kernel_readings, linear_readings, rounded_format
from parity.oracle.layers import Array

__all__ = ["FEATURES", "explain_weights", "reading_key", "together", "weight_readings"]

FEATURES = {"fc1.weight": CNN_ACTIVATIONS["pool2"]}
"""What the inputs of a linear layer are flattened from, (C, H, W)."""


def explain_weights(evidence: Evidence) -> list[Cause | Unknown]:
    """A cause for each tensor, of the first step that has another one than it should; alike ones are one cause."""
    found: dict[tuple[int, str], list[Cause | Unknown]] = {}
    for step, trace in enumerate(evidence.traces):
        given = evidence.before(step)[0]
        for name in trace.weights:
            if step and _broke_before(evidence, name, step):
                continue
            held, meant = (np.asarray(each[name], np.float64) for each in (trace.weights, given))
            place = Stage(stage="weights", tensor=name)
            deviation = Deviation(
                side=evidence.side, step=evidence.first_step + step, place=place, difference=far(held, meant)
            )
            if not deviation.difference <= ALLOWED:
                fits = list(_fits(name, held, meant)) if held.shape == meant.shape else []
                settled = settle(deviation, fits)
                if isinstance(settled, Unknown) and (cause := _unrelated(deviation, held, meant, step)):
                    settled = cause
                kind = settled.key if isinstance(settled, Cause) else "unknown"
                found.setdefault((step, kind), []).append(settled)
    return [together(each) for each in found.values()]


def _unrelated(deviation: Deviation, held: Array, meant: Array, step: int) -> Cause | None:
    """What can be said without a formula: something else has written to a tensor, or it was never the one given."""
    name = deviation.place.tensor
    if step:
        key, sentence = "biases-aliased", f"has {name} changed between two steps, by no update (memory that is shared?)"
    elif held.shape == meant.shape and held.size >= FEWEST and _unlike(held, meant):
        key = "own-initialiser"
        ratio = f"{np.std(held) / np.std(meant):.3g}"
        sentence = (
            f"begins with weights of its own, unrelated to those given (standard deviation times {ratio}): {name}"
        )
    else:
        return None
    return deviation.cause(key=key, sentence=sentence, residual=deviation.difference)


FEWEST, UNRELATED = 100, 0.5
"""Of 100 independent draws a correlation of 0.5 is five standard deviations away from 0."""


def _unlike(held: Array, meant: Array) -> bool:
    """Neither the same values in another order, nor values that follow the ones given."""
    same = np.array_equal(np.sort(held, axis=None), np.sort(meant, axis=None))
    return not same and abs(_correlation(held, meant)) < UNRELATED


def _correlation(held: Array, meant: Array) -> float:
    spread = float(np.std(held) * np.std(meant))
    return float(np.mean((held - held.mean()) * (meant - meant.mean()))) / spread if spread else 1.0


def _broke_before(evidence: Evidence, name: str, step: int) -> bool:
    """Whether the tensor differed from what it should be in an earlier step; it is explained there."""
    pairs = ((evidence.traces[n].weights[name], evidence.before(n)[0][name]) for n in range(step))
    return any(not far(held, meant) <= ALLOWED for held, meant in pairs)


def together(causes: list[Cause | Unknown]) -> Cause | Unknown:
    """One sentence for all tensors that show the same."""
    first = causes[0]
    if len(causes) == 1 or not isinstance(first, Cause):
        return first
    names = ", ".join(cause.place.tensor for cause in causes)
    residual = max(cause.residual for cause in causes if isinstance(cause, Cause))
    # What is alike is said of one tensor.
    return replace(first, sentence=first.sentence.replace(first.place.tensor, names), residual=residual, alike=())


def weight_readings(name: str, shape: tuple[int, ...]) -> Iterator[Reading]:
    """Every order in which a layer may hold or read its weight by mistake."""
    if len(shape) == 4:
        yield from kernel_readings(shape)
    elif len(shape) == 2:
        yield from linear_readings(shape, FEATURES.get(name))


def _fits(name: str, held: Array, meant: Array) -> Iterator[Fit]:
    if format_ := rounded_format(held, meant, sums=False):
        yield Fit(key="weights-rounded", sentence=f"holds {name} rounded to {format_}", residual=0.0)
    if not held.any():
        yield Fit(key="weights-zero", sentence=f"begins with {name} at 0", residual=0.0)
    for reading in weight_readings(name, meant.shape):
        moved = reading.read(meant)
        residual = far(held, moved)
        key = reading_key(name.partition(".")[0], reading)
        yield Fit(key=key, sentence=f"holds {name} {reading.name}", residual=residual)
        if residual <= ALLOWED:
            continue  # it is neither rounded nor scaled beside that
        if format_ := rounded_format(held, moved, sums=False):
            sentence = f"holds {name} {reading.name}, and rounded to {format_}"
            yield Fit(key=key, sentence=sentence, residual=0.0)
        factor = factor_of([held], [moved])
        sentence = f"holds {name} {reading.name}, and times {factor:.6g}"
        yield Fit(key="weights-scaled", sentence=sentence, residual=far(held, factor * moved))
    factor = factor_of([held], [meant])
    yield Fit(key="weights-scaled", sentence=f"holds {name} times {factor:.6g}", residual=far(held, factor * meant))


def reading_key(layer: str, reading: Reading) -> str:
    """The key of a weight that is held, or read, in that order."""
    name = reading.name
    if name.startswith(("with its inputs in ", "with its inputs taken for ")):
        return "flatten-order"
    if name.startswith("reshaped"):
        return "kernel-reshaped" if layer.startswith("conv") else "linear-reshaped"
    if "channels reversed" in name:
        return f"{layer}-channels-reversed"
    return "kernel-flipped" if "flipped" in name else "kernel-axes-swapped" if "swapped" in name else "weights-relaid"
