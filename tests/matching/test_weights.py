import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.contract import InputError
from parity.matching import match_weights
from tests.matching import programs as p
from tests.matching import tape as t


def places(mapping):
    """A's name, with the part's number, -> B's likewise."""

    def label(name, part):
        return name if part.count == 1 else (name, part.index)

    return {label(e.source, e.source_part): label(e.target, e.target_part) for e in mapping.tensors}


MLP = {f"fc{i + 1}.{a}": f"params/Dense_{i}/{b}" for i in range(3) for a, b in (("weight", "kernel"), ("bias", "bias"))}


@pytest.mark.parametrize("sizes", [(5, 7, 6, 3), (5, 5, 5, 5)])
def test_an_mlp_under_other_names_and_transposed(sizes):
    found = match_weights(p.mlp_a(sizes), p.mlp_b(sizes))
    assert found.proved
    assert found.broken is None
    assert places(found) == MLP
    assert {e.axes for e in found.tensors} == {(1, 0), (0,)}
    assert found.passes == 3  # a step of each, and one attempt


def test_a_feature_map_flattened_in_another_order_from_images_in_another_layout():
    found = match_weights(p.conv_a(), p.conv_b())
    assert found.proved
    assert found.inputs == ((0, 2, 3, 1), None)
    by_name = {e.source: e for e in found.tensors}
    assert by_name["conv.weight"].axes == (2, 3, 1, 0)
    assert (by_name["fc.weight"].split, by_name["fc.weight"].axes) == ((3, 4, 4, 5), (2, 3, 1, 0))


ATTENTION = {
    f"{a}.{x}": f"{b}/{y}"
    for a, b in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "out"))
    for x, y in (("weight", "kernel"), ("bias", "bias"))
}


@pytest.mark.parametrize("heads_in_kernel", [True, False])
def test_attention_whose_matrices_all_fit_everywhere(heads_in_kernel):
    found = match_weights(p.attention_a(), p.attention_b(heads_in_kernel=heads_in_kernel))
    assert found.proved
    assert places(found) == ATTENTION
    assert found.notes == ()


@pytest.mark.parametrize(
    "names",
    [
        ("z3", "z1", "z2", "z0"),
        ("key", "query", "value", "out"),
        ("value", "query", "key", "out"),
        ("value", "query", "out", "key"),
    ],
)
def test_names_that_say_nothing_or_lie_do_not_stand_in_the_way(names):
    found = match_weights(p.attention_a(), p.attention_b(names=names))
    assert found.proved
    true = dict(zip(("q_proj", "k_proj", "v_proj", "out_proj"), names, strict=True))
    assert {a.partition(".")[0]: b.partition("/")[0] for a, b in places(found).items()} == true
    said = any(f"q_proj.weight does what {names[0]}/kernel does" in note for note in found.notes)
    assert said == ("value" in names)


def test_heads_that_are_sorted_otherwise_on_their_way_in_and_out():
    """No layout of a single tensor mends this, and the activations before the scores have the same values in any."""
    found = match_weights(p.attention_a(interleaved=True), p.attention_b())
    assert found.proved
    assert places(found) == ATTENTION
    by_name = {e.source: e for e in found.tensors}
    # As (depth, head) -> (head, depth); for the key's bias too, which no output depends on.
    assert {(by_name[f"{x}_proj.bias"].split, by_name[f"{x}_proj.bias"].axes) for x in "qkv"} == {((3, 2), (1, 0))}


def test_one_tensor_of_a_can_be_three_of_b_and_the_other_way_round():
    ours = match_weights(p.attention_a(merged=True), p.attention_b())
    theirs = match_weights(p.attention_b(), p.attention_a(merged=True))
    assert ours.proved
    assert theirs.proved
    assert places(ours)[("in_proj_weight", 1)] == "key/kernel"
    assert places(theirs)["key/bias"] == ("in_proj_bias", 1)


def test_three_in_one_on_both_sides_is_one_tensor_in_another_shape():
    found = match_weights(p.attention_a(merged=True), p.attention_b(packed=True))
    assert found.proved
    assert places(found)["in_proj_weight"] == "qkv/kernel"


def test_part_of_b_s_tensor():
    found = match_weights(p.attention_a(), p.attention_b(packed=True))
    assert found.proved
    assert places(found)["v_proj.weight"] == ("qkv/kernel", 2)


WIDE = ("lin1", "lin2")


def test_a_layer_as_wide_as_the_merged_ones_is_not_divided_in_their_place():
    found = match_weights(p.attention_a(merged=True, wide=True), p.attention_b(wide=WIDE))
    assert found.proved
    assert places(found)["lin1.weight"] == "lin1/kernel"
    assert found.passes < 10  # at the first attempt


def test_another_division_is_tried_where_the_names_mislead():
    """By its name B's first wide layer is A's merged one, whole, and A's own wide layer the one to divide."""
    found = match_weights(p.attention_a(merged=True, wide=True), p.attention_b(wide=("attn/in", "lin2")))
    assert found.proved
    assert places(found)["lin1.weight"] == "attn/in/kernel"
    assert found.passes > 10


def test_a_search_that_ends_early_tries_no_other_division():
    found = match_weights(p.attention_a(merged=True, wide=True), p.attention_b(wide=WIDE, scale=0.6), passes=6)
    assert not found.proved
    assert found.passes == 6
    assert places(found)["lin1.weight"] == "lin1/kernel"


def test_fusion_on_the_second_side():
    """A multiplies and adds in two steps, B in one: nothing matches until matrix and bias are both right."""
    sizes = (5, 5, 5, 5, 5)
    found = match_weights(p.mlp_b(sizes, rename=lambda i, leaf: f"{leaf[0]}{i * 3 % 5}"), p.mlp_a(sizes))
    assert found.proved
    assert places(found) == {f"{x[0]}{i * 3 % 5}": f"fc{i}.{y}" for i in range(1, 5) for x, y in LEAVES}


LEAVES = (("kernel", "weight"), ("bias", "bias"))

NORM = {
    f"bn{i + 1}.{a}": f"{collection}/BatchNorm_{i}/{b}"
    for i in range(2)
    for a, collection, b in (
        ("weight", "params", "scale"),
        ("bias", "params", "bias"),
        ("running_mean", "batch_stats", "mean"),
        ("running_var", "batch_stats", "var"),
    )
}


def test_four_equal_vectors_a_layer_of_which_training_reads_two():
    """The initial values are all zeros and ones, and biases before a normalisation have no effect at all."""
    found = match_weights(p.norm_a(), p.norm_b())
    assert found.proved
    assert {a: b for a, b in places(found).items() if a in NORM} == NORM
    assert places(found)["fc2.bias"] == "params/Dense_1/bias"


@pytest.mark.parametrize("rate", [0.1, 0.9])
def test_running_statistics_without_names_are_told_by_the_step_or_by_evaluation(rate):
    """With B's own rate the step makes something else of them; evaluation still reads them alike."""
    found = match_weights(p.norm_a(), p.norm_b(leaves=("p", "q", "r", "s"), rate=rate))
    assert found.proved
    renamed = {"scale": "p", "bias": "q", "mean": "r", "var": "s"}
    assert {a: b.rpartition("/")[2] for a, b in places(found).items() if a in NORM} == {
        a: renamed[b.rpartition("/")[2]] for a, b in NORM.items()
    }


def test_biases_without_effect_are_told_by_where_they_are_used():
    """Neither the step nor B's evaluation, which normalises by the batch, depends on them; and their order is wrong."""
    found = match_weights(p.norm_a(), p.norm_b(biases=("params/u1/b", "params/u0/b"), ignored=True))
    assert found.proved
    assert places(found)["fc1.bias"] == "params/u1/b"
    assert places(found)["fc2.bias"] == "params/u0/b"


def test_a_bias_without_effect_is_laid_out_so_that_the_activations_agree():
    found = match_weights(p.norm_a(), p.norm_b(folded=True))
    assert found.proved
    by_name = {e.source: e for e in found.tensors}
    for i in (1, 2):
        assert (by_name[f"fc{i}.bias"].split, by_name[f"fc{i}.bias"].axes) == ((3, 2), (1, 0))


def test_running_statistics_that_are_named_after_each_other():
    found = match_weights(p.norm_a(), p.norm_b(leaves=("scale", "bias", "var", "mean")))
    assert places(found)["bn1.running_mean"] == "batch_stats/BatchNorm_0/var"
    assert len(found.notes) == 4


def test_two_tensors_that_only_one_place_fits_are_left_where_their_names_put_them():
    found = match_weights(p.norm_a(copied=True), p.norm_b())
    assert found.proved
    assert {a: b for a, b in places(found).items() if a in NORM} == NORM


UNREAD = {"leaves": ("p", "q", "r", "s"), "rate": 0.9, "ignored": True}


def test_what_nothing_tells_apart_has_to_be_chosen():
    """B updates its statistics otherwise, never reads them, and does not name them."""
    with pytest.raises(InputError, match="BatchNorm_0/r or batch_stats/BatchNorm_0/s: .* choose, for example bn1") as e:
        match_weights(p.norm_a(), p.norm_b(**UNREAD))
    assert e.value.argument == "mapping"


def test_the_user_s_choice_is_taken():
    chosen = {f"bn{i + 1}.running_mean": f"batch_stats/BatchNorm_{i}/s" for i in range(2)}
    found = match_weights(p.norm_a(), p.norm_b(**UNREAD), mapping=[f"{a}={b}" for a, b in chosen.items()])
    assert found.proved
    assert chosen.items() <= places(found).items()
    assert places(found)["bn2.running_var"] == "batch_stats/BatchNorm_1/r"


def test_a_wrong_choice_of_the_user_is_kept_and_not_proved():
    sizes = (5, 5, 5, 5)
    found = match_weights(p.mlp_a(sizes), p.mlp_b(sizes), mapping={"fc1.weight": "params/Dense_1/kernel"})
    assert not found.proved
    assert places(found)["fc1.weight"] == "params/Dense_1/kernel"
    assert found.broken.activation == "linear_1"


def test_a_choice_may_name_the_parts():
    given = {"in_proj_weight": ("query/kernel", "key/kernel", "value/kernel")}
    assert match_weights(p.attention_a(merged=True), p.attention_b(), mapping=given).proved
    assert match_weights(
        p.attention_a(merged=True), p.attention_b(), mapping=["in_proj_bias=query/bias,key/bias,value/bias"]
    ).proved


@pytest.mark.parametrize(
    ("a", "b", "clean", "places"),
    [
        (p.mlp_a(), p.mlp_b(scale=2), p.mlp_b(), ("tanh_2", "tanh2")),
        (p.mlp_a(), p.mlp_b(forget_bias=1), p.mlp_b(), ("linear_1", "add_1")),
        (p.mlp_a((5, 5, 5, 5)), p.mlp_b((5, 5, 5, 5), scale=2), p.mlp_b((5, 5, 5, 5)), ("tanh_2", "tanh2")),
        (p.conv_a(), p.conv_b(fault="tanh"), p.conv_b(), ("relu", "tanh")),
        (p.attention_a(), p.attention_b(scale=0.6), p.attention_b(), ("div", "scaled")),
        (p.norm_a(), p.norm_b(fault="leak"), p.norm_b(), ("native_batch_norm_2", "BatchNorm_1/add")),
        (p.norm_a(), p.norm_b(train_as_eval=True), p.norm_b(), ("native_batch_norm_1", "BatchNorm_0/add")),
    ],
)
def test_a_wrong_port_gets_the_right_mapping_unproved_and_the_place(a, b, clean, places):
    found = match_weights(a, b)
    assert not found.proved
    assert (found.broken.activation, found.broken.candidates[0].name) == places
    assert found.tensors == match_weights(a, clean).tensors


def test_a_search_that_ends_early_says_so():
    found = match_weights(p.attention_a(), p.attention_b(names=("z3", "z1", "z2", "z0"), scale=0.6), passes=30)
    assert not found.proved
    assert found.passes == 30
    assert "ended early" in found.notes[0]


@pytest.mark.parametrize("passes", [2, 0])
def test_too_few_passes_are_refused(passes):
    with pytest.raises(InputError, match="passes"):
        match_weights(p.mlp_a(), p.mlp_b(), passes=passes)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (p.mlp_a((5, 7, 6, 3)), p.mlp_b((5, 7, 8, 3)), r"fc2.weight \(6, 7\), .* of A has no partner; .*\(8,\)"),
        (p.mlp_a((5, 7, 6, 3)), p.mlp_b((5, 7, 3)), r"fc\d.weight .* of A has no partner"),
        (p.mlp_a((5, 7, 3)), p.mlp_b((5, 7, 6, 3)), r"Dense_\d/kernel .* of B has no partner"),
    ],
)
def test_tensors_without_a_partner_are_named(a, b, message):
    with pytest.raises(InputError, match=message):
        match_weights(a, b)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (["fc1.weight"], "write A_NAME=B_NAME"),
        (["fc9.weight=x"], "A has no tensor of this name; did you mean fc"),
        (["fc1.weight=x"], "B has no tensor of this name; it has params/Dense_0/bias"),
        ({"fc1.weight": "params/Dense_1/kernel"}, r"\(7, 5\) in A cannot be laid out as .*Dense_1/kernel \(7, 6\)"),
        ({"fc1.bias": "params/Dense_0/bias", "fc2.bias": "params/Dense_0/bias"}, "cannot be laid out"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(mapping, message):
    with pytest.raises(InputError, match=message) as error:
        match_weights(p.mlp_a(), p.mlp_b(), mapping=mapping)
    assert error.value.argument == "mapping"


def test_two_tensors_cannot_have_one_place():
    sizes = (5, 5, 5)
    given = {"fc1.bias": "params/Dense_0/bias", "fc2.bias": "params/Dense_0/bias"}
    with pytest.raises(InputError, match="has no partner"):
        match_weights(p.mlp_a(sizes), p.mlp_b(sizes), mapping=given)


def test_programs_with_other_data_are_refused():
    with pytest.raises(InputError, match=r"array 0 is \(12, 5\) in A and \(12, 4\) in B"):
        match_weights(p.mlp_a((5, 3)), p.mlp_b((4, 3)))


def _halves(names, *, blocked=None):
    """Two parallel layers whose sum is the output; one passes no gradient on."""

    def model(w, inputs, train):
        parts = [t.einsum("ni,oi->no", inputs[0], w[name], name=f"mm_{name}") for name in names]
        parts = [t.blocked(part) if name == blocked else part for name, part in zip(names, parts, strict=True)]
        return t.add(*parts, name="sum"), {}

    weights = {name: p.draw(i, 4, 5) for i, name in enumerate(names, start=1)}
    return p.NumpyProgram(weights, (p.draw(8, 9, 5), p.draw(9, 9, 4)), model)


def test_places_that_only_gradients_tell_apart():
    """Either way round the sum is the same, and so are the names; the layer without a gradient is B's second."""
    found = match_weights(_halves(("x", "y"), blocked="x"), _halves(("y", "x"), blocked="y"))
    assert found.proved
    assert places(found) == {"x": "y", "y": "x"}


@st.composite
def disguised(draw):
    """Sizes of an MLP, many of them equal, and a renaming and order of its tensors."""
    sizes = tuple(draw(st.lists(st.sampled_from([4, 5]), min_size=3, max_size=5)))
    layers = len(sizes) - 1
    codes = draw(st.permutations(range(2 * layers)))
    order = draw(st.permutations(range(2 * layers)))
    transposed = draw(st.lists(st.booleans(), min_size=layers, max_size=layers))
    return sizes, codes, order, transposed


def _disguised(sizes, codes, order, transposed):
    """The MLP with tensors t0, t1, ... in any order, each kernel transposed or not; and the true mapping."""
    layers = len(sizes) - 1
    kernels, biases = ([f"t{code}" for code in codes[i::2]] for i in range(2))

    def model(w, inputs, train):
        (x,) = inputs
        for i in range(layers):
            spec = "ni,io->no" if transposed[i] else "ni,oi->no"
            x = t.add(t.einsum(spec, x, w[kernels[i]]), w[biases[i]], name=f"v{i}")
            x = t.tanh(x, name=f"h{i}") if i < layers - 1 else x
        return x, {}

    shapes = {}
    for i in range(layers):
        shape = (sizes[i + 1], sizes[i])
        shapes |= {kernels[i]: shape[::-1] if transposed[i] else shape, biases[i]: (sizes[i + 1],)}
    names = [sorted(shapes)[i] for i in order]
    weights = {name: p.draw(300 + i, *shapes[name]) for i, name in enumerate(names)}
    true = {f"fc{i + 1}.weight": kernels[i] for i in range(layers)} | {
        f"fc{i + 1}.bias": biases[i] for i in range(layers)
    }
    return p.NumpyProgram(weights, p.mlp_a(sizes).arrays, model), true


@settings(deadline=None, max_examples=60)
@given(disguised())
def test_any_renaming_order_and_transposes_are_seen_through(case):
    sizes, _, _, transposed = case
    b, true = _disguised(*case)
    found = match_weights(p.mlp_a(sizes), b)
    assert found.proved
    assert places(found) == true
    axes = {e.source: e.axes for e in found.tensors}
    assert [axes[f"fc{i + 1}.weight"] == (1, 0) for i in range(len(transposed))] == transposed
