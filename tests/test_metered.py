"""How much of a device's memory a side has used, as `parity bench` asks it; on a GPU in tests/test_cuda.py."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import jax_impl
import torch_impl
from parity.contract import Metered

SIDES = {
    "torch_impl": torch_impl.impl,
    "torch_impl:eager": torch_impl.eager,
    "torch_impl.adapt": torch_impl.adapt(
        layer := torch.nn.Linear(2, 1),
        torch.nn.functional.mse_loss,
        torch.optim.SGD(layer.parameters(), lr=0.1),
        data=(np.zeros((4, 2)), np.zeros((4, 1))),
    ),
    "jax_impl": jax_impl.impl,
    "jax_impl:plain": jax_impl.plain,
}


@pytest.fixture(params=SIDES)
def side(request):
    return SIDES[request.param]


def a_gpu_with(monkeypatch, peak):
    """To both frameworks: one that counts so many bytes."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peak)
    gpu = SimpleNamespace(memory_stats=lambda: {"peak_bytes_in_use": peak, "bytes_in_use": 1})
    monkeypatch.setattr("jax_impl.device._find", lambda _: gpu)


def test_the_peak_is_the_devices(side, monkeypatch):
    a_gpu_with(monkeypatch, 12345)
    assert isinstance(side, Metered)
    assert side.peak_memory() == 12345


def test_a_gpu_that_was_not_used_has_no_peak(side, monkeypatch):
    """As where there is one, and the run is on the CPU."""
    a_gpu_with(monkeypatch, 0)
    assert side.peak_memory() is None


def test_without_a_gpu_there_is_none(side, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr("jax_impl.device._find", lambda _: None)
    assert side.peak_memory() is None


def test_a_device_that_counts_nothing_has_no_peak(monkeypatch):
    monkeypatch.setattr("jax_impl.device._find", lambda _: SimpleNamespace(memory_stats=lambda: None))
    assert jax_impl.impl.peak_memory() is None
