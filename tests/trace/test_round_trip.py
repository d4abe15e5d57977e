"""What is read back is what was computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parity.compare import nudge
from parity.contract import SGD, InputError, initial_weights
from parity.data import Loader, fingerprint
from parity.lane import Lane
from parity.problem import cnn_problem
from parity.settings import Side
from parity.trace import Manifest, compare_traces, read_trace
from parity.trace.projection import Projector
from tests.trace.conftest import STEPS, record_wide, settings
from tests.trace.fakes import Wide, turns_nan


def trained(dataset, steps, **changes):
    """Losses, and each state's weights and momentum, without any trace."""
    chosen = settings(**changes)
    lane = Lane(side=Side(name="wide", implementation=Wide()))
    state = lane.start(cnn_problem(dataset, initial_weights(chosen.seed)), chosen, "cpu")
    loader = Loader(size=len(dataset.train_labels), batch_size=chosen.batch_size, seed=chosen.seed)
    losses, states = [], []
    for epoch in range(chosen.epochs):
        for plan in loader.plans(epoch, length=1):
            state, loss = lane.run(state, plan)
            losses.append(loss[0])
            states.append((lane.weights(state), lane.momentum(state)))
            if len(losses) == steps:
                return losses, states
    raise AssertionError("too few steps")


def test_losses_states_norms_and_projections_are_those_of_the_run(small, original):
    trace = read_trace(original)
    losses, states = trained(small, STEPS)
    assert trace.losses.tolist() == losses
    assert trace.counts.tolist() == list(range(1, STEPS + 1))
    assert sorted(trace.full) == [1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 300]
    for count, state in trace.full.items():
        for kind, expected in zip((state.weights, state.momentum), states[count - 1], strict=True):
            assert kind.keys() == expected.keys()
            assert all(np.array_equal(kind[name], expected[name]) for name in expected)
    norms = [[np.linalg.norm(weights[name]) for name in trace.manifest.tensors] for weights, _ in states]
    np.testing.assert_allclose(trace.norms, norms, rtol=1e-14)
    norms = [[np.linalg.norm(momentum[name]) for name in trace.manifest.tensors] for _, momentum in states]
    np.testing.assert_allclose(trace.momentum_norms, norms, rtol=1e-14)


def test_each_projected_number_is_within_half_a_float32_ulp_of_its_last_move(small, original):
    """The errors of moves do not add up, over chunks neither."""
    trace = read_trace(original)
    projector = Projector(trace.manifest.tensors)
    truth = np.array([projector(weights) for weights, _ in trained(small, STEPS)[1]])
    found = trace.projections(slice(projector.width))
    moves = np.abs(np.concatenate([chunk.moves for chunk in trace.chunks]))
    # 2**-24 of the move, and the roundings of some hundred additions of numbers below 10 in float64.
    assert (np.abs(found - truth) <= 2.0**-24 * moves + 250 * 2.0**-53 * 10).all()
    assert np.abs(found - truth).max() > 0


def test_the_manifest_says_what_was_trained_and_with_what(small, original):
    manifest = Manifest.read(original)
    assert (manifest.complete, manifest.ending, manifest.steps, manifest.limit) == (True, "complete", STEPS, STEPS)
    assert manifest.settings == settings()
    assert manifest.data.sha256 == small.fingerprint()
    assert manifest.weights.sha256 == fingerprint(initial_weights(0))
    assert (manifest.implementation, manifest.description, manifest.device) == ("wide", "fake, float64", "cpu")
    assert manifest.tensors == {"fc3.weight": (10, 192), "fc3.bias": (10,)}
    assert "numpy" in manifest.environment.packages
    assert [(chunk.first, chunk.stop) for chunk in manifest.chunks] == [(0, 250), (250, 300)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_recordings_of_one_run_match_exactly(small, tmp_path, dtype):
    a, b = (record_wide(tmp_path / name, small, dtype=dtype) for name in "ab")
    found = compare_traces(a, b)
    assert (found.outcome, found.exit_code, found.first_break) == ("match", 0, None)
    assert {part.difference for part in found.largest.values()} == {0.0}
    assert (found.steps, found.recorded, found.full) == (STEPS, STEPS, 11)


def test_without_momentum_there_is_none_in_the_trace(small, tmp_path):
    a, b = (record_wide(tmp_path / name, small, sgd=SGD(momentum=0)) for name in "ab")
    assert a.manifest.momentum == {}
    assert a.full[1].momentum == {}
    assert a.momentum_norms.shape == (STEPS, 0)
    found = compare_traces(a, b)
    assert (found.outcome, found.largest.keys()) == ("match", {"loss", "update"})


def test_a_wider_distance_is_recorded_and_compared_with_a_closer_one(small, tmp_path, original):
    wide = record_wide(tmp_path / "wide", small, every=7)
    assert wide.counts.tolist() == [1, 2, 3, 4, *range(7, STEPS, 7), STEPS]
    found = compare_traces(wide, read_trace(original))
    assert (found.outcome, found.steps, found.recorded) == ("match", STEPS, len(wide.counts))
    again = record_wide(tmp_path / "again", small, every=7)
    assert compare_traces(wide, again).resolution < 1e-13 < found.resolution


def test_a_loss_that_is_not_finite_ends_the_trace_there(small, tmp_path):
    trace = record_wide(tmp_path / "trace", small, turns_nan, steps=400)
    assert (trace.manifest.complete, trace.manifest.steps) == (False, 300)
    assert trace.manifest.ending == "wide: the loss of step 300 is nan; try a smaller learning rate"


def test_a_state_that_outgrows_a_trace_ends_it(small, tmp_path):
    """Moves are float32: 1e60 is more than they hold."""
    trace = record_wide(tmp_path / "trace", small, Wide(deviates_at=20, size=1e60), steps=21)
    assert not trace.manifest.complete
    assert "the state after step 20 is not finite, or too large to record" in trace.manifest.ending
    assert (len(trace.losses), len(trace.counts)) == (21, 20)


def test_a_null_run_starts_from_the_nudged_weights(small, tmp_path):
    trace = record_wide(tmp_path / "null", small, nudge=3)
    assert (trace.manifest.nudge, trace.manifest.weights.sha256) == (3, fingerprint(initial_weights(0)))
    moved = nudge(initial_weights(0), seed=3, dtype="float64")["fc1.weight"].ravel()[:1920].reshape(10, 192)
    projector = Projector(trace.manifest.tensors)
    base = projector({"fc3.weight": moved, "fc3.bias": nudge(initial_weights(0), seed=3, dtype="float64")["fc3.bias"]})
    assert trace.chunks[0].base.tolist() == base.tolist()


def test_momentum_of_other_names_and_shapes_is_recorded_as_it_is(small, tmp_path):
    """Adam keeps two tensors for each parameter, name:slot."""

    class TwoSlots(Wide):
        def momentum(self, state):
            kept = super().momentum(state)
            return {f"{name}:{slot}": value * slot for name, value in kept.items() for slot in (1, 2)}

    a, b = (record_wide(tmp_path / name, small, side) for name, side in (("a", TwoSlots()), ("b", TwoSlots())))
    assert list(a.manifest.momentum) == ["fc3.weight:1", "fc3.weight:2", "fc3.bias:1", "fc3.bias:2"]
    np.testing.assert_array_equal(a.momentum_norms[:, 1], 2 * a.momentum_norms[:, 0])
    assert compare_traces(a, b).outcome == "match"
    with pytest.raises(InputError, match="its momentum tensor fc3.bias is "):
        compare_traces(a, record_wide(tmp_path / "c", small))


def test_traces_survive_a_copy_under_another_name(original, copied):
    assert compare_traces(read_trace(original), replace(read_trace(copied))).exit_code == 0
