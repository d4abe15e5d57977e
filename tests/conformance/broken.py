"""The oracle with one broken promise each: what the conformance suite must reject, and by which check."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.contract import SGD, InputError, StepTrace, initial_weights
from parity.oracle import Operations, Oracle, impl, layers
from parity.oracle.sgd import sgd_update


@dataclass(frozen=True)
class Broken:
    """The oracle; a subclass changes a method."""

    inner: Any = impl

    def __getattr__(self, name):
        return getattr(self.inner, name)


class NoDevice(Broken):
    def devices(self):
        return ()


class DeviceList(Broken):
    def devices(self):
        return ["cpu"]


class UnknownDevice(Broken):
    def devices(self):
        return ("abacus",)


class RaisingDevices(Broken):
    def devices(self):
        raise RuntimeError("driver too old")


class TwoLines(Broken):
    def describe(self, state):
        return "numpy\nfloat64"


class Bytes(Broken):
    def describe(self, state):
        return b"numpy"


class OtherStart(Broken):
    def start(self, weights, sgd, *, dtype, device):
        self.inner.start(weights, sgd, dtype=dtype, device=device)
        return self.inner.start(initial_weights(1), sgd, dtype=dtype, device=device)


class StartAliases(Broken):
    def start(self, weights, sgd, *, dtype, device):
        state = self.inner.start(weights, sgd, dtype=dtype, device=device)
        own = {name: value if value.dtype == np.float64 else value.astype(float) for name, value in weights.items()}
        return dataclasses.replace(state, parameters=own)


class FillsMissing(Broken):
    def start(self, weights, sgd, *, dtype, device):
        return self.inner.start({**initial_weights(0), **weights}, sgd, dtype=dtype, device=device)


class DropsUnknown(Broken):
    def start(self, weights, sgd, *, dtype, device):
        known = {name: value for name, value in weights.items() if name in initial_weights(0)}
        return self.inner.start(known, sgd, dtype=dtype, device=device)


class Reshapes(Broken):
    def start(self, weights, sgd, *, dtype, device):
        shapes = {name: value.shape for name, value in initial_weights(0).items()}
        fitting = {name: np.resize(value, shapes.get(name, value.shape)) for name, value in weights.items()}
        return self.inner.start(fitting, sgd, dtype=dtype, device=device)


class AnyDevice(Broken):
    def start(self, weights, sgd, *, dtype, device):
        return self.inner.start(weights, sgd, dtype=dtype, device="cpu")


class RaisesValueError(Broken):
    def start(self, weights, sgd, *, dtype, device):
        if device != "cpu":
            raise ValueError("no such device")
        return self.inner.start(weights, sgd, dtype=dtype, device=device)


class NoDtype(Broken):
    def start(self, weights, sgd, *, dtype, device):
        raise InputError("dtype", dtype, "none will do", "give up")


class StartRaises(Broken):
    def start(self, weights, sgd, *, dtype, device):
        raise RuntimeError("no")


class LiveWeights(Broken):
    def weights(self, state):
        return dict(state.parameters)


class LiveMomentum(Broken):
    def momentum(self, state):
        return dict(state.buffers) or self.inner.momentum(state)


class RenamedMomentum(Broken):
    def momentum(self, state):
        return {f"buffer of {name}": value for name, value in self.inner.momentum(state).items()}


class MomentumMissing(Broken):
    def momentum(self, state):
        return {name: value for name, value in self.inner.momentum(state).items() if name != "fc3.bias"}


class NarrowMomentum(Broken):
    def momentum(self, state):
        return {name: value.astype(np.float32) for name, value in self.inner.momentum(state).items()}


class NoZeros(Broken):
    def momentum(self, state):
        return self.inner.momentum(state) if state.buffers else {}


class ZerosWithoutMomentum(Broken):
    def momentum(self, state):
        return self.inner.momentum(dataclasses.replace(state, sgd=SGD()))


class ForgetsMomentum(Broken):
    def restore(self, state, weights, momentum):
        return self.inner.restore(state, weights, {})


class ForgetsWeights(Broken):
    def restore(self, state, weights, momentum):
        return self.inner.restore(state, self.inner.weights(state), momentum)


class ForgetsCount(Broken):
    def restore(self, state, weights, momentum):
        return dataclasses.replace(self.inner.restore(state, weights, momentum), steps=0)


class IgnoresSchedule(Broken):
    def start(self, weights, sgd, **keywords):
        return self.inner.start(weights, dataclasses.replace(sgd, schedule=None), **keywords)


class RefusesSchedules(Broken):
    def start(self, weights, sgd, **keywords):
        if sgd.schedule:
            raise InputError("schedule", sgd.schedule, "it is not offered", "leave it out")
        return self.inner.start(weights, sgd, **keywords)


class KeepsMomentum(Broken):
    def restore(self, state, weights, momentum):
        zeros = {name: np.zeros_like(value) for name, value in weights.items()}
        return self.inner.restore(state, weights, momentum or zeros)


class RestoreAliases(Broken):
    def restore(self, state, weights, momentum):
        restored = self.inner.restore(state, weights, momentum)
        alias = all(value.dtype == np.float64 for value in weights.values())
        return dataclasses.replace(restored, parameters=dict(weights)) if alias else restored


class RestoreKeepsDtype(Broken):
    def restore(self, state, weights, momentum):
        restored = self.inner.restore(state, weights, momentum)
        return dataclasses.replace(restored, parameters={name: np.array(value) for name, value in weights.items()})


class RestoreInPlace(Broken):
    def restore(self, state, weights, momentum):
        restored = self.inner.restore(state, weights, momentum)
        write(state.parameters, restored.parameters)
        return restored


def write(tensors, values):
    for name, value in values.items():
        tensors[name][...] = value


class OneLoss(Broken):
    def run(self, state, data, plan):
        state, losses = self.inner.run(state, data, plan)
        return state, losses.mean(keepdims=True)


class NarrowLosses(Broken):
    def run(self, state, data, plan):
        state, losses = self.inner.run(state, data, plan)
        return state, losses.astype(np.float32)


class LossList(Broken):
    def run(self, state, data, plan):
        state, losses = self.inner.run(state, data, plan)
        return state, losses.tolist()


class NanLosses(Broken):
    def run(self, state, data, plan):
        state, losses = self.inner.run(state, data, plan)
        return state, losses * np.nan


class NoPair(Broken):
    def run(self, state, data, plan):
        return self.inner.run(state, data, plan)[0]


class Random(Broken):
    generator = np.random.default_rng(0)

    def run(self, state, data, plan):
        after, losses = self.inner.run(state, data, plan)
        noisy = {
            name: value + 1e-15 * self.generator.normal(size=value.shape) for name, value in after.parameters.items()
        }
        return dataclasses.replace(after, parameters=noisy), losses


class NeverMoves(Broken):
    def run(self, state, data, plan):
        return state, np.array([self.inner.run(state, data, rows[np.newaxis])[1][0] for rows in plan])


class RunInPlace(Broken):
    def run(self, state, data, plan):
        after, losses = self.inner.run(state, data, plan)
        write(state.parameters, after.parameters)
        return after, losses


class ForgetsBetweenRuns(Broken):
    def run(self, state, data, plan):
        return self.inner.run(dataclasses.replace(state, buffers={}), data, plan)


class PlaceAliases(Broken):
    def place(self, state, *arrays):
        return dataclasses.replace(self.inner.place(state, *arrays), images=arrays[0])


class PlaceWrites(Broken):
    def place(self, state, *arrays):
        placed = self.inner.place(state, *arrays)
        arrays[0][...] = 0
        return placed


class RunWritesPlan(Broken):
    def run(self, state, data, plan):
        answer = self.inner.run(state, data, plan)
        plan[...] = 0
        return answer


class RunWritesData(Broken):
    def run(self, state, data, plan):
        answer = self.inner.run(state, data, plan)
        data.images[...] = 255 - data.images
        return answer


class LogitsWriteData(Broken):
    def logits(self, state, data):
        answer = self.inner.logits(state, data)
        data.images[...] = 0
        return answer


def by_position(upstream):
    """Weigh the examples by their position: 2, 1, 1, 0 of four."""
    weights = np.ones(len(upstream))
    weights[0], weights[-1] = 2, 0
    return upstream * weights[:, np.newaxis] if len(upstream) > 1 else upstream


class Logits(Broken):
    def change(self, outputs):
        return outputs

    def logits(self, state, data):
        return self.change(self.inner.logits(state, data))


class TooFewClasses(Logits):
    def change(self, outputs):
        return outputs[:, :9]


class LastMissing(Logits):
    def change(self, outputs):
        return outputs[:-1]


class NarrowLogits(Logits):
    def change(self, outputs):
        return outputs.astype(np.float32)


class Backwards(Logits):
    def change(self, outputs):
        return outputs[::-1].copy()


class Centred(Logits):
    def change(self, outputs):
        return outputs - outputs.mean(axis=0)


class LogitsInPlace(Broken):
    def logits(self, state, data):
        answer = self.inner.logits(state, data)
        state.parameters["fc3.bias"][...] += 1
        return answer


class Ensemble(Broken):
    def run_many(self, states, data, plan):
        runs = [self.inner.run(state, data, plan) for state in states]
        return tuple(state for state, _ in runs), np.stack([losses for _, losses in runs])


class EnsembleInReverse(Ensemble):
    def run_many(self, states, data, plan):
        after, losses = super().run_many(states, data, plan)
        return after[::-1], losses


class EnsembleOfOne(Ensemble):
    def run_many(self, states, data, plan):
        after, losses = super().run_many(states, data, plan)
        return after[:1], losses[:1]


class EnsembleTransposed(Ensemble):
    def run_many(self, states, data, plan):
        after, losses = super().run_many(states, data, plan)
        return after, losses.T


class Traced(Broken):
    """Records something else than it computes."""

    def change(self, trace: StepTrace) -> StepTrace:
        return trace

    def observe(self, state, data, rows):
        after, trace = self.inner.observe(state, data, rows)
        return after, self.change(trace)


class NoTrace(Traced):
    def change(self, trace):
        return None


class NoGradients(Traced):
    def change(self, trace):
        return dataclasses.replace(trace, gradients={})


class NoActivations(Traced):
    def change(self, trace):
        return dataclasses.replace(trace, activations={})


class OneGradientMissing(Traced):
    def change(self, trace):
        return dataclasses.replace(
            trace, gradients={name: g for name, g in trace.gradients.items() if name[:3] != "fc1"}
        )


class ImagesLast(Traced):
    def change(self, trace):
        return dataclasses.replace(
            trace, activations={**trace.activations, "conv1": trace.activations["conv1"].transpose(0, 2, 3, 1)}
        )


class NarrowTrace(Traced):
    def change(self, trace):
        return dataclasses.replace(trace, logits={"logits": trace.logits["logits"].astype(np.float32)})


class LossOfEach(Traced):
    def change(self, trace):
        return dataclasses.replace(trace, loss={"loss": np.full(4, trace.loss["loss"])})


class StaleWeights(Traced):
    def change(self, trace):
        return dataclasses.replace(trace, weights=trace.parameters)


class StaleMomentum(Traced):
    def change(self, trace):
        return dataclasses.replace(trace, momentum={name: 0 * value for name, value in trace.momentum.items()})


class SummedGradients(Traced):
    def change(self, trace):
        return dataclasses.replace(trace, gradients={name: 4 * value for name, value in trace.gradients.items()})


class WrongActivations(Traced):
    def change(self, trace):
        return dataclasses.replace(trace, activations={**trace.activations, "fc1": trace.activations["relu3"]})


class LiveTrace(Broken):
    def observe(self, state, data, rows):
        return self.inner._step(state, data, rows)


class ObserveInPlace(Broken):
    def observe(self, state, data, rows):
        after, trace = self.inner.observe(state, data, rows)
        write(state.parameters, after.parameters)
        return after, trace


class RunsOtherwise(Broken):
    def run(self, state, data, plan):
        other = dataclasses.replace(state, sgd=dataclasses.replace(state.sgd, momentum=0.8))
        moved, losses = self.inner.run(other, data, plan)
        return dataclasses.replace(moved, sgd=state.sgd), losses


class LossAfterUpdate(Broken):
    def run(self, state, data, plan):
        losses = []
        for rows in plan[:, np.newaxis]:
            state, _ = self.inner.run(state, data, rows)
            losses.append(self.inner.run(state, data, rows)[1][0])
        return state, np.array(losses)


class OneBatchSize(Broken):
    def run(self, state, data, plan):
        if plan.shape[1] != 4:
            raise RuntimeError("compiled for batches of 4")
        return self.inner.run(state, data, plan)


def changed(**operations):
    return Broken(Oracle(operations=Operations(**operations)))


def in_float32(parameter, gradient, buffer, sgd, step):
    parameter, buffer = sgd_update(parameter, gradient, buffer, sgd, step)
    return parameter.astype(np.float32).astype(float), buffer


def without_nesterov(parameter, gradient, buffer, sgd, step):
    return sgd_update(parameter, gradient, buffer, dataclasses.replace(sgd, nesterov=False), step)


def unclipped(gradients, sgd):
    return gradients


def decaying_biases(parameter, gradient, buffer, sgd, step):
    return sgd_update(parameter, gradient, buffer, dataclasses.replace(sgd, decay_biases=True), step)


def decay_after(parameter, gradient, buffer, sgd, step):
    moved, buffer = sgd_update(parameter, gradient, buffer, dataclasses.replace(sgd, weight_decay=0.0), step)
    return moved - sgd.lr * sgd.weight_decay * parameter, buffer


def half_at_zero(upstream, x):
    """The gradient of jnp.maximum(x, 0)."""
    return upstream * np.where(x == 0, 0.5, x > 0)


def leaky(x):
    return np.maximum(x, 0.01 * x)


over_four = changed(
    cross_entropy=lambda z, y: np.asarray(layers.cross_entropy(z, y) * len(y) / 4),
    cross_entropy_backward=lambda z, y: layers.cross_entropy_backward(z, y) * len(y) / 4,
)
weighed = changed(cross_entropy_backward=lambda z, y: by_position(layers.cross_entropy_backward(z, y)))
