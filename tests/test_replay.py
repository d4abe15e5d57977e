"""Going back to where two sides part: the step, its cause, and what a run makes of it."""

import dataclasses
import itertools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import jax_impl
import torch_impl
from parity.compare import Gap, Outcome, Spread, StateGap, find_flips, largest_gap
from parity.contract import SGD, Stream, initial_weights
from parity.oracle import impl
from parity.pair import Pair, start_pair
from parity.problem import cnn_problem
from parity.run import run_sides
from parity.running.replay import Parting, local_finding, replay
from parity.running.watch import Watch
from parity.settings import Settings, Side

PLAN = np.arange(100, dtype=np.int32).reshape(25, 4)


def oracles(dataset, lr=0.001):
    sides = (Side(name="one", implementation=impl), Side(name="other", implementation=impl))
    settings = Settings(sgd=SGD(lr=lr), dtype="float64")
    return start_pair(sides, cnn_problem(dataset, initial_weights(0)), settings, "cpu")


def moved(weights, size, seed=0):
    """Every weight moved by up to a relative `size`: what rounding does, in numbers that the oracle can hold."""
    stream = Stream(seed)
    return {
        name: value * (1 + size * (2 * stream.uniform(value.size) - 1).reshape(value.shape))
        for name, value in weights.items()
    }


def test_sides_that_stay_together_do_not_part(small):
    assert replay(oracles(small), PLAN, first_step=0, dtype="float64") is None


@pytest.mark.parametrize("seed", range(3))
def test_the_flip_is_found_at_its_step(seed, small):
    """Weights up to 3e-5 apart, judged as float32: rounding enough for a flip within some steps."""
    pair = oracles(small, lr=0.01)
    other = pair.lanes[1].restore(pair.states[1], moved(initial_weights(0), 3e-5, seed), {})
    pair = Pair(lanes=pair.lanes, states=(pair.states[0], other), problem=pair.problem)
    found = replay(pair, PLAN, first_step=1000, dtype="float32")
    assert found is not None
    parting, _before = found
    assert parting.explained
    assert parting.finding is None
    assert parting.gap > 8 * parting.before
    for number, rows in enumerate(PLAN):
        _, (a, b) = pair.observe(rows)
        flips = find_flips(a, b)
        gap = largest_gap(a.gradients, b.gradients).difference
        if number == parting.step - 1000:
            assert flips == parting.flips
            assert gap == parting.gap
            assert all(flip.a * flip.b <= 0 for flip in flips)
            break
        assert gap <= max(8 * parting.before, 64 * np.finfo(np.float32).eps)
        pair = pair.run(rows[np.newaxis])


@dataclass(frozen=True)
class Counted:
    inner: Any
    late: Any
    steps: int


@dataclass(frozen=True)
class Late:
    """A side with other hyper-parameters from one step on."""

    step: int
    changes: tuple[tuple[str, Any], ...]
    inner: Any = impl

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def start(self, weights, sgd, *, dtype, device):
        def started(sgd):
            return self.inner.start(weights, sgd, dtype=dtype, device=device)

        return Counted(started(sgd), started(dataclasses.replace(sgd, **dict(self.changes))), 0)

    def restore(self, state, weights, momentum):
        return dataclasses.replace(state, inner=self.inner.restore(state.inner, weights, momentum))

    def _step(self, state, take):
        """Late steps are taken by the other program, from the same tensors."""
        if state.steps < self.step:
            inner, seen = take(state.inner)
            return Counted(inner, state.late, state.steps + 1), seen
        tensors = self.inner.weights(state.inner), self.inner.momentum(state.inner)
        late, seen = take(self.inner.restore(state.late, *tensors))
        inner = self.inner.restore(state.inner, self.inner.weights(late), self.inner.momentum(late))
        return Counted(inner, state.late, state.steps + 1), seen

    def run(self, state, data, plan):
        losses = []
        for rows in plan:
            state, loss = self._step(state, lambda inner, rows=rows: self.inner.run(inner, data, rows[np.newaxis]))
            losses.append(loss)
        return state, np.concatenate(losses)

    def observe(self, state, data, rows):
        return self._step(state, lambda inner: self.inner.observe(inner, data, rows))

    def place(self, state, *arrays):
        return self.inner.place(state.inner, *arrays)

    def describe(self, state):
        return self.inner.describe(state.inner)

    def logits(self, state, data):
        return self.inner.logits(state.inner, data)

    def weights(self, state):
        return self.inner.weights(state.inner)

    def momentum(self, state):
        return self.inner.momentum(state.inner)


LATE = {
    "another lr": ((("lr", 0.0005),), "update", "has a learning rate of 0.0005, 0.5 times the 0.001 that is meant"),
    "weight decay": ((("weight_decay", 1e-6),), "momentum", "decays weights by 1e-06, not 0"),
    "another momentum": ((("momentum", 0.9 + 1e-6),), "momentum", "has a momentum of 0.900001, not 0.9"),
}


@pytest.mark.parametrize("fault", LATE)
@pytest.mark.parametrize("step", [7, 73, 231])
def test_a_fault_that_begins_in_mid_run_is_named_with_its_step_and_stage(fault, step, small):
    """231 is beyond the steps that the float64 bound is applied to: there the states' gap must jump."""
    changes, stage, cause = LATE[fault]
    sides = [Side(name="right", implementation=impl), Side(name="wrong", implementation=Late(step, changes))]
    settings = Settings(dtype="float64", epochs=12, steps=step + 40)
    report = run_sides(sides, small, settings).report
    assert report.judgement.outcome is Outcome.DIFFERS
    found = report.judgement.parting.finding
    assert (found.kind, found.step, found.place.stage) == ("formula", step, stage)
    assert report.judgement.line.startswith(f"differs in formula at step {step}, {stage}, ")
    assert report.judgement.line.endswith(f"; cause: wrong {cause}")
    assert report.ending.exit_code == 1


@pytest.fixture(scope="module")
def float32_run(small):
    """The twins in float32, long enough and fast enough a rate for a flip."""
    sides = [
        Side(name="torch_impl", implementation=torch_impl.eager),
        Side(name="jax_impl", implementation=jax_impl.impl),
    ]
    settings = Settings(sgd=SGD(lr=0.01), epochs=40, device="cpu")
    return run_sides(sides, small, settings, ensemble=3).report


def test_float32_twins_stay_inside_their_envelope_and_the_flip_is_named(float32_run):
    judgement = float32_run.judgement
    assert judgement.outcome is Outcome.MATCH
    assert judgement.outside is None
    assert judgement.parting.explained
    assert judgement.envelope.side == "jax_impl"
    assert judgement.envelope.members == 3
    horizon = judgement.envelope.horizon
    assert 0 < horizon <= judgement.parting.step  # a member may part before the pair does
    assert judgement.line.endswith(f"(up to step {horizon:,}, then as distributions)")
    figures = judgement.envelope.distributions
    assert all(figure.inside for figure in figures)
    assert [figure.among for figure in figures] == [1, 1, *[10] * 10]  # all classes, agreement, the single classes


@pytest.mark.parametrize("steps", [600, 40])
def test_a_fault_that_begins_after_a_flip_is_found_too(steps, float32_run, small):
    """From its own step, by steps that both sides take from one state: the gap between the sides says nothing there."""
    begin = float32_run.judgement.parting.step + 200
    sides = [
        Side(name="torch_impl", implementation=torch_impl.eager),
        Side(name="late", implementation=Late(begin, (("momentum", 0.89),), jax_impl.impl)),
    ]
    settings = Settings(sgd=SGD(lr=0.01), epochs=40, steps=begin + steps, device="cpu")
    judgement = run_sides(sides, small, settings).report.judgement
    assert judgement.parting.explained
    assert judgement.parting.step < begin
    assert judgement.outcome is Outcome.DIFFERS
    # A program that begins in float64 has not counted the steps before: which of the two it is remains open.
    assert judgement.line.startswith(f"differs at step {begin}, momentum, ")
    assert judgement.line.endswith("a lower precision, or something that counts steps")


def test_a_report_with_a_parting_can_be_written(float32_run):
    assert json.loads(float32_run.to_json())["judgement"]["parting"]["step"] == float32_run.judgement.parting.step


@dataclass(frozen=True)
class Jitters:
    """The oracle, whose steps begin from weights up to 1e-7 away: rounding, as float32 has it."""

    inner: Any = impl

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def observe(self, state, data, rows):
        weights, momentum = self.inner.weights(state), self.inner.momentum(state)
        return self.inner.observe(self.inner.restore(state, moved(weights, 1e-7), momentum), data, rows)


def at_a_switch(pair, rows, sample, offset=0.0):
    """The pair with one unit of fc1 on its switch for one example: a unit whose gradient is large."""
    _, (seen, _) = pair.observe(rows)
    weights, buffers = pair.lanes[0].tensors(pair.states[0])
    moved_bias = weights["fc1.bias"].copy()
    unit = int(np.abs(seen.gradients["fc1.bias"]).argmax())
    moved_bias[unit] -= seen.activations["fc1"][sample, unit] + offset
    return pair.restore({**weights, "fc1.bias": moved_bias}, buffers)


def test_null_runs_that_flip_accuse_nobody_and_excuse_nothing(small):
    """The sides are the same program; their null runs pass the switch where they do not."""
    start, rows = oracles(small, lr=0.01).run(PLAN[:3]), PLAN[3]
    flipped = 0
    for sample, offset in itertools.product(range(4), (1e-17, -1e-17, 3e-17, -3e-17)):
        pair = at_a_switch(start, rows, sample=sample, offset=offset)
        (a, _), (null, _) = (each.observe(rows)[1] for each in (pair, pair.nudged(seed=0, dtype="float64")))
        flipped += bool(find_flips(a, null))
        assert local_finding(pair, rows, step=3, dtype="float64") is None
        other = dataclasses.replace(pair.states[1], sgd=SGD(lr=0.01, momentum=0.9001))  # less than a flip does
        found = local_finding(pair.at([pair.states[0], other]), rows, step=3, dtype="float64")
        assert found.place.stage == "momentum"
    assert flipped >= 4


@pytest.mark.parametrize("momentum", [0.9, 0.89])
def test_a_fault_in_the_same_step_as_a_flip_is_found(momentum, small):
    """A unit that stands on its switch in one image flips in that step; it must not excuse what the optimizer does."""
    settings = Settings(sgd=SGD(lr=0.01), dtype="float64")
    problem = cnn_problem(small, initial_weights(0))
    lanes = [Side(name="right", implementation=impl), Side(name="jitters", implementation=Jitters())]
    pair = start_pair(tuple(lanes), problem, settings, "cpu").run(PLAN[:3])
    rows = PLAN[3]
    pair = at_a_switch(pair, rows, sample=1)
    together = pair.resynchronised()
    a, b = together.comparable(*together.observe(rows)[1])
    assert {flip.sample for flip in find_flips(a, b)} == {1}
    assert largest_gap(a.gradients, b.gradients).difference > 1e-3  # no rounding: the flip excuses it
    other = dataclasses.replace(settings.sgd, momentum=momentum)
    faulty = dataclasses.replace(pair.states[1], sgd=other)
    found = local_finding(pair.at([pair.states[0], faulty]), rows, step=3, dtype="float32")
    assert (found.place.stage if found else None) == (None if momentum == 0.9 else "momentum")


@dataclass(frozen=True)
class Drifts:
    """Observes honestly, but its runs in `dtype` end with other weights: scaled, or with noise of that size."""

    inner: Any
    by: float
    dtype: str = "float32"
    noise: bool = False
    after: int = 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def run(self, state, data, plan):
        after, losses = self.inner.run(state, data, plan)
        weights = self.inner.weights(after)
        if weights["fc1.bias"].dtype != self.dtype:
            return after, losses
        further = moved(weights, self.by) if self.noise else {name: v * (1 + self.by) for name, v in weights.items()}
        return self.inner.restore(after, further, self.inner.momentum(after)), losses


@pytest.mark.parametrize(("by", "noise"), [(1e-5, False), (1e-4, True), (1e-2, True)])
def test_a_gap_that_no_step_explains_is_outside_the_envelope(by, noise, small):
    """`observe` is honest, so no stage shows why, and the flips that the drift leads to do not excuse it."""
    sides = [
        Side(name="torch_impl", implementation=torch_impl.eager),
        Side(name="drifts", implementation=Drifts(torch_impl.eager, by, noise=noise)),
    ]
    report = run_sides(sides, small, Settings(epochs=1, device="cpu"), ensemble=2).report
    assert report.judgement.outcome is Outcome.DIFFERS
    assert report.judgement.line.startswith("differs after 25 steps: the parameters are ")
    assert report.ending.exit_code == 1


@pytest.mark.parametrize(
    ("explained", "apart", "excused"), [(True, 1e-9, True), (False, 1e-9, False), (True, 1e-3, False)]
)
def test_only_a_flip_that_came_inside_the_envelope_excuses_leaving_it(explained, apart, excused):
    """Runs one ulp apart are 1e-9 apart here, the pair is 0.1."""
    watch = Watch(Settings(), "cpu")
    watch.parting = Parting(step=10, before=1e-9, gap=1e-2, apart=apart, flips=(), finding=None, explained=explained)
    gap = StateGap(steps=50, parameters=Gap(difference=0.1, tensor="w"), momentum=None)
    spread = Spread(steps=50, members=(1e-9, 1e-9))
    watch.look(None, np.zeros((50, 4), np.int32), None, gap, spread)
    assert (watch.outside is None) == excused


class DriftsLate(Late):
    """Observes honestly, but every run that ends after `step` ends with other weights."""

    def run(self, state, data, plan):
        inner, losses = self.inner.run(state.inner, data, plan)
        steps = state.steps + len(plan)
        if steps > self.step:
            further = {name: value * 1.05 for name, value in self.inner.weights(inner).items()}
            inner = self.inner.restore(inner, further, self.inner.momentum(inner))
        return Counted(inner, state.late, steps), losses

    def observe(self, state, data, rows):
        inner, trace = self.inner.observe(state.inner, data, rows)
        return Counted(inner, state.late, state.steps + 1), trace


def test_float64_states_that_part_late_and_without_a_flip_differ_also_without_an_ensemble(small):
    sides = [Side(name="right", implementation=impl), Side(name="drifts", implementation=DriftsLate(210, ()))]
    report = run_sides(sides, small, Settings(dtype="float64", epochs=12)).report
    assert report.verdict.outcome is Outcome.MATCH
    assert report.judgement.outcome is Outcome.DIFFERS
    assert "no flip explains it" in report.judgement.line
