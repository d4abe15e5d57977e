import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.matching import Part, TensorMap, WeightMapping
from parity.matching.activations import Candidate, ForwardBreak
from parity.matching.layouts import layouts
from tests.matching.programs import draw


def entry(source_shape, target_shape, layout, **parts):
    return TensorMap(
        source="a",
        target="b",
        source_shape=source_shape,
        split=layout.split,
        axes=layout.axes,
        shape=target_shape,
        **parts,
    )


def results(source, target, blocks=()):
    value = np.arange(np.prod(source, dtype=int)).reshape(source)
    return [entry(source, target, layout).to_target(value) for layout in layouts(source, target, blocks)]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((6, 3, 5, 7), (5, 7, 3, 6), lambda x: x.transpose(2, 3, 1, 0)),
        ((4, 9), (9, 4), lambda x: x.T),
        ((7,), (7,), lambda x: x),
        ((1, 7, 1), (7,), lambda x: x.reshape(7)),
        ((), (), lambda x: x),
        ((21, 8), (8, 3, 7), lambda x: x.reshape(3, 7, 8).transpose(2, 0, 1)),
        ((8, 3, 5), (15, 8), lambda x: x.transpose(1, 2, 0).reshape(15, 8)),
        ((6, 3, 5, 7), (105, 6), lambda x: x.transpose(1, 2, 3, 0).reshape(105, 6)),
    ],
)
def test_the_plainest_layout_comes_first(source, target, expected):
    value = np.arange(np.prod(source, dtype=int)).reshape(source)
    np.testing.assert_array_equal(results(source, target)[0], expected(value))


def test_a_flattened_feature_map_can_be_reordered():
    value = np.arange(3 * 80).reshape(3, 80)
    expected = value.reshape(3, 4, 4, 5).transpose(2, 3, 1, 0).reshape(80, 3)
    found = results((3, 80), (80, 3), [((4, 4, 5), (4, 5, 4))])
    assert any(np.array_equal(each, expected) for each in found)
    assert len(found) == 3  # as it is, and with either of the two equal axes as the channels


def test_a_square_matrix_has_two_layouts():
    assert len(layouts((5, 5), (5, 5))) == 2


@pytest.mark.parametrize(("source", "target"), [((4, 6), (4, 5)), ((4, 6), (3, 8)), ((6,), (7,))])
def test_other_sizes_have_none(source, target):
    assert layouts(source, target) == ()


shapes = st.sampled_from(
    [
        ((6, 3, 2, 2), (2, 2, 3, 6)),
        ((12, 4), (4, 3, 2, 2)),
        ((4, 3, 2, 2), (12, 4)),
        ((5, 5), (5, 5)),
        ((8, 1, 3), (3, 8)),
    ]
)


@given(shapes)
def test_every_layout_is_another_and_goes_back_exactly(pair):
    source, target = pair
    value = draw(1, *source)
    ways = layouts(source, target)
    there = [entry(source, target, way) for way in ways]
    for way in there:
        np.testing.assert_array_equal(way.to_source(way.to_target(value)), value)
    assert len({way.to_target(value).tobytes() for way in there}) == len(ways) > 0


def packed_mapping():
    """A's (9, 4) -> three of B's (4, 3); A's two vectors -> B's (2, 5), and one transposed."""
    entries = [
        TensorMap(
            source="in",
            target=name,
            source_shape=(3, 4),
            split=(3, 4),
            axes=(1, 0),
            shape=(4, 3),
            source_part=Part(axis=0, index=index, count=3),
        )
        for index, name in enumerate("qkv")
    ]
    entries += [
        TensorMap(
            source=name,
            target="both",
            source_shape=(5,),
            split=(5,),
            axes=(0,),
            shape=(1, 5),
            target_part=Part(axis=0, index=index, count=2),
        )
        for index, name in enumerate(("x", "y"))
    ]
    return WeightMapping(tensors=tuple(entries), proved=True, inputs=(None, (0, 2, 1)))


def test_parts_are_put_together_on_either_side():
    mapping = packed_mapping()
    ours = {"in": draw(1, 9, 4), "x": draw(2, 5), "y": draw(3, 5)}
    theirs = mapping.to_target(ours)
    np.testing.assert_array_equal(theirs["k"], ours["in"][3:6].T)
    np.testing.assert_array_equal(theirs["both"], np.stack([ours["x"], ours["y"]]))
    back = mapping.to_source(theirs)
    assert back.keys() == ours.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(back[name], value)


def test_what_comes_out_shares_no_memory_with_what_went_in():
    mapping = packed_mapping()
    ours = {"in": draw(1, 9, 4), "x": draw(2, 5), "y": draw(3, 5)}
    plain = TensorMap(source="x", target="x", source_shape=(5,), split=(5,), axes=(0,), shape=(5,))
    for table in (mapping, WeightMapping(tensors=(plain,))):
        for value in table.to_target(ours).values():
            value[...] = 0
    assert all(value.all() for value in ours.values())


def test_a_missing_tensor_is_left_out_and_a_missing_part_is_zero():
    back = packed_mapping().to_source({"q": np.ones((4, 3)), "v": np.ones((4, 3))})
    assert back.keys() == {"in"}
    assert back["in"].any(axis=1).tolist() == [True] * 3 + [False] * 3 + [True] * 3


def test_a_mapping_can_be_stored_as_json():
    broken = ForwardBreak(
        activation="relu",
        after=("conv",),
        after_other=("add.1",),
        candidates=(Candidate(name="tanh", distance=0.5, axes=(0, 2, 1)), Candidate(name="x", distance=1.0, axes=None)),
    )
    mapping = WeightMapping(tensors=packed_mapping().tensors, broken=broken, passes=7, notes=("one",))
    assert WeightMapping.from_json(json.loads(json.dumps(mapping.to_json()))) == mapping


def test_an_entry_says_what_it_does():
    lines = [str(each) for each in packed_mapping().tensors]
    assert lines[1] == "in (part 2 of 3) -> k, transposed"
    assert lines[3] == "x -> both (part 1 of 2), reshaped to (1, 5)"
