"""`parity check`: planted faults must be found in their own step and stage, and honest twins must match."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import jax_impl
import torch_impl
from parity.checking import STEPS, check, check_batches
from parity.checking.ladder import climb
from parity.checking.probes import tie_probe
from parity.compare.formula import EPS, ULPS
from parity.contract import SGD, SideError, initial_weights
from parity.data import Dataset
from parity.drill.operating import average_pool
from parity.drill.updating import Configured
from parity.oracle import Operations, Oracle, impl, layers
from parity.pair import start_pair
from parity.prepare import prepare
from parity.problem import cnn_problem
from parity.settings import Settings, Side

SETTINGS = Settings(sgd=SGD(dampening=0.2, weight_decay=0.01), device="cpu")


def judged(a, b, dataset, settings=SETTINGS):
    sides = (Side(name="right", implementation=a), Side(name="wrong", implementation=b))
    return check(sides, cnn_problem(dataset, initial_weights(0)), settings)


def changed(**operations):
    return Oracle(operations=Operations(**operations))


def off_by_1e_10(upstream, images, kernel):
    by_images, by_kernel, by_bias = layers.conv2d_backward(upstream, images, kernel)
    return by_images, by_kernel * (1 + 1e-10), by_bias


FAULTS = {
    "ReLU left out": (changed(relu=lambda x: x), 0, "activations", "pool1"),
    "loss divided by 4": (
        changed(cross_entropy=lambda z, y: layers.cross_entropy(z, y) * len(y) / 4),
        5,  # the step with half the examples
        "loss",
        "loss",
    ),
    "gradients summed": (
        changed(cross_entropy_backward=lambda z, y: layers.cross_entropy_backward(z, y) * len(y)),
        0,
        "gradients",
        "fc3.bias",
    ),
    "kernel gradient off by 1e-10": (
        changed(conv2d_backward=off_by_1e_10),
        0,
        "gradients",
        "conv2.weight",
    ),
    "maximize": (
        Configured(impl, lambda sgd: dataclasses.replace(sgd, maximize=True)),
        0,
        "momentum",
        "conv1.weight",
    ),
}
"""Those that are no entries of the drill's catalogue, which is checked in tests/drill."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_in_its_own_step_stage_and_tensor(fault, small):
    side, step, stage, tensor = FAULTS[fault]
    found = judged(impl, side, small).finding
    assert found is not None
    assert (found.kind, found.step, found.place.stage, found.place.tensor) == ("formula", step, stage, tensor)
    assert found.off == ("wrong",)
    assert found.line.startswith(f"differs in formula at step {step}, {stage}")
    # A step from the other side's tensors repeats every fault but one: tensors that were loaded wrongly.
    assert (found.local <= ULPS * EPS) == (stage == "weights")


def test_the_probe_ties_in_every_window_of_one_filter_and_at_every_switch_of_another():
    labels = np.arange(4, dtype=np.int32)
    (images, _), weights = tie_probe(labels)
    state = impl.start(weights, SGD(), dtype="float64", device="cpu")
    _, seen = impl.observe(state, impl.place(state, images, labels), np.arange(4, dtype=np.int32))
    conv1 = seen.activations["conv1"]
    assert np.ptp(conv1[:, 0]) == 0 < conv1[0, 0, 0, 0]
    silent = [
        conv1[:, 1],
        seen.activations["conv2"][:, 1],
        seen.activations["fc1"][:, 0],
        seen.activations["fc2"][:, 0],
    ]
    assert not any(np.any(unit) for unit in silent)


def test_the_side_that_is_off_is_named_whichever_it_is(small):
    found = judged(changed(max_pool=average_pool), torch_impl.eager, small)
    assert found.finding.off == ("right",)
    assert found.blame.distances[1] < 1e-14 < found.blame.distances[0]
    both = judged(changed(max_pool=average_pool), changed(relu=lambda x: x), small)
    assert both.finding.off == ("right", "wrong")


TWINS = {
    "torch and JAX": (torch_impl.eager, jax_impl.impl),
    "torch's two ways": (torch_impl.eager, torch_impl.fast),
    "JAX's two ways": (jax_impl.plain, jax_impl.fast),
}


@pytest.mark.parametrize("pair", TWINS)
@pytest.mark.parametrize("batch_size", [1, 4, 17])
def test_honest_twins_match(pair, batch_size, small):
    found = judged(*TWINS[pair], small, dataclasses.replace(SETTINGS, batch_size=batch_size))
    assert found.finding is None, found.line
    assert found.line.startswith("match: ")
    assert {tensor.place.stage for tensor in found.rounding} >= {"activations", "gradients", "momentum", "update"}


@dataclass(frozen=True)
class Wrapped:
    """A side that passes everything on, its states too."""

    inner: Any

    def __getattr__(self, name):
        return getattr(self.inner, name)


@dataclass(frozen=True)
class LowPrecision:
    """A side whose forward pass is only as exact as its weights, rounded to so many bits, in float32 runs."""

    bits: int
    inner: Any = torch_impl.eager

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def observe(self, state, data, rows):
        weights = self.inner.weights(state)
        after, trace = self.inner.observe(state, data, rows)
        if weights["fc1.bias"].dtype == np.float64:
            return after, trace
        rounded = {name: significant(value, self.bits) for name, value in weights.items()}
        low = self.inner.restore(state, rounded, self.inner.momentum(state))
        after, trace = self.inner.observe(low, data, rows)
        return after, dataclasses.replace(trace, weights=weights)


def significant(value, bits):
    """Rounded to so many significant bits."""
    mantissa, exponent = np.frexp(value)
    return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits).astype(value.dtype)


@pytest.mark.parametrize("bits", [8, 11, 16])
def test_low_precision_is_no_other_formula(bits, small):
    found = judged(jax_impl.impl, LowPrecision(bits), small)
    assert found.finding.kind == "precision"
    assert found.finding.place.stage == "activations"
    assert found.finding.place.tensor == "conv1"
    assert found.finding.off == ("wrong",)
    assert found.finding.line.startswith("differs in precision at activations, conv1: wrong is off")


class RunsOtherwise(Wrapped):
    """Observes honestly, but trains with another momentum."""

    def run(self, state, data, plan):
        other = dataclasses.replace(state, sgd=dataclasses.replace(state.sgd, momentum=0.8))
        moved, losses = self.inner.run(other, data, plan)
        return dataclasses.replace(moved, sgd=state.sgd), losses


def test_a_fast_path_that_is_another_program_is_found(small):
    found = judged(impl, RunsOtherwise(impl), small).finding
    assert (found.kind, found.phase, found.off) == ("formula", "fast path", ("wrong",))
    assert "run() is not what observe() shows" in found.line


class RunsInLowPrecision(Wrapped):
    """Observes honestly, but trains from weights of so many significant bits where it computes in float32."""

    bits = 11

    def run(self, state, data, plan):
        weights = self.inner.weights(state)
        if weights["fc1.bias"].dtype == np.float32:
            rounded = {name: significant(value, self.bits) for name, value in weights.items()}
            state = self.inner.restore(state, rounded, self.inner.momentum(state))
        return self.inner.run(state, data, plan)


class RunsChunksInLowPrecision(RunsInLowPrecision):
    """In plans of several steps alone, as a program that was compiled for them may."""

    def run(self, state, data, plan):
        return super().run(state, data, plan) if len(plan) > 1 else self.inner.run(state, data, plan)


def test_a_fast_path_is_judged_on_more_than_one_step(small):
    found = judged(torch_impl.eager, RunsChunksInLowPrecision(torch_impl.eager), small).finding
    assert (found.kind, found.phase, found.off) == ("precision", "fast path", ("wrong",))


@pytest.fixture(scope="module")
def learnt(small):
    """The small set's first 40 images and weights that know them by heart: losses of 1e-3 at most."""
    few = Dataset(
        name="few",
        origin="the first of them",
        train_images=small.train_images[:40],
        train_labels=small.train_labels[:40],
        test_images=small.test_images,
        test_labels=small.test_labels,
    )
    state = torch_impl.eager.start(initial_weights(0), SGD(lr=0.01), dtype="float32", device="cpu")
    data = torch_impl.eager.place(state, few.train_images, few.train_labels)
    plan = np.concatenate([np.random.default_rng(epoch).permutation(40).reshape(10, 4) for epoch in range(60)])
    state, losses = torch_impl.eager.run(state, data, plan.astype(np.int32))
    assert losses[-10:].max() < 1e-2
    return few, torch_impl.eager.weights(state)


@pytest.mark.parametrize("swapped", [False, True])
def test_twins_match_on_examples_that_are_learnt(swapped, learnt):
    """Their losses are small differences of outputs, of which float32 keeps few digits on either side."""
    dataset, weights = learnt
    pair = (torch_impl.eager, jax_impl.impl)[:: -1 if swapped else 1]
    sides = (Side(name="a", implementation=pair[0]), Side(name="b", implementation=pair[1]))
    found = check(sides, cnn_problem(dataset, weights), SETTINGS)
    assert found.finding is None, found.line


@pytest.mark.parametrize("swapped", [False, True])
def test_a_fast_path_of_lower_precision_is_found(swapped, small):
    pair = (jax_impl.impl, RunsInLowPrecision(torch_impl.eager))
    found = judged(*(pair[::-1] if swapped else pair), small).finding
    name = "right" if swapped else "wrong"
    assert (found.kind, found.phase, found.off) == ("precision", "fast path", (name,))
    assert f"{name}'s run() is off" in found.line


def test_a_gradient_that_is_noise_in_the_first_step_alone():
    """A feature of 1e-20 in the first batch: its weight is judged from the second step on, in both precisions."""
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(64, 3)), rng.normal(size=(64, 1))
    settings = Settings(batch_size=8, device="cpu")
    features[check_batches(64, settings, 1)[0], 0] = 1e-20
    module = torch.nn.ModuleDict({name: torch.nn.Linear(n, 1) for name, n in (("faint", 1), ("plain", 2))})

    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = module

        def forward(self, x):
            return self.parts["faint"](x[:, :1]) + self.parts["plain"](x[:, 1:])

    program = Sum()
    optimizer = torch.optim.SGD(program.parameters(), lr=0.1, momentum=0.9)
    program = torch_impl.adapt(program, torch.nn.functional.mse_loss, optimizer, data=(features, targets))
    prepared = prepare(
        Side(name="a", implementation=program), Side(name="b", implementation=program), settings=settings
    )
    found = check(prepared.sides, prepared.problem, settings)
    assert found.finding is None, found.line
    zero = {rung.step: rung.zero for rung in found.rungs if str(rung.place) == "momentum, parts.faint.weight"}
    assert zero == {0: True, 1: False, 2: False, 3: False, 4: False, 5: False}
    judged = [tensor for side in found.fast_rounding for tensor in side if tensor.place.tensor == "parts.faint.weight"]
    assert judged


def test_what_a_check_keeps_does_not_grow_with_its_steps(small):
    sides = (Side(name="a", implementation=impl), Side(name="b", implementation=impl))
    settings = dataclasses.replace(SETTINGS, dtype="float64")
    pair = start_pair(sides, cnn_problem(small, initial_weights(0)), settings, "cpu")
    climbed = climb(pair, check_batches(100, settings, 5), standings=2, keep={3})
    assert len(climbed.standings) == 2
    assert [bool(taken.sides[0].parameters) for taken in climbed.taken] == [False, False, False, True, False]


class NoStage(Wrapped):
    """Records nothing in one stage, which would match anything."""

    def observe(self, state, data, rows):
        after, trace = self.inner.observe(state, data, rows)
        return after, dataclasses.replace(trace, gradients={})


class NotATrace(Wrapped):
    def observe(self, state, data, rows):
        return self.inner.observe(state, data, rows)[0]


class Raises(Wrapped):
    def observe(self, state, data, rows):
        raise RuntimeError("the user's own fault")


@pytest.mark.parametrize(
    ("side", "problem"),
    [
        (NoStage(impl), r"observe\(\) recorded nothing as gradients"),
        (NotATrace(impl), r"observe\(\) did not return a state and a StepTrace"),
        (Raises(impl), r"observe\(\) raised RuntimeError: the user's own fault"),
    ],
)
def test_a_side_that_breaks_the_protocol_is_an_error_and_no_verdict(side, problem, small):
    with pytest.raises(SideError, match=f"wrong: {problem}"):
        judged(impl, side, small)


class KeepsTwoSlots(Wrapped):
    """Keeps a second tensor for each parameter, as Adam does, for which the other side has no place."""

    def momentum(self, state):
        slots = self.inner.momentum(state)
        return {**slots, **{f"{name}:2": np.ones_like(value) for name, value in slots.items()}}

    def restore(self, state, weights, momentum):
        return self.inner.restore(state, weights, {name: v for name, v in momentum.items() if ":" not in name})

    def observe(self, state, data, rows):
        after, trace = self.inner.observe(state, data, rows)
        return after, dataclasses.replace(trace, momentum=self.momentum(after))


@pytest.mark.parametrize("second", [impl, torch_impl.eager])
def test_a_first_side_with_more_optimizer_tensors_is_a_finding_and_no_error(second, small):
    found = judged(KeepsTwoSlots(impl), second, small).finding
    assert (found.kind, found.step, str(found.place)) == ("formula", 0, "momentum, conv1.weight, slot 2")
    assert found.off == ("right",)


class ForgetsAnActivation(Wrapped):
    def observe(self, state, data, rows):
        after, trace = self.inner.observe(state, data, rows)
        activations = {name: value for name, value in trace.activations.items() if name != "conv2"}
        return after, dataclasses.replace(trace, activations=activations)


class NotANumber(Wrapped):
    def observe(self, state, data, rows):
        after, trace = self.inner.observe(state, data, rows)
        return after, dataclasses.replace(trace, logits={"logits": np.full_like(trace.logits["logits"], np.nan)})


def test_a_stage_that_one_side_does_not_record_is_never_a_match(small):
    found = judged(impl, ForgetsAnActivation(impl), small).finding
    assert (found.place.stage, found.place.tensor) == ("activations", "conv2")
    assert "only one side has it" in found.line


@pytest.mark.parametrize("first", [impl, NotANumber(impl)])
def test_nan_is_never_a_match_not_even_on_both_sides(first, small):
    found = judged(first, NotANumber(impl), small).finding
    assert (found.place.stage, found.place.tensor) == ("logits", "logits")
    assert "it is not finite" in found.line


def test_the_batches_are_the_loaders_with_one_cut_in_half():
    batches = check_batches(102, Settings(batch_size=4), STEPS)
    assert [len(rows) for rows in batches] == [4, 4, 4, 4, 4, 2]
    assert [len(rows) for rows in check_batches(5, Settings(batch_size=4), 5)] == [4, 1, 4, 1, 2]
