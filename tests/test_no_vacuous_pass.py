"""Zero comparisons, NaN, a crashed side, an empty stage, a slack that anything fits into: never a match."""

import dataclasses

import numpy as np
import pytest

import torch_impl
from parity.checking import check
from parity.checking.double import _probe_ties, compare_double
from parity.checking.fast_path import fast_finding, make_rung
from parity.checking.ladder import climb
from parity.compare import Outcome, Rung, StateGap, compare_formula, first_unproved, judge, judge_rounding
from parity.compare.formula import EPS, ULPS
from parity.compare.measure import Gap
from parity.compare.rounding import Errors, Rounding
from parity.compare.stages import Stage
from parity.contract import SGD, InputError, SideError, StepTrace, initial_weights
from parity.oracle import impl
from parity.pair import start_pair
from parity.problem import Problem, cnn_problem
from parity.render.check import check_lines, stage_table
from parity.run import run_sides
from parity.running.history import EnsembleRun
from parity.running.judgement import Truth, judge_run
from parity.running.lockstep import train
from parity.running.watch import Outside
from parity.settings import Settings, Side
from parity.testing import DisparityError, assert_parity
from tests import fakes
from tests.test_check import ForgetsAnActivation, NotANumber, Raises, Wrapped
from tests.torch_impl import programs

SETTINGS = Settings(sgd=SGD(dampening=0.2, weight_decay=0.01), device="cpu")


def sides(a, b):
    return Side(name="a", implementation=a), Side(name="b", implementation=b)


def checked(a, b, dataset, settings=SETTINGS, **keywords):
    return check(sides(a, b), cnn_problem(dataset, initial_weights(0)), settings, **keywords)


def trace(**changes):
    """A step of a model with two weights; honest beside itself."""
    stages = {
        "batch": {"0": np.ones(2)},
        "weights": {"w": np.array([1.0, 2.0])},
        "activations": {"h": np.array([0.5])},
        "logits": {"logits": np.array([0.3])},
        "loss": {"loss": np.array(0.7)},
        "gradients": {"w": np.array([0.1, -0.2])},
        "momentum": {"w": np.array([0.1, -0.2])},
        "parameters": {"w": np.array([0.9, 2.2])},
    }
    return StepTrace(**{**stages, **changes})


def broken(a, b, **keywords):
    return {str(rung.place): rung.problem for rung in compare_formula(0, a, b, **keywords) if rung.broken}


def vacuous(a, b, **keywords):
    return {str(rung.place): rung.problem for rung in compare_formula(0, a, b, **keywords) if rung.vacuous}


def test_a_step_beside_itself_matches():
    """What the following tests change one thing of."""
    assert not broken(trace(), trace())


class Same(Wrapped):
    """What both sides are, so that they agree in everything that they do."""

    def observe(self, state, data, rows):
        after, seen = self.inner.observe(state, data, rows)
        return after, self.changed(seen)

    def changed(self, seen):
        return seen


# Zero steps, zero comparisons.


@pytest.mark.parametrize("steps", [0, -1])
def test_zero_steps(steps, small):
    with pytest.raises(InputError, match=f"^steps {steps}: nothing would be compared"):
        checked(torch_impl.eager, torch_impl.eager, small, steps=steps)
    with pytest.raises(InputError, match=f"^steps {steps}: "):
        Settings(steps=steps)


@pytest.mark.parametrize("steps", [[], [{}], [{}, {}]])
def test_no_float32_comparison(steps):
    with pytest.raises(ValueError, match="no step was compared"):
        judge_rounding(steps)


def test_no_loss_and_no_state():
    with pytest.raises(ValueError, match="no step was compared"):
        judge(np.empty(0), np.empty(0), [])


def test_a_tensor_that_is_zero_in_the_first_step_is_still_judged_in_float32():
    place = Stage(stage="gradients", tensor="late")
    errors = Errors(a=1e-7, b=1e-3, apart=1e-3, null=1e-7, floor=1e-7)
    (rounding,) = judge_rounding([{}, {place: errors}])
    assert rounding.place == place
    assert rounding.broken


def test_a_tensor_missing_from_one_step_is_no_outlier_unless_it_was_left_out():
    place = Stage(stage="gradients", tensor="w")
    honest = {place: Errors(a=1e-7, b=1e-7, apart=1e-7, null=1e-7, floor=1e-7)}
    (missing,) = judge_rounding([honest, honest, {}, honest, honest])
    assert missing.broken
    assert missing.errors.b == np.inf
    (left_out,) = judge_rounding([{}, honest], [frozenset({"w"}), frozenset()])
    assert (left_out.broken, left_out.steps) == (False, 1)


def test_steps_that_say_nothing_are_left_out_where_others_say_something():
    place = Stage(stage="loss", tensor="loss")
    nothing = {place: Errors(a=0.5, b=0.9, apart=0.5, null=0.1, floor=2.0)}
    honest = {place: Errors(a=1e-6, b=1e-6, apart=1e-6, null=1e-7, floor=1e-6)}
    off = {place: Errors(a=1e-6, b=1e-3, apart=1e-3, null=1e-7, floor=1e-6)}
    (found,) = judge_rounding([nothing, nothing, nothing, nothing, honest])
    assert (found.judged, found.broken, found.steps) == (True, False, 1)
    (found,) = judge_rounding([nothing, nothing, nothing, off, off])
    assert (found.judged, found.broken) == (True, True)
    (found,) = judge_rounding([nothing] * 5)
    assert not found.judged


class NeverUpdates(Same):
    """Its loss does not depend on its parameters: every gradient is 0."""

    def changed(self, seen):
        zeros = {name: np.zeros_like(value) for name, value in seen.gradients.items()}
        return dataclasses.replace(seen, gradients=zeros, momentum=zeros, parameters=seen.weights)


def test_one_update_that_is_zero_on_both_sides_is_equal():
    still = trace(parameters=trace().weights)
    assert not broken(still, still)
    assert "update, w" in broken(still, trace())


def test_gradients_that_are_all_zero(small):
    side = NeverUpdates(torch_impl.eager)
    found = checked(side, side, small, Settings(device="cpu"))
    assert found.line == ("undecided at gradients: all are 0 in every step, so that no other formula would show")


# NaN.


@pytest.mark.parametrize("stage", ["batch", "weights", "activations", "logits", "loss", "gradients", "momentum"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_on_one_side_or_both(stage, value):
    bad = trace(**{stage: {name: array * value for name, array in getattr(trace(), stage).items()}})
    for a, b in ((trace(), bad), (bad, trace()), (bad, bad)):
        assert "it is not finite" in broken(a, b).values()


@pytest.mark.parametrize("first", [torch_impl.eager, NotANumber(torch_impl.eager)])
def test_nan_in_a_check(first, small):
    found = checked(first, NotANumber(torch_impl.eager), small)
    assert found.line.startswith("undecided at") or found.line.startswith("differs in formula at step 0, logits")
    assert "it is not finite" in found.line


@pytest.mark.parametrize("errors", [(np.inf, 1e-7), (1e-7, np.inf), (np.inf, np.inf), (np.nan, np.nan)])
def test_a_float32_run_that_is_not_finite(errors):
    a, b = errors
    place = Stage(stage="logits", tensor="logits")
    for null in (1e-7, np.inf):
        found = Errors(a=a, b=b, apart=np.inf, null=null, floor=max(null, 1e-7))
        assert Rounding(place=place, errors=found, spread=found.spread, steps=1).broken


def test_nan_losses_in_a_run(small):
    result = run_sides(sides(fakes.turns_nan, fakes.turns_nan), small, Settings(dtype="float64", device="cpu"))
    assert result.report.ending.exit_code == 1
    assert result.report.ending.kind == "not finite"


# A crashed side.


def test_a_crashed_side(small):
    for pair in ((torch_impl.eager, Raises(torch_impl.eager)), (Raises(torch_impl.eager), torch_impl.eager)):
        with pytest.raises(SideError, match="the user's own fault"):
            checked(*pair, small)
        with pytest.raises(SideError, match="the user's own fault"):
            assert_parity(*pair, data=small, settings=SETTINGS)


# Empty stages.


@pytest.mark.parametrize("stage", ["batch", "weights", "logits", "loss", "gradients", "parameters"])
def test_a_stage_that_both_leave_empty_breaks_the_protocol(stage, small):
    class Empty(Same):
        def changed(self, seen):
            return dataclasses.replace(seen, **{stage: {}})

    with pytest.raises(SideError, match=f"recorded nothing as {stage}"):
        checked(Empty(torch_impl.eager), Empty(torch_impl.eager), small)


class NoActivations(Same):
    def changed(self, seen):
        return dataclasses.replace(seen, activations={})


def test_activations_that_both_leave_out(small):
    found = checked(NoActivations(torch_impl.eager), NoActivations(torch_impl.eager), small)
    assert found.line.startswith("undecided at activations: nothing was compared")


def test_tensors_without_elements():
    empty = trace(gradients={"w": np.empty(0)}, logits={"logits": np.empty((0, 10))})
    rungs = {str(rung.place): rung for rung in compare_formula(0, empty, empty)}
    assert rungs["logits"].zero
    assert rungs["gradients, w"].zero


def test_a_ladder_on_which_only_zeros_stand(small):
    class NoLogits(Same):
        def changed(self, seen):
            return dataclasses.replace(seen, logits={"logits": np.empty((0, 10))})

    found = checked(NoLogits(torch_impl.eager), NoLogits(torch_impl.eager), small)
    assert found.line.startswith("undecided at logits: nothing was compared")


def test_an_evaluation_of_nothing():
    program = programs.mlp()
    weights, data = program.example()
    problem = Problem(train=data, test=tuple(array[:0] for array in data), weights=weights)

    class Evaluates(Wrapped):
        """Also where there is nothing; the program itself refuses."""

        def place(self, state, *arrays):
            return self.inner.place(state, *arrays) if len(arrays[0]) else None

        def logits(self, state, data):
            return np.empty((0, 2))

    found = check(sides(Evaluates(program), Evaluates(program)), problem, Settings(device="cpu"))
    assert found.finding.place.stage == "evaluation"


class StaleTrace(Same):
    """Records its first step again and again."""

    def __init__(self, inner):
        super().__init__(inner)
        object.__setattr__(self, "seen", [])

    def changed(self, seen):
        self.seen.append(seen)
        return self.seen[0]


def test_a_stale_trace_of_both(small):
    found = checked(StaleTrace(torch_impl.eager), StaleTrace(torch_impl.eager), small)
    assert (found.finding.kind, found.finding.phase) == ("formula", "fast path")


# Missing tensors.


@pytest.mark.parametrize("stage", ["batch", "weights", "activations", "logits", "loss", "gradients", "parameters"])
def test_a_tensor_that_one_side_does_not_have(stage):
    ones = {"more": np.ones(2)}
    less = trace(weights={**trace().weights, **ones}) if stage == "gradients" else trace()
    less = dataclasses.replace(less, parameters={**less.parameters, **ones}) if stage == "gradients" else less
    more = dataclasses.replace(less, **{stage: {**getattr(less, stage), **ones}})
    assert "only one side has it" in broken(less, more).values()
    assert "only one side has it" in broken(more, less).values()


def test_missing_momentum_stands_at_zero():
    without = trace(momentum={})
    assert "momentum, w" in broken(trace(), without)
    assert "momentum, w" in broken(without, trace())


def test_an_activation_that_one_side_forgets(small):
    found = checked(ForgetsAnActivation(torch_impl.eager), torch_impl.eager, small)
    assert "only one side has it" in found.line


class HidesMomentum(Wrapped):
    """observe() shows none, run() has some: on both sides alike."""

    def observe(self, state, data, rows):
        after, seen = self.inner.observe(state, data, rows)
        return after, dataclasses.replace(seen, momentum={})


class LosesMomentum(Wrapped):
    """momentum() returns none, observe() shows some: on both sides alike."""

    def momentum(self, state):
        return {}


@pytest.mark.parametrize("hidden", [HidesMomentum(torch_impl.eager), LosesMomentum(torch_impl.eager)])
def test_momentum_that_observe_and_run_show_differently(hidden, small):
    found = checked(hidden, hidden, small)
    assert found.finding.phase == "fast path"
    assert found.finding.place.stage == "momentum"
    assert "only one side has it" in found.line


# A slack above the tensor's own scale.


def test_a_null_level_above_the_tensors_own_size():
    null = trace(gradients={"w": np.array([0.2, 0.3])})
    assert "times its own size" in vacuous(trace(), trace(), null=(null, null))["gradients, w"]
    assert not broken(trace(), trace(), null=(null, null))


def test_an_update_below_the_parameters_last_place():
    weights = {"w": np.array([1.0, 2.0])}
    moved = {"w": np.array([1.0, 2.0 + 2 * EPS])}
    seen = trace(weights=weights, parameters=moved)
    assert "times its own size" in vacuous(seen, seen)["update, w"]


def test_a_loss_that_is_nothing_but_rounding_says_nothing():
    """Exactly 0 on one side, an ulp of the outputs on the other."""
    sides = [trace(loss={"loss": np.array(loss)}) for loss in (0.0, 3e-16)]
    for a, b in (sides, reversed(sides)):
        assert {"loss", "gradients, w"} <= set(vacuous(a, b))
    assert not vacuous(sides[0], sides[0])


@pytest.mark.parametrize("loss", [0.0, 3e-16])
def test_a_side_that_has_lost_its_loss_does_not_widen_its_own_allowance(loss):
    lost = trace(loss={"loss": np.array(loss)})
    for a, b in ((lost, trace()), (trace(), lost)):
        assert set(broken(a, b)) == {"loss"}
        assert not vacuous(a, b)


def sure_of(label, margin=35.0):
    """Weights by which every image is of one class: e^-35 is so little beside 1 that no digit of its loss is left."""
    weights = initial_weights(0)
    return {**weights, "fc3.bias": weights["fc3.bias"] + margin * (np.arange(10) == label).astype(np.float32)}


def sure_problem(dataset, labels):
    images = len(dataset.train_labels)
    labels = np.resize(np.asarray(labels, np.uint8), images)
    learnt = dataclasses.replace(dataset, train_labels=labels)
    return cnn_problem(learnt, sure_of(3))


def test_a_step_that_says_nothing_is_left_out_where_others_say_something(small):
    problem = sure_problem(small, [3, 5])
    settings = dataclasses.replace(SETTINGS, sgd=SGD(lr=1e-4, momentum=0.9), batch_size=1)
    found = check(sides(torch_impl.eager, impl), problem, settings)
    assert found.line.startswith("match"), found.line
    losses = [rung for rung in found.rungs if rung.place.stage == "loss"]
    assert {rung.vacuous for rung in losses} == {True, False}
    assert any(line.startswith("left out at step") and "loss" in line for line in stage_table(found, ("a", "b")))


def test_a_loss_that_no_step_says_anything_of(small):
    problem = sure_problem(small, [3])
    settings = dataclasses.replace(SETTINGS, sgd=SGD(lr=1e-4), batch_size=1)
    found = check(sides(torch_impl.eager, impl), problem, settings)
    assert found.line.startswith("undecided at step 0, loss: rounding alone may move it by")
    assert any("noise" in line for line in stage_table(found, ("a", "b")))


def test_a_tensor_is_proved_by_any_step_that_says_something_of_it():
    place, other = Stage(stage="loss", tensor="loss"), Stage(stage="gradients", tensor="w")
    noise, clear = (
        Rung(step=step, place=place, difference=0.1, allowed=allowed, problem=problem)
        for step, allowed, problem in ((0, 2.0, "noise"), (1, 0.2, None))
    )
    zero = dataclasses.replace(clear, zero=True)
    elsewhere = dataclasses.replace(clear, place=other)
    assert first_unproved([noise, clear]) is None
    assert first_unproved([noise, elsewhere]) == noise
    assert first_unproved([noise, zero]) == noise
    assert first_unproved([zero]) is None


def test_a_fast_path_of_which_nothing_can_be_said():
    noise = make_rung(0, Stage(stage="momentum", tensor="w"), np.ones(2), np.ones(2), moved=[(np.ones(2), np.zeros(2))])
    found = fast_finding(("a", "b"), ((), (noise,)))
    assert (found.kind, found.off) == ("undecided", ())
    assert found.detail.startswith("b's run() beside its observe(): rounding alone may move it by 8.0 times")


def test_ties_of_which_nothing_can_be_said(small):
    """Updates below the parameters' last place."""
    settings = dataclasses.replace(SETTINGS, sgd=SGD(lr=1e-20), dtype="float64")
    pair = start_pair(sides(impl, impl), cnn_problem(small, initial_weights(0)), settings, "cpu")
    found = compare_double(pair, [np.arange(4, dtype=np.int32)], settings, standings=0)
    assert found.finding.line.startswith("undecided at update: all are 0 in every step")
    probed = _probe_ties(pair, np.arange(4, dtype=np.int32), settings, None)
    assert probed.finding.line.startswith("undecided at tie probe, step 0, update, conv1.weight: rounding alone")


class Guesses(Wrapped):
    """Its outputs for test examples hang on the last bit of its weights."""

    def logits(self, state, data):
        outputs = self.inner.logits(state, data)
        seed = np.frombuffer(b"".join(value.tobytes() for value in self.inner.weights(state).values()), np.uint32)
        return np.random.default_rng(seed).normal(size=outputs.shape).astype(outputs.dtype)


def test_an_evaluation_of_which_nothing_can_be_said(small):
    found = checked(Guesses(impl), Guesses(impl), small)
    assert found.line.startswith("undecided at step 6, evaluation, logits: rounding alone may move it by")


class Unstable(Wrapped):
    """Its float64 outputs hang on the last bit of its weights, by 1e-6 of their size."""

    def observe(self, state, data, rows):
        after, seen = self.inner.observe(state, data, rows)
        seed = np.frombuffer(b"".join(value.tobytes() for value in seen.weights.values()), np.uint32)
        logits = seen.logits["logits"]
        random = np.random.default_rng(seed).normal(size=logits.shape)
        return after, dataclasses.replace(seen, logits={"logits": logits * (1 + 1e-6 * random)})


@pytest.mark.parametrize("pair", [(Unstable(impl), impl), (impl, Unstable(impl))])
def test_a_side_that_amplifies_rounding_does_not_widen_its_own_allowance(pair, small):
    found = checked(*pair, small).finding
    assert found is not None
    assert (found.phase, str(found.place)) == ("", "logits")  # the tie probe has no null run
    assert found.allowed == ULPS * EPS


def test_a_gradient_that_comes_back_is_judged_again():
    """Zero but for rounding in one step; in the next its momentum must match, if the weights still do."""
    weights = {"w": np.array([1.0, 2.0]), "v": np.array([3.0, 4.0])}
    gradients = {"w": np.array([0.1, -0.2]), "v": np.array([0.3, 0.1])}
    honest = trace(weights=weights, gradients=gradients, momentum=gradients, parameters=weights)
    other = trace(
        weights=weights, gradients=gradients, momentum={**gradients, "v": np.array([0.6, 0.2])}, parameters=weights
    )
    skipped = frozenset({"v"})
    assert set(broken(honest, other, unjudged=skipped)) == {"momentum, v"}
    drifted = dataclasses.replace(other, weights={**weights, "v": np.array([3.0, 4.0 + 1e-9])})
    assert "momentum, v" not in broken(honest, drifted, unjudged=skipped)
    vanishing = {**gradients, "v": np.array([1e-17, 0.0])}
    again = [dataclasses.replace(side, gradients=vanishing) for side in (honest, other)]
    assert not broken(*again, unjudged=skipped)


def test_a_gradient_that_is_zero_to_the_last_bit_for_once_is_still_noise():
    """A bias before a batch norm: what comes of it is noise, also in a step in which the noise happens to be 0."""
    weights = {"w": np.array([1.0, 2.0]), "v": np.array([3.0, 4.0])}

    def step(gradient, noise):
        gradients = {"w": np.array([0.1, -0.2]), "v": np.array(gradient)}
        momentum = {"w": np.array([0.1, -0.2]), "v": np.array(noise)}
        return trace(weights=weights, gradients=gradients, momentum=momentum, parameters=weights)

    nothing = [0.0, 0.0]
    sides = step(nothing, [1e-17, -2e-17]), step(nothing, [-1e-17, 1e-17])
    nulls = step(nothing, [2e-17, 1e-17]), step(nothing, [1.5e-17, -1e-17])
    assert not broken(*sides, null=nulls, unjudged=frozenset({"v"}))
    first = step(nothing, nothing), step(nothing, nothing)
    assert not broken(*first, null=(step([1e-17, 0.0], [1e-17, 0.0]), step(nothing, nothing)))


@pytest.mark.parametrize(("stage", "judged"), [("evaluation", False), ("loss", False), ("update", True)])
def test_a_comparison_outside_the_ladder_may_be_vacuous_too(stage, judged):
    place, a = Stage(stage=stage, tensor="x"), np.array([1.0, 2.0])
    slack = make_rung(0, place, a, 1.9 * a, moved=[(a, 2 * a), (a, 2 * a)])
    assert slack.vacuous
    assert not slack.broken
    assert "times its own size" in slack.problem
    empty = make_rung(0, place, np.zeros(0), np.zeros(0), moved=[])
    assert empty.broken != judged


def test_a_break_before_the_horizon_is_none_the_less_a_break(run_beside_ensemble, small):
    """One member tells nothing of what comes after it, but the pair had left the envelope before."""
    run = run_beside_ensemble
    spreads = [
        dataclasses.replace(spread, members=(0.1 if spread.steps > 25 else 1e-15,)) for spread in run.ensemble.spreads
    ]
    ensemble = EnsembleRun(side=0, spreads=tuple(spreads), logits=run.ensemble.logits[:1])
    outside = Outside(steps=10, gap=1e-3, limit=4e-15)
    assert judged(run, small.test_labels, ensemble=ensemble).outcome is Outcome.UNDECIDED
    assert judged(run, small.test_labels, ensemble=ensemble, outside=outside).outcome is Outcome.DIFFERS


def test_a_float32_slack_above_the_tensors_own_size():
    place = Stage(stage="loss", tensor="loss")
    noise = Errors(a=0.5, b=0.5, apart=0.5, null=1.0, floor=1.0)
    assert not Rounding(place=place, errors=noise, spread=0.5, steps=5).judged


class Noise(Wrapped):
    """In float32 its outputs are as good as random: they hang on the last bit of its weights."""

    def observe(self, state, data, rows):
        after, seen = self.inner.observe(state, data, rows)
        if seen.loss["loss"].dtype == np.float64:
            return after, seen
        seed = np.frombuffer(b"".join(value.tobytes() for value in seen.weights.values()), np.uint32)
        random = np.random.default_rng(seed).normal(size=seen.logits["logits"].shape)
        return after, dataclasses.replace(seen, logits={"logits": (30 * random).astype(np.float32)})


def test_outputs_that_are_noise_on_both_sides(small):
    found = checked(Noise(torch_impl.eager), Noise(torch_impl.eager), small)
    assert found.finding is not None
    assert found.finding.place.stage == "logits"


def test_undecided_is_no_pass_for_anyone(small):
    side = NoActivations(torch_impl.eager)
    with pytest.raises(DisparityError) as failed:
        assert_parity(side, side, data=small, settings=SETTINGS)
    assert failed.value.report.exit_code == 2
    assert list(check_lines(failed.value.report))[-1].startswith("verdict: undecided at activations")


# An ensemble that proves nothing.


class Deaf(fakes.Fake):
    """Nothing that restore() is given arrives, so that all runs of an ensemble are the same run."""

    def restore(self, state, weights, momentum):
        return state


def test_an_ensemble_without_spread(small):
    result = run_sides(sides(Deaf(), Deaf()), small, Settings(epochs=1, device="cpu"), ensemble=3)
    assert result.report.judgement.outcome is Outcome.UNDECIDED
    assert "stayed equal to the last bit" in result.report.judgement.line
    assert result.report.ending.exit_code == 2


def judged(run, labels, **changes):
    """The judgement of a float64 run, with other figures in its record."""
    run = dataclasses.replace(run, **changes)
    verdict = judge(run.sides[0].losses, run.sides[1].losses, list(run.gaps))
    truth = Truth(labels=labels, classes=tuple(map(str, range(10))))
    return judge_run(run, verdict, None, truth, "float64")


@pytest.fixture(scope="module")
def run_beside_ensemble(small):
    settings = Settings(epochs=1, dtype="float64", device="cpu")
    pair = sides(fakes.honest, fakes.Fake())
    return train(pair, small, settings, initial_weights(0), ensemble=3)


def with_spread(run, distance, *, logits=True):
    spreads = tuple(dataclasses.replace(spread, members=(distance,) * 3) for spread in run.ensemble.spreads)
    outputs = run.ensemble.logits if logits else ()
    return {"ensemble": EnsembleRun(side=0, spreads=spreads, logits=outputs)}


def test_the_honest_ensemble_is_a_match(run_beside_ensemble, small):
    assert judged(run_beside_ensemble, small.test_labels).outcome is Outcome.MATCH


@pytest.mark.parametrize(
    ("distance", "logits", "problem"),
    [
        (0.0, True, "stayed equal to the last bit"),
        (np.inf, True, "no longer finite"),
        (0.6, False, "as large as the parameters themselves"),
    ],
)
def test_an_envelope_that_anything_or_nothing_fits_into(run_beside_ensemble, small, distance, logits, problem):
    changes = with_spread(run_beside_ensemble, distance, logits=logits)
    found = judged(run_beside_ensemble, small.test_labels, **changes)
    assert found.outcome is Outcome.UNDECIDED
    assert problem in found.line


@pytest.mark.parametrize(("members", "outcome"), [(1, Outcome.UNDECIDED), (3, Outcome.MATCH)])
def test_an_ensemble_too_small_for_what_comes_after_the_horizon(run_beside_ensemble, small, members, outcome):
    run = run_beside_ensemble
    spreads = [
        dataclasses.replace(spread, members=(0.1 if spread.steps > 10 else 1e-15,) * members)
        for spread in run.ensemble.spreads
    ]
    ensemble = EnsembleRun(side=0, spreads=tuple(spreads), logits=run.ensemble.logits[:members])
    found = judged(run, small.test_labels, ensemble=ensemble)
    assert found.envelope.horizon is not None
    assert found.outcome is outcome, found.line
    assert ("any outcome would be one of the ensemble's" in found.line) == (outcome is Outcome.UNDECIDED)


def test_another_formula_is_found_also_where_the_ensemble_proves_nothing(run_beside_ensemble, small):
    run = run_beside_ensemble
    gap = StateGap(steps=10, parameters=Gap(difference=1.0, tensor="w"), momentum=None)
    changes = {**with_spread(run, 0.0), "gaps": (gap, *run.gaps[1:])}
    assert judged(run, small.test_labels, **changes).outcome is Outcome.DIFFERS


def test_a_climb_of_no_steps_has_compared_nothing(small):
    """Whoever climbs must ask what was compared; `check` does."""
    pair = start_pair(
        sides(impl, impl), cnn_problem(small, initial_weights(0)), Settings(dtype="float64", device="cpu"), "cpu"
    )
    assert climb(pair, []).rungs == ()
