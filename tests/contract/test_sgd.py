from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parity.contract import SGD, InputError, OneCycleLR

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


@pytest.mark.parametrize("argument", ["clip_norm", "clip_value"])
@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan"), float("inf")])
def test_refuses_limits_with_which_nothing_is_learnt(argument, value):
    with pytest.raises(InputError, match=rf"{argument} {value}: it is not above 0"):
        SGD(**{argument: value})


def test_refuses_two_ways_to_clip():
    with pytest.raises(InputError, match="clip_norm 1.0: clip_value is given too; give one of both"):
        SGD(clip_norm=1.0, clip_value=0.1)


def test_has_a_buffer_where_torch_keeps_one():
    assert SGD().has_buffer
    assert not SGD(momentum=0.0).has_buffer
    cycle = OneCycleLR(max_lr=0.1, total_steps=10)
    assert SGD(momentum=0.0, schedule=cycle).has_buffer
    assert not SGD(momentum=0.0, schedule=replace(cycle, cycle_momentum=False)).has_buffer
