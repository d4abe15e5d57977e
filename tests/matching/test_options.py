import numpy as np
import pytest

from parity.contract import InputError, StepTrace
from parity.matching.activations import Captured
from parity.matching.divisions import divisions
from parity.matching.options import Options, Unit


def side(trained, activations=()):
    """A step in which these parameters were trained, in order of use."""
    return Captured(
        StepTrace(
            batch={},
            weights={},
            activations={str(i): np.zeros(shape) for i, shape in enumerate(activations)},
            logits={"logits": np.zeros(1)},
            loss={"loss": np.zeros(())},
            gradients=dict.fromkeys(trained, np.zeros(1)),
            momentum={},
            parameters={},
        )
    )


def options(a, b, *, used_a=None, used_b=None, activations=((), ())):
    units = [tuple(Unit(name=name, shape=shape) for name, shape in shapes.items()) for shapes in (a, b)]
    traces = side(used_a or a, activations[0]), side(used_b or b, activations[1])
    return Options(a=units[0], b=units[1], traces=traces)


def cheapest(found):
    return {found.a[c.a].name: (found.b[c.b].name, c.layout.axes) for c in found.cheapest(found.choices)}


OIHW, HWIO = (4, 2, 3, 3), (3, 3, 2, 4)


@pytest.mark.parametrize(
    ("a", "b", "axes"), [(OIHW, HWIO, (2, 3, 1, 0)), (HWIO, OIHW, (3, 2, 0, 1)), (OIHW, OIHW, (0, 1, 2, 3))]
)
def test_a_kernel_of_four_equal_axes_is_laid_out_as_the_others_are(a, b, axes):
    found = options({"c1.w": a, "c2.w": (3, 3, 3, 3)}, {"c1.w": b, "c2.w": (3, 3, 3, 3)})
    assert cheapest(found)["c2.w"] == ("c2.w", axes)


def test_a_square_matrix_is_transposed_if_the_others_are():
    names = {"a.w": (4, 6), "b.w": (5, 5)}
    assert cheapest(options(names, {"a.w": (6, 4), "b.w": (5, 5)}))["b.w"] == ("b.w", (1, 0))
    assert cheapest(options(names, names))["b.w"] == ("b.w", (0, 1))


def test_without_names_the_order_of_use_decides():
    found = options(
        {"r": (4, 6), "s": (4, 6), "t": (4, 6)},
        {"x": (6, 4), "y": (6, 4), "z": (6, 4)},
        used_a=("t", "s", "r"),
        used_b=("y", "z", "x"),
    )
    assert {a: b for a, (b, _) in cheapest(found).items()} == {"t": "y", "s": "z", "r": "x"}


def test_a_feature_map_is_reordered_only_where_the_activations_are():
    names = {"fc.w": (3, 24)}, {"fc.k": (24, 3)}
    maps = (9, 2, 3, 4), (9, 3, 4, 2)
    assert len(cheapest(options(*names, activations=(maps[:1], maps[1:])))["fc.w"][1]) == 4
    assert cheapest(options(*names, activations=(maps[:1], maps[:1])))["fc.w"][1] == (1, 0)


def test_divisions_are_tried_in_the_order_of_their_plausibility():
    a = {"up.weight": (12, 4), "attn.in.weight": (12, 4)}
    b = {"up.kernel": (4, 12), "attn.q.kernel": (4, 4), "attn.k.kernel": (4, 4), "attn.v.kernel": (4, 4)}
    found = divisions(options(a, b))
    assert [next(unit.name for unit in each.a if unit.part.count == 3) for each in found] == [
        "attn.in.weight",
        "up.weight",
    ]


def test_nothing_is_divided_without_need():
    names = {"a.weight": (12, 4), "b.weight": (4, 4)}
    assert [each.a for each in divisions(options(names, names))] == [options(names, names).a]


def test_what_no_division_mends_is_named():
    with pytest.raises(
        InputError, match=r"b.weight \(5, 7\) of A has no partner; b.weight \(5, 8\) of B has no partner"
    ):
        divisions(options({"a.weight": (3,), "b.weight": (5, 7)}, {"a.weight": (3,), "b.weight": (5, 8)}))
