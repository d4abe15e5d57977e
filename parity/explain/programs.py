"""Why two programs differ whose formulas are their own: one is held against the other.

Both begin each step in their own way, so that only the first stage that differs can be compared tensor by tensor. The
optimizers are identified each from its own gradients, and then compared, whatever came before them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from parity.compare import Rung, Stage, stage_tensors
from parity.compare.stages import BACKWARD
from parity.contract import StepTrace
from parity.explain.backward import allowed_of
from parity.explain.cause import Cause, Unknown
from parity.explain.convolution import other_convolution
from parity.explain.fit import ALLOWED, Deviation, Fit, factor_of, far, settle
from parity.explain.forward import other_activations
from parity.explain.network import Reading
from parity.explain.normalisation import other_epsilon
from parity.explain.own_losses import own_loss_fits
from parity.explain.own_rules import compared_rules
from parity.explain.relayout import image_readings, kernel_readings, linear_readings, rounded_format
from parity.oracle.layers import Array, relu

__all__ = ["explain_programs"]

SAME = 1e-9
"""Identified constants that are so close are the same."""


def explain_programs(
    names: tuple[str, str],
    rung: Rung,
    traces: tuple[Sequence[StepTrace], Sequence[StepTrace]],
    activation: str | None = None,
) -> list[Cause | Unknown]:
    """What the second program does otherwise than the first.

    Args:
        names: the sides'.
        rung: the first tensor that differs.
        traces: both sides' steps from a common beginning, under the same names and in the same layout.
        activation: the first side's first activation without a partner on the second; None where that is not known.
    """
    rules = compared_rules(names, traces)
    if rung.place.stage in ("momentum", "update") and rules:
        return [*rules]
    layer: Cause | None = None
    if activation:
        kinds = (_other_function, _other_epsilon, _other_convolution)
        layer = next((found for kind in kinds if (found := kind(names, rung, traces, activation))), None)
    return [layer or _explain_tensor(names, rung, traces), *rules]


def _other_function(
    names: tuple[str, str], rung: Rung, traces: tuple[Sequence[StepTrace], Sequence[StepTrace]], activation: str
) -> Cause | None:
    """Another function between two layers: the second side holds what it makes of what the first side's reads."""
    a, b = (each[rung.step] for each in traces)
    parents = _parents(a, activation)
    meant = np.asarray(a.activations[activation], np.float64)
    functions = {"a ReLU": relu, **{each.name: each.function for each in other_activations()}}
    for x in (np.asarray(each, np.float64).ravel() for each in parents):
        own = [name for name, function in functions.items() if far(meant.ravel(), function(x)) <= ALLOWED]
        held = [(name, _nearest(function(x), b)) for name, function in functions.items() if name not in own]
        for name, residual in held:
            if own and residual <= ALLOWED:
                sentence = f"has {name} where {names[0]} has {own[0]} ({activation})"
                return _lacking(names[1], rung, activation, _nearest(meant, b)).cause(
                    key="other-activation", sentence=sentence, residual=residual
                )
    return None


def _other_epsilon(
    names: tuple[str, str], rung: Rung, traces: tuple[Sequence[StepTrace], Sequence[StepTrace]], activation: str
) -> Cause | None:
    """A normalisation with another epsilon, of what the first side's activation reads."""
    a, b = (each[rung.step] for each in traces)
    found = other_epsilon(_parents(a, activation), list(a.activations.values()), list(b.activations.values()))
    if found is None:
        return None
    meant, held, residual = found
    difference = _nearest(np.asarray(a.activations[activation], np.float64), b)
    sentence = f"normalises with an epsilon of {held:.6g} where {names[0]} has {meant:.6g} ({activation})"
    lacking = _lacking(names[1], rung, activation, difference)
    return lacking.cause(key="other-epsilon", sentence=sentence, residual=residual)


def _other_convolution(
    names: tuple[str, str], rung: Rung, traces: tuple[Sequence[StepTrace], Sequence[StepTrace]], activation: str
) -> Cause | None:
    """A convolution with another padding, stride or dilation, of what the first side's activation reads.

    The activation may be the padding alone, and the convolution follows.
    """
    a, b = (each[rung.step] for each in traces)
    inputs = [*_parents(a, activation), *a.batch.values()]
    for name in (activation, *_children(a, activation)):
        found = other_convolution(inputs, a.weights, name, (a.activations, b.activations))
        # What is cut afterwards may be right: a causal convolution is one that is padded at both ends, and cut.
        if found is None or (found.cut and not (_read_whole(a, name) and _read_whole(b, found.name))):
            continue
        difference = _nearest(np.asarray(a.activations[name], np.float64), b)
        ours, theirs = (", ".join(f"{part} {told[side]}" for part, *told in found.differences) for side in (0, 1))
        sentence = f"has a convolution with {theirs} where {names[0]} has {ours} ({name})"
        lacking = _lacking(names[1], rung, activation, difference)
        return lacking.cause(key="other-convolution", sentence=sentence, residual=found.residual)
    return None


def _lacking(side: str, rung: Rung, activation: str, difference: float) -> Deviation:
    """A side has no partner for the first side's activation; what it has is as far away as this."""
    place = Stage(stage="activations", tensor=activation)
    return Deviation(side=side, step=rung.step, place=place, difference=difference)


def _children(trace: StepTrace, activation: str) -> list[str]:
    """The activations that are computed from one."""
    return [name for name, parents in trace.parents.items() if activation in parents and name in trace.activations]


def _read_whole(trace: StepTrace, activation: str) -> bool:
    """Whether something of the same size is computed from it."""
    size = trace.activations[activation].size
    return any(trace.activations[name].size == size for name in _children(trace, activation))


def _parents(trace: StepTrace, activation: str) -> list[NDArray[np.generic]]:
    """The activations that one is computed from."""
    return [trace.activations[name] for name in trace.parents.get(activation, ()) if name in trace.activations]


def _nearest(values: Array, trace: StepTrace) -> float:
    """How far the nearest activation is that has as many elements, in whatever order it holds them."""
    ordered = np.sort(values, axis=None)
    others = (np.asarray(each, np.float64) for each in trace.activations.values() if each.size == values.size)
    return min((far(ordered, np.sort(each, axis=None)) for each in others), default=float("inf"))


def _explain_tensor(
    names: tuple[str, str], rung: Rung, traces: tuple[Sequence[StepTrace], Sequence[StepTrace]]
) -> Cause | Unknown:
    """The first tensor that differs, from the other side's; gradients all together."""
    deviation = Deviation(
        side=names[1], step=rung.step, place=rung.place, difference=rung.difference, allowed=max(rung.allowed, SAME**2)
    )
    if min(len(each) for each in traces) <= rung.step:
        return settle(deviation, [])
    a, b = (stage_tensors(each[rung.step]) for each in traces)
    if rung.place.stage == "loss":
        lossy = replace(deviation, allowed=max(deviation.allowed, *map(allowed_of, [*traces[0], *traces[1]])))
        own = settle(lossy, list(own_loss_fits(names[0], traces)))
        if isinstance(own, Cause):
            return own
    return settle(deviation, list(_tensor_fits(names[0], rung.place, a, b)))


def _tensor_fits(other: str, place: Stage, a: dict[Stage, Array], b: dict[Stage, Array]) -> Iterator[Fit]:
    """How one side's tensor follows from the other's."""
    x, y = a.get(place), b.get(place)
    if x is None or y is None or x.shape != y.shape:
        return
    name = rounded_format(y, x, sums=False) if x.size > 1 else None  # one number may be exact in any format
    if name:
        yield Fit(key="rounded", sentence=f"has {place} rounded to {name}", residual=0.0)
    if place.stage == "statistics":
        yield from _statistics_fits(other, a, b)
    elif x.size > 1:
        yield from _scaled(other, place, a, b)
        for reading in _readings(place, x):
            moved = _read(place, reading, x)
            yield Fit(key="relaid", sentence=f"has {place} {reading.name}", residual=far(y, moved))
    if place.stage == "loss":
        yield from _loss_fits(other, a, b)


def _scaled(other: str, place: Stage, a: dict[Stage, Array], b: dict[Stage, Array]) -> Iterator[Fit]:
    """A factor, that all gradients have in common; and a multiple of the parameters."""
    x, y = a[place], b[place]
    factor = factor_of([y], [x])
    places = [each for each in a if each.stage == place.stage] if place.stage in BACKWARD else [place]
    residual = max(far(b.get(each), factor * a[each]) for each in places)
    noun = "gradients" if place.stage == "gradients" else str(place)
    yield Fit(key="scaled", sentence=f"has {noun} {factor:.6g} times those of {other}", residual=residual)
    parameter = a.get(Stage(stage="weights", tensor=place.tensor))
    if place.stage in BACKWARD and parameter is not None and parameter.any():
        share = factor_of([y - x], [parameter])
        sentence = f"has {place} with {share:.6g} times the parameter added (a weight decay)"
        yield Fit(key="decay", sentence=sentence, residual=far(y, x + share * parameter))


def _readings(place: Stage, x: Array) -> Iterator[Reading]:
    """Other orders of a weight's elements, or of an input's."""
    if place.stage == "weights" and x.ndim == 4:
        yield from kernel_readings(x.shape)
    elif place.stage == "weights" and x.ndim == 2:
        yield from linear_readings(x.shape)
    elif place.stage == "batch" and x.ndim == 4:
        yield from (reading for reading in image_readings(x.shape[1:]) if reading.order)


def _read(place: Stage, reading: Reading, x: Array) -> Array:
    return np.stack([reading.read(each) for each in x]) if place.stage == "batch" else reading.read(x)


def _loss_fits(other: str, a: dict[Stage, Array], b: dict[Stage, Array]) -> Iterator[Fit]:
    """A factor of the loss, that its gradients have too: one number alone would show any."""
    loss = Stage(stage="loss", tensor="loss")
    x, y = float(a[loss]), float(b[loss])
    if not x:
        return
    factor = y / x
    gradients = [place for place in a if place.stage == "gradients"]
    residual = max((far(b.get(place), factor * a[place]) for place in gradients), default=float("inf"))
    examples = next((len(value) for place, value in a.items() if place.stage == "batch" and value.ndim), 0)
    summed = " (the batch's size: a sum, not a mean)" if np.isclose(factor, examples, rtol=SAME) else ""
    sentence = f"has a loss, and gradients, {factor:.6g} times those of {other}{summed}"
    yield Fit(key="loss-scaled", sentence=sentence, residual=residual)


def _statistics_fits(other: str, a: dict[Stage, Array], b: dict[Stage, Array]) -> Iterator[Fit]:
    """Running statistics that move further towards the batch's, all by one factor."""
    places = [place for place in a if place.stage == "statistics" and place in b]
    before = {place: a[Stage(stage="weights", tensor=place.tensor)] for place in places}
    moved = {place: (a[place] - before[place], b[place] - before[place]) for place in places}
    if sum(np.count_nonzero(x) for x, _ in moved.values()) < 2:
        return
    factor = factor_of([y for _, y in moved.values()], [x for x, _ in moved.values()])
    residual = max(far(b[place], before[place] + factor * x) for place, (x, _) in moved.items())
    sentence = f"moves running statistics {factor:.6g} times as far as {other} in a step (the momentum of a batch norm)"
    yield Fit(key="statistics-momentum", sentence=sentence, residual=residual)
