"""The wrappers that faults are planted with: what they leave alone, and that the given program stays as it was."""

import numpy as np
import pytest

import torch_impl
from parity import oracle
from parity.checking import check, check_batches
from parity.contract import SGD, InputError, StepLR, initial_weights
from parity.drill import BENIGN, CATALOGUE, OUTSIDE, Probe, drill, subject_of
from parity.drill.catalogue.weights import bfloat16, columns_to_chw, columns_to_hwc
from parity.drill.updating import Optimized, clipped, sgd_rule
from parity.drill.wrapped import State, Stepwise, Wrapped, begun
from parity.settings import Side

FAULTS = {entry.key: entry for entry in (*CATALOGUE, *BENIGN)}


@pytest.fixture
def problem(subject):
    return subject.problem(Probe())[0]


def ran(implementation, problem, sgd, steps=4):
    """The losses of a run, and the weights and buffers after it."""
    state = implementation.start(problem.weights, sgd, dtype="float64", device="cpu")
    data = implementation.place(state, *problem.train)
    plan = np.arange(4 * steps, dtype=np.int32).reshape(steps, 4) % problem.size
    state, losses = implementation.run(state, data, plan)
    return losses, implementation.weights(state), implementation.momentum(state)


def require_equal(found, expected, tolerance=0.0):
    np.testing.assert_allclose(found[0], expected[0], rtol=tolerance, atol=0)
    for first, second in zip(found[1:], expected[1:], strict=True):
        assert first.keys() == second.keys()
        for name in first:
            np.testing.assert_allclose(first[name], second[name], rtol=tolerance, atol=tolerance)


SGDS = [SGD(), SGD(momentum=0.0), SGD(nesterov=True, weight_decay=0.1, schedule=StepLR(step_size=2), clip_norm=0.3)]


@pytest.mark.parametrize("sgd", SGDS)
def test_a_wrapper_passes_everything_on(sgd, problem):
    expected = ran(torch_impl.eager, problem, sgd)
    require_equal(ran(Wrapped(torch_impl.eager), problem, sgd), expected)
    require_equal(ran(Stepwise(torch_impl.eager), problem, sgd), expected, 1e-13)


@pytest.mark.parametrize("sgd", SGDS)
def test_the_optimizer_without_a_fault_is_the_oracle_s(sgd, problem):
    honest = Optimized(oracle.impl, clipped, sgd_rule)
    require_equal(ran(honest, problem, sgd), ran(oracle.impl, problem, sgd))


def test_steps_are_counted_through_runs_and_restores(problem):
    wrapped = Wrapped(oracle.impl)
    state = wrapped.start(problem.weights, SGD(), dtype="float64", device="cpu")
    data = wrapped.place(state, *problem.train)
    state, _ = wrapped.run(state, data, np.zeros((3, 2), np.int32))
    state, _ = wrapped.observe(state, data, np.zeros(2, np.int32))
    assert isinstance(state, State)
    assert wrapped.restore(state, problem.weights, {}).steps == 4


def test_planting_leaves_the_program_as_it_was(problem, subject):
    before = ran(torch_impl.eager, problem, SGD())
    for key in ("flatten-order", "other-lr", "ascent", "bgr", "adam"):
        assert next(drill([FAULTS[key]], subject, group="catalogue")).found
    require_equal(ran(torch_impl.eager, problem, SGD()), before)


def test_layouts_are_each_other_s_inverse():
    weight = np.arange(120 * 400.0).reshape(120, 400)
    assert not np.array_equal(columns_to_hwc(weight), weight)
    np.testing.assert_array_equal(columns_to_chw(columns_to_hwc(weight)), weight)


def test_bfloat16_keeps_eight_bits_and_rounds_ties_to_even():
    given = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-7, -1 - 2**-8 - 2**-20, 0.0])
    np.testing.assert_array_equal(bfloat16(given), [1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -1 - 2**-7, 0.0])


def test_buffers_of_zeros_have_not_begun():
    assert begun({"a": np.zeros(2)}) == {}
    assert set(begun({"a": np.zeros(2), "b": np.ones(1)})) == {"a", "b"}


def test_the_probe_crosses_epochs_and_has_partial_batches(subject):
    probe = Probe()
    problem, settings = subject.problem(probe)
    sizes = [len(batch) for batch in check_batches(problem.size, settings, probe.steps)]
    assert sizes == [4, 4, 2, 4, 4, 2, 2]
    assert probe.steps_per_epoch == 3


def test_a_check_of_the_fault_s_probe_alone_matches(subject):
    """The probe makes a fault visible, and no difference by itself."""
    for key in ("extra-clipping", "decay-on-biases", "lr-late"):
        fault = FAULTS[key]
        problem, settings = subject.problem(fault.probe)
        pair = (subject.partner, Side(name="honest", implementation=torch_impl.eager))
        assert check(pair, problem, settings, steps=fault.probe.steps).finding is None


def test_the_cause_that_the_check_gives_is_scored(subject):
    (result,) = drill([FAULTS["nothing"]], subject, group="benign")
    assert (result.names, result.right, result.named) == ((), True, None)
    (result,) = drill([FAULTS["update-twice"]], subject, group="catalogue")
    assert (result.names, result.named) == (("other-lr", "update-twice"), True)
    (result,) = drill([next(fault for fault in OUTSIDE if fault.key == "max-norm")], subject, group="outside")
    assert (result.names, result.named) == (("unknown",), True)


class TestOwnPrograms:
    """Programs with their own data and optimizer get the faults that need neither the CNN nor SGD."""

    def results(self, name):
        subject = subject_of(name)
        chosen = [FAULTS[key] for key in ("bgr", "labels-rolled", "no-reshuffle", "ascent", "nesterov", "nothing")]
        return {result.key: result for result in drill(chosen, subject, group="catalogue")}

    def test_those_that_apply_are_found(self):
        results = self.results("examples.mlp.torch_mlp")
        assert (results["nesterov"].applies, results["nesterov"].right) == (False, True)
        assert "its optimizer is not SGD in torch's form" in results["nesterov"].line
        assert (results["bgr"].applies, results["bgr"].right) == (False, True)
        assert "not images" in results["bgr"].line
        for key in ("labels-rolled", "no-reshuffle", "ascent"):
            assert results[key].right, results[key].line
        assert not results["nothing"].found

    def test_its_own_optimizer_gets_faults_where_it_is_sgd(self):
        chosen = [FAULTS[key] for key in ("other-momentum", "nesterov", "nesterov-lost", "average-pool")]
        subject = subject_of("tests.drill.sgd_side")
        results = {result.key: result for result in drill(chosen, subject, group="catalogue", listed=True)}
        for key in ("other-momentum", "nesterov"):
            assert (results[key].right, results[key].names) == (True, (key,)), results[key].line
        assert "does not look ahead" in results["nesterov-lost"].line
        assert "inside the CNN's model" in results["average-pool"].line
        assert [each.applies for each in results.values()].count(False) == 2

    def test_no_images_and_no_partner_are_given_to_them(self, small):
        with pytest.raises(InputError, match="brings its own data"):
            subject_of("examples.mlp.torch_mlp", dataset=small)
        with pytest.raises(InputError, match="brings its own data"):
            subject_of("examples.mlp.torch_mlp", partner="parity.oracle")
        with pytest.raises(InputError, match="brings its own data, torch_impl:eager does not"):
            subject_of("torch_impl:eager", partner="examples.mlp.torch_mlp")


def test_too_few_images_are_refused(small):
    import dataclasses

    few = dataclasses.replace(small, train_images=small.train_images[:5], train_labels=small.train_labels[:5])
    with pytest.raises(InputError, match="a drill needs 10 training and 22 test images"):
        next(drill([FAULTS["bgr"]], subject_of(dataset=few), group="catalogue"))


def test_a_given_program_gets_no_faults_of_the_oracle(small):
    subject = subject_of("torch_impl:eager", dataset=small)
    keys = [result.key for result in drill([FAULTS["average-pool"], FAULTS["bgr"]], subject, group="catalogue")]
    assert keys == ["bgr"]


def test_weights_of_another_scale_are_float32_still(subject):
    weights = subject.problem(Probe(weights_scale=2.0))[0].weights
    np.testing.assert_array_equal(weights["fc1.bias"], 2 * initial_weights(0)["fc1.bias"])
    assert weights["fc1.bias"].dtype == np.float32
