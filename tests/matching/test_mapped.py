from dataclasses import replace

import numpy as np
import pytest

from parity.contract import SGD, Ensemble, Implementation, SelfContained
from parity.matching import Mapped, match_weights
from tests.matching import programs as p

PAIRS = [
    (p.mlp_a(), p.mlp_b()),
    (p.conv_a(), p.conv_b()),
    (p.attention_a(merged=True), p.attention_b()),
    (p.attention_a(), p.attention_b(packed=True)),
    (p.norm_a(), p.norm_b()),
]

ROWS = np.arange(6, dtype=np.int32)


def sides(a, b):
    """Both programs, B as A, after `start` and `place` with A's weights and data."""
    mapped = Mapped(b, match_weights(a, b))
    weights, arrays = p.distinguishable(a.initial), a.arrays
    found = []
    for side in (a, mapped):
        state = side.start(weights, SGD(), dtype="float64", device="cpu")
        found.append((side, state, side.place(state, *arrays)))
    return found


def require_close(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert b[name].shape == value.shape
        # Honest float64 twins over a few steps; 1e-9 is the verdict's own bound.
        np.testing.assert_allclose(b[name], value, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_every_stage_is_in_a_s_names_and_layout(a, b):
    (ours, state, data), (theirs, other, other_data) = sides(a, b)
    _, expected = ours.observe(state, data, ROWS)
    _, found = theirs.observe(other, other_data, ROWS)
    for stage in ("batch", "weights", "logits", "loss", "gradients", "momentum", "parameters"):
        require_close(getattr(expected, stage), getattr(found, stage))
    assert "fc1.bias:2" in found.momentum or "fc1.bias" not in a.initial


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_training_through_the_mapping_is_a_s_training(a, b):
    (ours, state, data), (theirs, other, other_data) = sides(a, b)
    plan = np.stack([ROWS, ROWS[::-1], ROWS])
    state, losses = ours.run(state, data, plan)
    other, other_losses = theirs.run(other, other_data, plan)
    np.testing.assert_allclose(other_losses, losses, rtol=1e-9)
    require_close(ours.weights(state), theirs.weights(other))
    require_close(ours.momentum(state), theirs.momentum(other))
    np.testing.assert_allclose(theirs.logits(other, other_data), ours.logits(state, data), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_what_goes_in_comes_out_to_the_last_bit(a, b):
    mapped = Mapped(b, match_weights(a, b))
    weights = p.distinguishable(a.initial)
    state = mapped.start(weights, SGD(), dtype="float64", device="cpu")
    momentum = {name: p.draw(i, *value.shape) for i, (name, value) in enumerate(mapped.momentum(state).items())}
    state = mapped.restore(state, weights, momentum)
    for expected, found in ((weights, mapped.weights(state)), (momentum, mapped.momentum(state))):
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_it_is_an_implementation_that_brings_b_s_weights_in_a_s_form(a, b):
    mapped = Mapped(b, match_weights(a, b))
    assert isinstance(mapped, Implementation)
    assert isinstance(mapped, SelfContained)
    weights, arrays = mapped.example()
    assert {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in a.initial.items()}
    assert [x.shape for x in arrays] == [x.shape for x in a.arrays]
    np.testing.assert_array_equal(arrays[0], a.arrays[0])


def test_ensembles_are_offered_where_b_has_them():
    class Many(p.NumpyProgram):
        def run_many(self, states, data, plan):
            return states, plan

    a, b = p.mlp_a(), p.mlp_b()
    mapping = match_weights(a, b)
    assert not isinstance(Mapped(b, mapping), Ensemble)
    assert isinstance(Mapped(Many(b.initial, b.arrays, b.model), mapping), Ensemble)


def test_optimizer_tensors_of_other_shapes_keep_theirs():
    class Counts(p.NumpyProgram):
        def momentum(self, state):
            return {**super().momentum(state), "params/Dense_0/kernel:3": np.array(4.0), "count": np.array(7.0)}

    a, b = p.mlp_a(), p.mlp_b()
    mapped = Mapped(Counts(b.initial, b.arrays, b.model), match_weights(a, b))
    state = mapped.start(a.initial, SGD(), dtype="float64", device="cpu")
    found = mapped.momentum(state)
    assert found["fc1.weight:3"] == 4.0
    assert found["count"] == 7.0
    assert found["fc1.weight:2"].shape == (7, 5)
    restored = mapped.restore(state, a.initial, {**found, "fc1.weight:3": np.array(5.0)})
    assert restored.momentum["params/Dense_0/kernel:3"] == 5.0


def test_a_state_is_left_as_it_was():
    a, b = PAIRS[0]
    (_, _, _), (mapped, state, data) = sides(a, b)
    before = replace(state, weights={k: v.copy() for k, v in state.weights.items()})
    mapped.observe(state, data, ROWS)
    for value in mapped.weights(state).values():
        value[...] = 0
    for name, value in before.weights.items():
        np.testing.assert_array_equal(state.weights[name], value)
