import jax
import numpy as np
import pytest

from jax_impl.layout import TABLE, from_canonical, to_canonical
from jax_impl.model import parameter_shapes
from parity.contract import CNN_PARAMETERS, InputError, initial_weights


def numbered():
    """Every element of every tensor is another number, so that no two can be exchanged unnoticed."""
    return {name: np.arange(np.prod(s), dtype=np.float32).reshape(s) for name, s in CNN_PARAMETERS.items()}


def test_the_table_covers_every_parameter_of_both_sides():
    assert TABLE.keys() == CNN_PARAMETERS.keys()
    native = jax.tree.map(lambda leaf: leaf.shape, parameter_shapes(np.dtype("float32")))
    ours = jax.tree.map(lambda leaf: leaf.shape, from_canonical(numbered(), dtype="float32"))
    assert ours == native


def test_there_and_back():
    for name, value in to_canonical(from_canonical(numbered(), dtype="float32")).items():
        np.testing.assert_array_equal(value, numbered()[name])


def test_each_element_goes_where_the_layout_says():
    params = from_canonical(numbered(), dtype="float32")
    canonical = numbered()
    out, inn, row, column = 11, 4, 3, 1
    assert params["conv2"]["kernel"][row, column, inn, out] == canonical["conv2.weight"][out, inn, row, column]
    assert params["fc2"]["kernel"][7, 5] == canonical["fc2.weight"][5, 7]
    channel, row, column = 13, 2, 4
    feature_chw, feature_hwc = channel * 25 + row * 5 + column, (row * 5 + column) * 16 + channel
    assert params["fc1"]["kernel"][feature_hwc, 17] == canonical["fc1.weight"][17, feature_chw]


def test_refuses_unknown_names():
    with pytest.raises(InputError, match="tensor fc4.bias is not one of the CNN's"):
        from_canonical({**initial_weights(0), "fc4.bias": np.zeros(3)}, dtype="float32")
