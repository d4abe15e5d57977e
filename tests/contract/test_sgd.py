import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parity.contract import SGD, InputError

numbers = st.sampled_from([-1.0, -1e-9, 0.0, 1e-3, 0.5, 1.0, 2.0])


@given(
    lr=numbers, momentum=numbers, dampening=numbers, weight_decay=numbers, nesterov=st.booleans(), maximize=st.booleans()
)
def test_refuses_exactly_what_torch_refuses_and_says_torchs_sentence(**arguments):
    parameter = torch.nn.Parameter(torch.zeros(1))
    try:
        torch.optim.SGD([parameter], **arguments)
    except ValueError as error:
        with pytest.raises(InputError) as ours:
            SGD(**arguments)
        assert str(error) in str(ours.value)
    else:
        assert SGD(**arguments).lr == arguments["lr"]


@pytest.mark.parametrize("argument", ["lr", "momentum", "dampening", "weight_decay"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_what_is_not_finite_although_torch_does_not(argument, value):
    with pytest.raises(InputError, match=rf"{argument} {value}: .*finite"):
        SGD(**{argument: value})


def test_defaults_are_the_tutorials():
    assert (SGD().lr, SGD().momentum) == (0.001, 0.9)
