"""SGD with a constant for everything that ports get wrong, and what an optimizer reads and leaves in a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from parity.contract import StepLR, StepTrace
from parity.explain.evidence import Evidence
from parity.explain.relayout import rounded_near
from parity.oracle.layers import Array
from parity.oracle.schedule import rates

__all__ = ["DOUBLE", "Rule", "Step", "meant_rule", "steps_from", "steps_of"]

Tensors = Mapping[str, Array]

DOUBLE = 53
"""float64's significant bits."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What an optimizer read and left in one step, of the parameters that have a gradient.

    Args:
        number: 0 for the first that was recorded.
        gradients: of the loss.
        recent: those of the steps before, the last first.
        parameters: before the step.
        before: the buffers; None where there were none yet.
        buffers: after the step.
        after: the parameters.
    """

    number: int
    gradients: Tensors
    recent: tuple[Tensors, ...]
    parameters: Tensors
    before: Tensors | None
    buffers: Tensors
    after: Tensors

    def update(self, name: str) -> Array:
        """The difference of the parameters."""
        return self.after[name] - self.parameters[name]


_ALIKE: Mapping[str, float] = MappingProxyType({})
_NONE: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Rule:
    """An update rule, tensor by tensor and step by step.

        g_t = sign * gradient + decay p_t                              the mean of the last `accumulated` gradients
        b_t = momentum b_(t-1) + gain g_t                              first_gain g_t in the first step
        d_t = g_t + momentum b_t if nesterov, else b_t                 g_t without a buffer
        p_(t+1) = p_t - rate factor d_t - decoupled p_t                no element by more than the step's limit

    With `inside` (1, or -1 for Keras' sign) the buffer holds inside * rate * g, and is subtracted as it is.

    Args:
        rates: the learning rate of each step.
        momenta: the momentum of each step.
        gain: 1 - dampening.
        first_gain: the same in the first step.
        decay: coupled weight decay.
        decays: which tensors decay.
        decoupled: in each step.
        nesterov: see above.
        sign: -1 climbs.
        has_buffer: whether there is one.
        inside: see above; 0 for torch's form.
        bits: significant bits that the buffer is kept in.
        fresh: whether the update is made with the buffer before it is rounded to them.
        factors: of the learning rate, by tensor; 1 where not listed.
        accumulated: steps to one update; between, nothing changes.
        limits: of each step, the largest absolute value of an element's update; none where it is empty.
        first: the number of the first step in the run.
        other_rates: learning rates by which ports get the schedule wrong: key, sentence, and one for each step.
    """

    rates: tuple[float, ...]
    momenta: tuple[float, ...]
    gain: float = 1.0
    first_gain: float = 1.0
    decay: float = 0.0
    decays: frozenset[str] = frozenset()
    decoupled: tuple[float, ...] = ()
    nesterov: bool = False
    sign: float = 1.0
    has_buffer: bool = True
    inside: float = 0.0
    bits: int = DOUBLE
    fresh: bool = False
    factors: Mapping[str, float] = field(default_factory=lambda: _ALIKE)
    accumulated: int = 1
    limits: tuple[float, ...] = ()
    first: int = 0
    other_rates: tuple[tuple[str, str, tuple[float, ...]], ...] = ()

    def idle(self, step: Step) -> bool:
        """Whether gradients are only collected in this step."""
        return (step.number + 1) % self.accumulated != 0

    def gradient(self, name: str, step: Step) -> Array:
        """With its sign, and with the decay that is coupled."""
        collected = [step.gradients[name], *(each[name] for each in step.recent[: self.accumulated - 1])]
        decay = self.decay if name in self.decays else 0.0
        g: Array = self.sign * sum(collected[1:], collected[0]) / self.accumulated + decay * step.parameters[name]
        return g

    def buffer(self, name: str, step: Step) -> Array:
        """What it is after the step, before it is rounded."""
        before = None if step.before is None else step.before.get(name)
        if self.idle(step):
            return np.zeros_like(step.parameters[name]) if before is None else before
        g = self.gradient(name, step) * (self.inside * self.rates[step.number] if self.inside else 1.0)
        return self.first_gain * g if before is None else self.momenta[step.number] * before + self.gain * g

    def kept(self, name: str, step: Step) -> Array:
        """B as it is kept: rounded, where `bits` are fewer than float64's."""
        b = self.buffer(name, step)
        return rounded_near(step.buffers.get(name, b), b, self.bits) if self.bits < DOUBLE else b

    def direction(self, name: str, step: Step) -> Array:
        """d, of the buffer that was recorded."""
        g = self.gradient(name, step)
        if not self.has_buffer:
            return g
        b = self.buffer(name, step) if self.fresh else step.buffers.get(name, np.zeros_like(g))
        return g + self.momenta[step.number] * b if self.nesterov else b

    def update(self, name: str, step: Step) -> Array:
        """What is added to the parameter."""
        whole = self._whole(name, step)
        limit = self.limits[step.number] if self.limits else None
        return whole if limit is None else np.clip(whole, -limit, limit)

    def _whole(self, name: str, step: Step) -> Array:
        """The update before its elements are cut."""
        p, rate = step.parameters[name], self.rates[step.number] * self.factors.get(name, 1.0)
        if self.idle(step):
            return np.zeros_like(p)
        decayed = self.decoupled[step.number] * p if self.decoupled and name in self.decays else np.zeros_like(p)
        if not (self.inside and self.has_buffer):
            return -rate * self.direction(name, step) - decayed
        b = step.buffers.get(name, np.zeros_like(p)) * self.inside
        return -(rate * self.gradient(name, step) + self.momenta[step.number] * b if self.nesterov else b) - decayed


def meant_rule(evidence: Evidence) -> Rule:
    """What the hyper-parameters ask for."""
    sgd = evidence.sgd
    pairs = [rates(sgd, evidence.first_step + number) for number in range(len(evidence.traces))]
    decays = (name for name, value in evidence.weights.items() if sgd.decay_biases or np.ndim(value) > 1)
    return Rule(
        rates=tuple(each.lr for each in pairs),
        momenta=tuple(each.momentum for each in pairs),
        gain=1 - sgd.dampening,
        decay=sgd.weight_decay,
        decays=frozenset(decays),
        nesterov=sgd.nesterov,
        sign=-1.0 if sgd.maximize else 1.0,
        has_buffer=sgd.has_buffer,
        first=evidence.first_step,
        other_rates=tuple(_other_rates(evidence)),
    )


def _other_rates(evidence: Evidence) -> Iterator[tuple[str, str, tuple[float, ...]]]:
    """The schedule counted in other units, or decaying smoothly where it has stairs."""
    sgd, first = evidence.sgd, evidence.first_step
    steps = range(first, first + len(evidence.traces))
    if 0 < sgd.momentum < 1 and first == 0:
        sentence = "divides updates by 1 - momentum^t, as for a debiased average"
        yield "debiased", sentence, tuple(rates(sgd, n).lr / (1 - sgd.momentum ** (n + 1)) for n in steps)
    if sgd.schedule is None:
        return
    yield "lr-baked", "has a constant learning rate: the schedule has no effect", (sgd.lr,) * len(steps)
    later = replace(sgd, schedule=replace(sgd.schedule, taken=sgd.schedule.taken + sgd.schedule.every))
    sentence = "steps its scheduler before the first update: the first learning rate is skipped"
    yield "first-lr-skipped", sentence, tuple(rates(later, step).lr for step in steps)
    if sgd.schedule.every > 1:
        counted = replace(sgd, schedule=replace(sgd.schedule, every=1))
        sentence = f"steps its scheduler after every batch, not after every {sgd.schedule.every} (an epoch)"
        yield "scheduler-per-batch", sentence, tuple(rates(counted, step).lr for step in steps)
    if isinstance(sgd.schedule, StepLR):
        size = sgd.schedule.step_size * sgd.schedule.every
        smooth = tuple(sgd.lr * sgd.schedule.gamma ** ((sgd.schedule.taken + step) / size) for step in steps)
        yield "no-staircase", "lets the learning rate decay smoothly, where it should fall in stairs", smooth


def steps_of(evidence: Evidence) -> list[Step]:
    """What each step's optimizer read and left."""
    return steps_from(evidence.traces, evidence.momentum)


def steps_from(traces: Sequence[StepTrace], momentum: Mapping[str, object] = _NONE) -> list[Step]:
    """Likewise, of consecutive steps, the first of which begins with these buffers."""
    gradients = [_doubles(trace.gradients) for trace in traces]
    befores = [momentum, *(trace.momentum for trace in traces)]
    return [
        Step(
            number=number,
            gradients=gradients[number],
            recent=tuple(reversed(gradients[:number])),
            parameters=_doubles(trace.weights),
            before=_started(befores[number]),
            buffers=_doubles(trace.momentum),
            after=_doubles(trace.parameters),
        )
        for number, trace in enumerate(traces)
    ]


def _doubles(tensors: Mapping[str, object]) -> Tensors:
    return {name: np.asarray(value, np.float64) for name, value in tensors.items()}


def _started(momentum: Mapping[str, object]) -> Tensors | None:
    """Buffers that are all zero do not exist yet, as before the first step."""
    buffers = _doubles(momentum)
    return buffers if any(np.any(value) for value in buffers.values()) else None
