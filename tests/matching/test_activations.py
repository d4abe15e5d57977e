import numpy as np
import pytest

from parity.contract import SGD, StepTrace
from parity.matching import Captured, Comparison, first_unmatched, match_activations, match_weights
from tests.matching import programs as p


def step(program, weights, arrays=None):
    state = program.start(weights, SGD(), dtype="float64", device="cpu")
    data = program.place(state, *(arrays or program.arrays))
    return program.observe(state, data, np.arange(6, dtype=np.int32))[1]


def steps(a, b, clean=None):
    """A step of A from its weights, and of B from the same, by the mapping that a clean B has."""
    mapping = match_weights(a, clean or b)
    weights = p.distinguishable(a.initial)
    return step(a, weights), step(b, mapping.to_target(weights))


def trace(activations, parents=None, *, logits=None, loss=0.5):
    """A trace with given activations; the outputs are the last of them unless given."""
    logits = list(activations.values())[-1] if logits is None else logits
    return StepTrace(
        batch={},
        weights={},
        activations=activations,
        logits={"logits": logits},
        loss={"loss": np.array(loss)},
        gradients={},
        momentum={},
        parameters={},
        parents=parents or {},
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (p.mlp_a(), p.mlp_b()),
        (p.conv_a(), p.conv_b()),
        (p.attention_a(), p.attention_b()),
        (p.attention_a(merged=True), p.attention_b(packed=True)),
        (p.norm_a(), p.norm_b()),
    ],
)
def test_a_clean_pair_has_no_break_in_either_direction(a, b):
    ours, theirs = steps(a, b)
    assert first_unmatched(ours, theirs) is None
    assert first_unmatched(theirs, ours) is None


def test_partners_are_found_through_layout_and_fusion():
    ours, theirs = steps(p.conv_a(), p.conv_b())
    matches = match_activations(ours, theirs)
    assert matches.partners["conv"] == ("add.1",)
    assert matches.partners["relu"] == ("max", "reshape")
    assert matches.partners["flatten"] == ("reshape", "max")  # in forward order, where several are equal
    assert matches.partners["addmm"] == ("add.2",)


@pytest.mark.parametrize(
    ("a", "b", "clean", "expected"),
    [
        (p.mlp_a(), p.mlp_b(scale=2), p.mlp_b(), ("tanh_2", "linear_2", "add_2", "tanh2")),
        (p.mlp_a(), p.mlp_b(forget_bias=3), p.mlp_b(), ("linear_3", "tanh_2", "tanh2", "add_3")),
        (p.conv_a(), p.conv_b(fault="tanh"), p.conv_b(), ("relu", "conv", "add.1", "tanh")),
        (
            p.norm_a(),
            p.norm_b(fault="leak"),
            p.norm_b(),
            ("native_batch_norm_2", "addmm_2", "add_1", "BatchNorm_1/add"),
        ),
        (p.attention_a(), p.attention_b(scale=0.6), p.attention_b(), ("div", "matmul", "qk", "scaled")),
    ],
)
def test_a_planted_fault_is_where_the_passes_part(a, b, clean, expected):
    found = first_unmatched(*steps(a, b, clean))
    assert (found.activation, *found.after, *found.after_other, found.candidates[0].name) == expected


def test_a_small_fault_behind_a_mask_is_not_hidden():
    ours, theirs = steps(p.attention_a(), p.attention_b(scale=p.DEPTH**-0.5 * (1 + 1e-7)), p.attention_b())
    found = first_unmatched(ours, theirs)
    assert found.activation == "div"
    assert found.candidates[0].distance == pytest.approx(1e-7, rel=1e-3)
    assert "div has no partner in B; nearest is scaled, 1.0e-07 away" in found.sentence()


def x(seed, *shape):
    return p.draw(seed, *(shape or (4, 5)))


def test_an_unmatched_intermediate_of_a_fused_layer_is_no_break():
    a = trace({"in": x(1), "inner": x(2), "out": x(3)}, {"inner": ("in",), "out": ("inner",)})
    b = trace({"in": x(1), "out": x(3)}, {"out": ("in",)})
    assert not Comparison(Captured(a), Captured(b)).unsettled
    assert first_unmatched(a, b) is None


def test_a_matching_sibling_branch_does_not_excuse_a_broken_one():
    parents = {"left": ("in",), "right": ("in",), "sum": ("left", "right")}
    a = trace({"in": x(1), "left": x(2), "right": x(3), "sum": x(4)}, parents)
    b = trace({"in": x(1), "right": x(3), "left": x(5), "sum": x(6)}, parents)
    found = first_unmatched(a, b)
    assert found.activation == "left"
    assert found.after == found.after_other == ("in",)
    # B's sum has the size too, but follows the sound branch as well; left is as far away, and comes first.
    assert {candidate.name for candidate in found.candidates} == {"left", "sum"}


def test_an_unmatched_value_that_no_output_depends_on_is_no_break():
    parents = {"saved": ("in",), "mid": ("in",), "out": ("mid",)}
    a = trace({"in": x(1), "saved": x(2), "mid": x(3), "out": x(4)}, parents)
    b = trace({"in": x(1), "mid": x(5), "out": x(6)}, {"mid": ("in",), "out": ("mid",)})
    assert first_unmatched(a, b).activation == "mid"


def test_a_constant_that_is_equal_excuses_nothing():
    """Both passes end in zeros of one size on a side path; that settles nothing before them."""
    parents = {"mid": ("in",), "zeros": ("mid",), "out": ("mid", "zeros")}
    a = trace({"in": x(1), "mid": x(2), "zeros": np.zeros((4, 5)), "out": x(3)}, parents)
    b = trace({"in": x(1), "mid": x(4), "zeros": np.zeros((4, 5)), "out": x(5)}, parents)
    assert first_unmatched(a, b).activation == "mid"


def test_a_weight_in_another_shape_is_neither_evidence_nor_a_break():
    weight = x(7, 5, 5)
    parents = {"w.T": (), "out": ("w.T",)}
    a = trace({"w.T": weight.T, "out": x(1)}, parents)
    b = trace({"out": x(2)}, {"out": ()})
    object.__setattr__(a, "weights", {"w": weight})
    assert first_unmatched(a, b).activation == "out"


def test_outputs_in_another_order_are_a_break_though_their_values_match():
    a, b = trace({"out": x(1)}), trace({"out": x(1)[::-1]})
    found = first_unmatched(a, b)
    assert found.activation == "logits"
    assert "the logits differ by" in found.sentence()


def test_another_loss_of_equal_outputs_is_a_break():
    found = first_unmatched(trace({"out": x(1)}, loss=0.5), trace({"out": x(1)}, loss=1.0))
    assert found.activation == "loss"
    assert found.candidates[0].distance == pytest.approx(0.5)


def test_outputs_may_differ_in_layout_behind_the_samples():
    images = x(1, 3, 2, 4, 5)
    same = trace({"out": images.transpose(0, 2, 3, 1)})
    assert first_unmatched(trace({"out": images}), same) is None
    column = x(2, 6, 1)
    assert first_unmatched(trace({"out": column}), trace({"out": column.reshape(6)})) is None


def test_outputs_that_are_not_a_number_are_a_break():
    nan = np.full((4, 5), np.nan)
    assert first_unmatched(trace({"out": nan}), trace({"out": nan})) is not None


def test_without_a_graph_each_activation_follows_the_one_before():
    a = trace({"one": x(1), "two": x(2), "three": x(3)})
    b = trace({"one": x(1), "two": x(4), "three": x(5)})
    found = first_unmatched(a, b)
    assert (found.activation, found.after) == ("two", ("one",))
