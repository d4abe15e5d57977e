import hashlib
import math

import numpy as np
import pytest
import torch

from parity.contract import CNN_PARAMETERS, InputError, check_weights, initial_weights
from torch_impl.model import CNN


def test_the_table_is_the_torch_models():
    model = CNN(dtype=torch.float32, device=torch.device("cpu"))
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == dict(CNN_PARAMETERS)


def test_initial_weights_are_the_same_everywhere():
    digest = hashlib.sha256(b"".join(value.astype("<f4").tobytes() for value in initial_weights(0).values()))
    assert digest.hexdigest() == "19ea32da3ae9115de1df57aa0768e3bde4180ff663c98df028f30aab42704959"


def test_initial_weights_have_torchs_distribution():
    """Kolmogorov-Smirnov distance to the uniform distribution; 1.95/sqrt(n) is passed once in 1,000 honest draws."""
    weights = initial_weights(3)
    for name, value in weights.items():
        fan_in = math.prod(CNN_PARAMETERS[name.replace("bias", "weight")][1:])
        uniform = np.sort((value.ravel().astype(float) * math.sqrt(fan_in) + 1) / 2)
        assert 0 <= uniform[0] <= uniform[-1] <= 1
        distance = np.abs(uniform - (np.arange(len(uniform)) + 0.5) / len(uniform)).max()
        assert distance < 1.95 / math.sqrt(len(uniform)), name


def test_seeds_give_different_weights():
    assert not np.array_equal(initial_weights(0)["fc1.weight"], initial_weights(1)["fc1.weight"])


def broken(name, value):
    weights = dict(initial_weights(0))
    if value is None:
        del weights[name]
    else:
        weights[name] = value
    return weights


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        (broken("fc1.bias", None), "tensor fc1.bias is missing"),
        (broken("fc9.bias", np.zeros(3)), "tensor fc9.bias is not one of the CNN's"),
        (broken("fc2.weight", np.zeros((120, 84))), r"tensor fc2.weight has shape \(120, 84\), not \(84, 120\)"),
        (broken("fc3.bias", np.zeros(10, int)), "tensor fc3.bias is int64, not float32 or float64"),
        (broken("fc3.bias", np.full(10, np.nan)), "tensor fc3.bias holds NaN or infinity"),
    ],
)
def test_check_weights_refuses(weights, problem):
    with pytest.raises(InputError, match=problem):
        check_weights(weights)
