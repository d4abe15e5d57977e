import pytest

from parity.matching.names import contradict, labels, similarity

TORCH = {"bn1.weight": (6,), "bn1.bias": (6,), "bn1.running_mean": (6,), "bn2.running_mean": (6,), "fc.weight": (3, 6)}
FLAX = {
    "params/BatchNorm_0/scale": (6,),
    "params/BatchNorm_0/bias": (6,),
    "batch_stats/BatchNorm_0/mean": (6,),
    "batch_stats/BatchNorm_1/mean": (6,),
    "params/Dense_0/kernel": (6, 3),
}


@pytest.mark.parametrize("name", TORCH)
def test_the_same_thing_is_most_similar_under_either_framework_s_name(name):
    ours, theirs = labels(TORCH), labels(FLAX)
    points = {other: similarity(ours[name], theirs[other]) for other in FLAX}
    assert max(points, key=points.__getitem__) == dict(zip(TORCH, FLAX, strict=True))[name]


def test_numbers_count_among_tensors_of_one_shape():
    found = labels({"lin1.kernel": (4, 8), "lin2.kernel": (8, 4), "lin3.kernel": (4, 8)})
    assert [label.rank for label in found.values()] == [0, 0, 1]


def test_a_module_s_collection_is_not_part_of_its_name():
    found = labels(FLAX)
    assert found["batch_stats/BatchNorm_0/mean"].module == found["params/BatchNorm_0/scale"].module == "BatchNorm_0"


def test_kinds_contradict_only_where_both_are_known():
    found = labels({"a.weight": (1,), "a.bias": (1,), "a.s": (1,)})
    weight, bias, unknown = found.values()
    assert contradict(weight, bias)
    assert not contradict(weight, unknown)


def test_modules_known_to_belong_together_speak_for_their_neighbours():
    ours = labels({"block.attn.b": (6,)})["block.attn.b"]
    theirs = labels({"0/attention/key/b": (6,), "1/attention/key/b": (6,)})
    modules = {"block/attn": frozenset({"1/attention/query", "1/attention/value"})}
    first, second = (similarity(ours, label, modules) for label in theirs.values())
    assert second > first
