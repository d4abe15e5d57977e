"""Each part of the calibration in a tiny version: what it measures, and that it can fail."""

import dataclasses
import time

import numpy as np
import pytest

from parity.contract import CNN_PARAMETERS, SGD, Implementation, initial_weights
from parity.lane import Lane
from parity.measurements import overhead, perturbed
from parity.measurements.calibration import EMULATED, PARTS, PROGRAMS
from parity.measurements.clean import CLEAN, FIT, fitted_k
from parity.measurements.draws import GROUPS, learnt, reshuffled, sampled_problem
from parity.measurements.long import FLOAT32, FLOAT64, float32_is_met, float64_is_met, loss_gaps
from parity.measurements.members import COUNT, MEMBERS
from parity.measurements.overhead import OVERHEAD
from parity.measurements.part import Bench, pair_of
from parity.measurements.perturbations import PERTURBATIONS
from parity.measurements.perturbed import STAGES, Fault, Perturbed
from parity.measurements.precision import PRECISION
from parity.prepare import prepare
from parity.settings import Settings

EAGER, ORACLE, OTHER_LR = "torch_impl:eager", "parity.oracle", "tests.measurements.sides:other_lr"
TF32 = "torch_impl.emulated:tf32"


@pytest.fixture
def bench(small):
    """No side that compiles."""
    return Bench(dataset=small, sides=(EAGER, EAGER), emulated=EMULATED, steps=20, device="cpu")


def measured(part, bench, numbers):
    """The trials as the file keeps them, and the conclusion."""
    trials = [{"number": number, **part.measure(bench, number)} for number in numbers]
    return trials, part.conclude(trials)


def between(bench, first, second):
    return dataclasses.replace(bench, sides=(first, second))


def test_the_parts_have_names_of_their_own_and_read_what_there_is():
    assert len({part.name for part in PARTS}) == len(PARTS) == 8
    fields = {field.name for field in dataclasses.fields(Bench)}
    assert all(set(part.reads) <= fields for part in PARTS)


def test_float64_agrees_or_does_not(bench):
    trials, found = measured(FLOAT64, between(bench, EAGER, ORACLE), [0, 1])
    assert found.met
    assert [trial["seed"] for trial in trials] == [0, 1]
    assert found.summary["steps"] == 20
    assert 0 < found.summary["largest_loss"] < 1e-13
    assert found.summary["least_equal_predictions"] == 1
    # A learning rate off by 1e-8 passes the judgement of a plot, and not this bar.
    trials, found = measured(FLOAT64, between(bench, "tests.measurements.sides:nearly", ORACLE), [0])
    assert not found.met
    assert 1e-11 < found.summary["largest_parameters"] < 1e-6


def test_a_small_loss_is_measured_by_a_thousandth():
    np.testing.assert_allclose(loss_gaps(np.array([2.0, 1e-5]), np.array([1.0, 0.0])), [0.5, 1e-2])


GOOD = {
    "loss": 1e-12,
    "parameters": 1e-13,
    "equal_predictions": 1.0,
    "loss_before_parting": 1e-12,
    "parameters_before_parting": 1e-13,
    "parting": None,
}
APART = {"loss": 0.1, "parameters": "inf", "equal_predictions": 0.9}


@pytest.mark.parametrize(
    ("changes", "met"),
    [
        ({}, True),
        ({"loss": 2e-10}, False),
        ({"parameters": 2e-11}, False),
        ({"equal_predictions": 0.9999}, False),
        ({**APART, "parting": {"explained": True}}, True),
        ({**APART, "parting": {"explained": False}}, False),
        ({**APART, "parting": {"explained": True}, "loss_before_parting": 2e-10}, False),
    ],
)
def test_the_float64_bar(changes, met):
    assert float64_is_met({**GOOD, **changes}) is met


def test_float32_stays_inside_or_leaves(bench):
    trials, found = measured(FLOAT32, between(bench, EAGER, "torch_impl"), [0])
    assert found.met
    assert trials[0]["members"] == 8
    assert {figure["name"] for figure in trials[0]["distributions"] if figure["among"] == 1} == {
        "the share of correct predictions",
        "the share of equal predictions",
    }
    trials, found = measured(FLOAT32, between(bench, EAGER, TF32), [0])
    assert not found.met
    assert found.summary["largest_share"] > 1
    assert not float32_is_met(trials[0])


def test_a_clean_run_raises_no_alarm_and_a_fault_does(bench):
    bench = dataclasses.replace(bench, programs=tuple((a, a) for a, _ in PROGRAMS))
    trials, found = measured(CLEAN, bench, [0, 4, len(GROUPS)])
    assert found.met
    assert found.summary["false_alarms"] == 0
    assert trials[2]["sides"] == bench.programs[0]
    assert len({trial["seed"] for trial in trials}) == 3
    _, found = measured(CLEAN, between(bench, EAGER, OTHER_LR), [0])
    assert (found.met, found.summary["numbers_of_false_alarms"]) == (False, [0])
    trials, found = measured(CLEAN, between(bench, EAGER, TF32), [0])
    assert (found.met, trials[0]["alarm"]) == (False, "precision")


def test_the_fitted_k_is_the_quantile_of_the_checks_largest():
    """Of draws from Gumbel's own distribution, whose quantiles are known."""
    draws = np.random.default_rng(0).gumbel(0.5, 0.02, 20_000)
    assert fitted_k(draws.tolist()) == pytest.approx(0.5 - 0.02 * np.log(-np.log(1 - 1e-4)), rel=0.01)
    assert fitted_k((draws + 0.8).tolist()) == 2**0.5


def test_the_fit_is_of_other_seeds_and_can_fail(bench):
    trials, found = measured(FIT, between(bench, EAGER, "torch_impl"), [0, 1])
    clean, _ = measured(CLEAN, bench, [0])
    assert found.met
    assert clean[0]["seed"] not in {trial["seed"] for trial in trials}
    assert found.summary["tensors"] == sum(len(trial["each_spread"]) for trial in trials) > 60
    assert max(trial["spread"] for trial in trials) <= found.summary["fitted_k"] <= 2**0.5
    assert not measured(FIT, between(bench, EAGER, TF32), [0])[1].met
    _, found = measured(FIT, between(bench, EAGER, OTHER_LR), [0])  # stops in float64: nothing to fit
    assert (found.met, found.summary["tensors"]) == (False, 0)


@pytest.mark.parametrize("kind", [0, 3])  # the narrowest of both kinds
def test_the_widths_are_twins_in_both_frameworks(kind, bench):
    number = len(GROUPS) + kind
    trials, found = measured(CLEAN, dataclasses.replace(bench, programs=PROGRAMS[: kind + 1]), [number])
    assert trials[0]["sides"] == PROGRAMS[kind]
    assert found.met, trials[0]["line"]


def test_data_and_weights_change_with_the_seed(small):
    first, second = (sampled_problem(small, seed, 8) for seed in (0, 1))
    assert first.size == 8
    assert not np.array_equal(first.train[0], second.train[0])
    sides = pair_of(("benchmarks.widths_torch:mlp_3", "benchmarks.widths_torch:mlp_3"))
    own = prepare(*sides, settings=Settings()).problem
    first, second = (reshuffled(own, seed) for seed in (0, 1))
    for name, value in first.weights.items():
        np.testing.assert_array_equal(np.sort(value, axis=None), np.sort(second.weights[name], axis=None))
    assert not np.array_equal(first.weights["a.weight"], second.weights["a.weight"])


def test_few_images_are_learnt_by_heart(small):
    problem = sampled_problem(small, 0, 24)
    side = pair_of((EAGER, EAGER))[0]
    losses = []
    for weights in (problem.weights, learnt(problem, side, 0, "cpu").weights):
        lane = Lane(side=side)
        state = lane.start(dataclasses.replace(problem, weights=weights), Settings(), "cpu")
        losses.append(lane.run(state, np.arange(24, dtype=np.int32).reshape(6, 4))[1].mean())
    assert losses[1] < 0.1 * losses[0]


def test_perturbations_are_found_in_their_own_place(bench):
    trials, found = measured(PERTURBATIONS, bench, range(24))
    assert found.met, found.summary
    assert min(found.summary["by_stage"].values()) > 0
    assert {trial["perturbed_first"] for trial in trials} == {True, False}
    assert {trial["noise"] is None for trial in trials} == {True, False}
    assert {trial["partner"] for trial in trials} == {EAGER, ORACLE}


def test_a_perturbation_below_rounding_is_missed(bench, monkeypatch):
    monkeypatch.setattr(perturbed, "RELATIVE", 1e-17)
    _, found = measured(PERTURBATIONS, bench, [0, 1])
    assert (found.met, found.summary["found"]) == (False, 0)


def test_a_find_in_another_place_is_none(bench):
    trials, found = measured(PERTURBATIONS, dataclasses.replace(bench, partner="tests.measurements.sides:bgr"), [0])
    assert trials[0]["at"] == "step 0, batch, images"
    assert (found.met, found.summary["numbers_of_missed"]) == (False, [0])


@pytest.mark.parametrize("noise", [None, 3])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("tensor", CNN_PARAMETERS)
def test_the_fault_is_where_it_says_in_observe_and_in_run(stage, tensor, noise, small):
    side = Perturbed(Fault(stage=stage, tensor=tensor, step=1, noise=noise))
    assert isinstance(side, Implementation)
    plan = np.arange(6, dtype=np.int32).reshape(3, 2)
    honest = pair_of((ORACLE, ORACLE))[0].implementation
    traces = []
    for program in (honest, side):
        state = program.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
        data = program.place(state, small.train_images, small.train_labels)
        ran, losses = program.run(state, data, plan)
        seen = []
        for rows in plan:
            state, trace = program.observe(state, data, rows)
            seen.append(trace)
        for name, value in program.weights(ran).items():
            np.testing.assert_array_equal(value, program.weights(state)[name])
        np.testing.assert_array_equal(losses, [trace.loss["loss"] for trace in seen])
        traces.append(seen)
    field = {"gradients": "gradients", "momentum": "momentum", "update": "parameters"}[stage]
    for step in (0, 1):
        mine, others = (getattr(trace[step], field) for trace in traces)
        for name, value in mine.items():
            moved = np.linalg.norm(others[name] - value) / np.linalg.norm(value)
            if step == 1 and name == tensor:
                assert moved == pytest.approx(1e-10, rel=1e-4)
            else:
                assert moved == 0


def test_low_precision_is_found_and_nothing_else_is(bench):
    _, found = measured(PRECISION, bench, [0, 1, 2])
    assert found.met, found.summary
    assert found.summary["found_by_format"] == dict.fromkeys(sorted(EMULATED), "1 of 1")
    assert found.summary["least_excess"][TF32] > 100
    for honest in (EAGER, OTHER_LR):
        _, found = measured(PRECISION, dataclasses.replace(bench, emulated=(honest,), partner="torch_impl"), [0])
        assert not found.met


def test_lockstep_is_timed_beside_the_sides_alone(bench, monkeypatch):
    trials, found = measured(OVERHEAD, bench, [0, 1])
    assert [trial["steps"] for trial in trials] == [20, 20]
    assert list(trials[0]["seconds"]) == ["lockstep", "alone"]
    assert list(trials[1]["seconds"]) == ["alone", "lockstep"]
    assert found.summary["median_ratio"] == np.median(found.summary["ratios"])

    def slowly(*arguments, train=overhead.train, **keywords):
        time.sleep(1)
        return train(*arguments, **keywords)

    monkeypatch.setattr(overhead, "train", slowly)
    _, found = measured(OVERHEAD, bench, [0])
    assert not found.met
    assert found.summary["median_ratio"] > 1.1


def test_members_that_are_trained_one_by_one_miss_the_ensembles_bar(bench):
    """torch's, which cannot train many at once: as many runs as there are members, whatever the machine does."""
    trials, found = measured(MEMBERS, bench, [0])
    assert not found.met
    assert (trials[0]["side"], trials[0]["members"]) == (f"{EAGER}#1", COUNT)
    assert trials[0]["runs_paid"] == pytest.approx(COUNT * trials[0]["ratio"])
