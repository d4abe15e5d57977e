"""The conformance suite passes what keeps the protocol, and rejects what breaks a promise by that promise's check."""

import pytest

import jax_impl
import torch_impl
from parity import oracle
from parity.conformance import PROMISES, START, conformance, formula, observing, running, states
from parity.contract import SGD, InputError
from parity.settings import Side
from parity.testing import ConformanceError, check_implementation
from tests import fakes
from tests.conformance import broken
from tests.jax_impl import programs as jax_programs
from tests.torch_impl import programs as torch_programs

OF_THE_CNN = {states.momentum_at_first, states.momentum_empty, observing.update_follows, running.order_in_batch}
OF_THE_CNN |= {running.restore_keeps_count, *formula.FORMULA}
OF_OWN_PROGRAMS = {states.own_example, states.own_optimizer}

HONEST = {
    "oracle": (oracle.impl, OF_OWN_PROGRAMS | {running.many_states}),
    "torch": (torch_impl.eager, OF_OWN_PROGRAMS | {running.many_states}),
    "jax": (jax_impl.impl, OF_OWN_PROGRAMS),
    "torch, adapted": (torch_programs.residual(), OF_THE_CNN | {running.many_states}),
    "jax, adapted": (jax_programs.mlp(), OF_THE_CNN | {running.many_states}),
    "ensemble": (broken.Ensemble(), OF_OWN_PROGRAMS),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_implementation_keeps_every_promise(name):
    implementation, not_offered = HONEST[name]
    found = check_implementation(implementation)
    assert found.passed
    assert {result.name for result in found.results if not result.passed} == {p.name for p in not_offered}
    assert found.dtypes == (("float64",) if name in ("oracle", "ensemble") else ("float32", "float64"))
    assert len(found.results) == len(PROMISES) + 1


BROKEN = {
    broken.NoDevice(): states.devices_named,
    broken.DeviceList(): states.devices_named,
    broken.UnknownDevice(): states.devices_named,
    broken.RaisingDevices(): states.devices_named,
    broken.TwoLines(): states.description,
    broken.Bytes(): states.description,
    broken.OtherStart(): states.start_takes,
    broken.StartAliases(): states.start_copies,
    broken.FillsMissing(): states.refuses_missing,
    broken.DropsUnknown(): states.refuses_unknown,
    broken.Reshapes(): states.refuses_shape,
    broken.AnyDevice(): states.refuses_device,
    broken.RaisesValueError(): states.refuses_device,
    broken.LiveWeights(): states.weights_copied,
    broken.LiveMomentum(): states.momentum_copied,
    broken.RenamedMomentum(): states.momentum_named,
    broken.MomentumMissing(): states.momentum_named,
    broken.NarrowMomentum(): states.momentum_named,
    broken.NoZeros(): states.momentum_at_first,
    broken.ZerosWithoutMomentum(): states.momentum_empty,
    broken.ForgetsMomentum(): states.restore_round_trip,
    broken.ForgetsWeights(): states.restore_round_trip,
    broken.ForgetsCount(): running.restore_keeps_count,
    broken.KeepsMomentum(): states.restore_first_step,
    broken.RestoreAliases(): states.restore_copies,
    broken.RestoreKeepsDtype(): states.restore_rounds,
    broken.RestoreInPlace(): states.restore_leaves,
    broken.OneLoss(): running.loss_of_each_step,
    broken.NarrowLosses(): running.loss_of_each_step,
    broken.LossList(): running.loss_of_each_step,
    broken.NanLosses(): running.loss_of_each_step,
    broken.Random(): running.deterministic,
    broken.NeverMoves(): running.trains,
    broken.RunInPlace(): running.run_leaves,
    broken.ForgetsBetweenRuns(): running.pieces,
    broken.changed(sgd_update=broken.in_float32): running.float64,
    broken.PlaceAliases(): running.place_copies,
    broken.PlaceWrites(): running.callers_arrays,
    broken.RunWritesPlan(): running.callers_arrays,
    broken.RunWritesData(): running.placed_data,
    broken.LogitsWriteData(): running.placed_data,
    broken.weighed: running.order_in_batch,
    broken.TooFewClasses(): running.logits_shape,
    broken.LastMissing(): running.logits_shape,
    broken.NarrowLogits(): running.logits_shape,
    broken.Backwards(): running.logits_order,
    broken.Centred(): running.logits_alone,
    broken.LogitsInPlace(): running.logits_leaves,
    broken.EnsembleInReverse(): running.many_states,
    broken.EnsembleOfOne(): running.many_states,
    broken.EnsembleTransposed(): running.many_states,
    broken.NoTrace(): observing.complete,
    broken.NoGradients(): observing.complete,
    broken.NoActivations(): observing.complete,
    broken.OneGradientMissing(): observing.complete,
    broken.ImagesLast(): observing.complete,
    broken.NarrowTrace(): observing.complete,
    broken.LossOfEach(): observing.complete,
    broken.StaleWeights(): observing.records_states,
    broken.StaleMomentum(): observing.records_states,
    broken.LiveTrace(): observing.observe_copies,
    broken.ObserveInPlace(): observing.observe_leaves,
    broken.RunsOtherwise(): observing.observe_agrees,
    broken.LossAfterUpdate(): observing.observe_agrees,
    broken.OneBatchSize(): observing.partial_batch,
    broken.over_four: observing.partial_batch,
    broken.SummedGradients(): observing.update_follows,
    broken.changed(sgd_update=broken.decay_after): observing.update_follows,
    broken.changed(sgd_update=broken.without_nesterov): formula.agrees_with_oracle,
    broken.changed(sgd_update=broken.decaying_biases): formula.agrees_with_oracle,
    broken.changed(clip_gradients=broken.unclipped): formula.agrees_with_oracle,
    broken.changed(relu=broken.leaky): formula.agrees_with_oracle,
    broken.WrongActivations(): formula.agrees_with_oracle,
    broken.changed(relu_backward=broken.half_at_zero): formula.ties,
}


def label(value):
    return type(value).__name__ if isinstance(value, broken.Broken) else None


@pytest.mark.parametrize(("implementation", "promise"), BROKEN.items(), ids=label)
def test_a_broken_promise_is_found_by_its_own_check_alone(implementation, promise):
    with pytest.raises(ConformanceError) as refused:
        check_implementation(implementation)
    found = refused.value.conformance
    assert [result.name for result in found.failures] == [promise.name]
    assert all(len(result.detail.splitlines()) == 1 for result in found.failures)
    assert f"  {promise.name}: " in str(refused.value)


def test_a_schedule_may_be_refused_but_not_left_out():
    with pytest.raises(ConformanceError) as refused:
        check_implementation(broken.IgnoresSchedule())
    found = [result.name for result in refused.value.conformance.failures]
    assert found == [running.restore_keeps_count.name, formula.agrees_with_oracle.name]
    results = check_implementation(broken.RefusesSchedules()).results
    assert {result.name: result.detail for result in results if not result.passed}.items() >= {
        (running.restore_keeps_count.name, "it refuses schedules")
    }


def test_every_promise_of_the_cnn_is_broken_by_one_of_these():
    assert {promise.name for promise in BROKEN.values()} == {p.name for p in set(PROMISES) - OF_OWN_PROGRAMS}


@pytest.mark.parametrize(
    ("implementation", "detail"),
    [
        (broken.NoDtype(), "it takes neither: dtype float32: none will do"),
        (broken.StartRaises(), "float32: StartRaises"),
    ],
)
def test_without_a_start_nothing_is_tested_and_nothing_passes(implementation, detail):
    found = conformance(Side(name=label(implementation), implementation=implementation))
    assert [result.name for result in found.failures] == [START]
    assert found.failures[0].detail.startswith(detail)
    assert {result.outcome for result in found.results[1:]} == {"not run"}
    assert not found.passed


class OwnBroken:
    """A program with its own data, with something changed."""

    def __init__(self, **methods):
        self.inner = torch_programs.mlp()
        for name, method in methods.items():
            setattr(self, name, method)

    def __getattr__(self, name):
        return getattr(self.inner, name)


WEIGHTS, DATA = torch_programs.mlp().example()


def takes_any_sgd(weights, sgd, *, dtype, device):
    return torch_programs.mlp().start(weights, SGD(), dtype=dtype, device=device)


@pytest.mark.parametrize(
    ("methods", "promise"),
    [({"example": lambda: (WEIGHTS, DATA)}, states.own_example), ({"start": takes_any_sgd}, states.own_optimizer)],
)
def test_what_programs_with_their_own_data_promise(methods, promise):
    methods = {"example": torch_programs.mlp().example, **methods}
    with pytest.raises(ConformanceError) as refused:
        check_implementation(OwnBroken(**methods))
    assert [result.name for result in refused.value.conformance.failures] == [promise.name]


def test_the_fakes_are_no_cnn():
    """They train another model under the CNN's weights, and check little."""
    found = conformance(Side(name="fake", implementation=fakes.honest))
    failed = {result.name for result in found.failures}
    refusals = {states.refuses_missing, states.refuses_unknown, states.refuses_shape, states.refuses_device}
    assert failed == {promise.name for promise in refusals | {states.start_takes, running.restore_keeps_count}}


def test_an_implementation_is_named_or_given():
    assert check_implementation("parity.oracle").name == "parity.oracle"
    with pytest.raises(InputError, match="'int' has no method 'describe'"):
        check_implementation(3)
    with pytest.raises(InputError, match="'Oracle' is a class"):
        check_implementation(oracle.Oracle)
    with pytest.raises(InputError, match="has no such device here"):
        check_implementation(oracle.impl, device="cuda")
