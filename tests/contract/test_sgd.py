import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parity.contract import SGD, InputError

numbers = st.sampled_from([-1.0, -1e-9, 0.0, 1e-3, 0.5, 1.0, 2.0])


def refusal(make, *positional, **arguments):
    try:
        make(*positional, **arguments)
    except ValueError as error:
        return error
    return None


@given(
    lr=numbers,
    momentum=numbers,
    dampening=numbers,
    weight_decay=numbers,
    nesterov=st.booleans(),
    maximize=st.booleans(),
)
def test_refuses_exactly_what_torch_refuses_and_says_torchs_sentence(**arguments):
    parameter = torch.nn.Parameter(torch.zeros(1))
    theirs = refusal(torch.optim.SGD, [parameter], **arguments)
    ours = refusal(SGD, **arguments)
    assert (theirs is None) == (ours is None)
    assert str(theirs or "") in str(ours or "")


@pytest.mark.parametrize("argument", ["lr", "momentum", "dampening", "weight_decay"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_what_is_not_finite_although_torch_does_not(argument, value):
    with pytest.raises(InputError, match=rf"{argument} {value}: .*finite"):
        SGD(**{argument: value})


def test_defaults_are_the_tutorials():
    assert (SGD().lr, SGD().momentum) == (0.001, 0.9)
