"""TF32 is what both sides forbid, unless it is asked for; on a GPU it is tried in tests/test_cuda.py."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
import torch

import jax_impl
import torch_impl
from jax_impl.convolutions import WINDOWED
from jax_impl.device import exact as jax_exact
from jax_impl.device import require_precision
from jax_impl.train import train_steps
from parity.contract import SGD, InputError, initial_weights
from parity.registry import resolve
from torch_impl.device import exact as torch_exact
from torch_impl.device import precision

CPU = jax.devices("cpu")[0]
CUDA = torch.device("cuda")
PLAN = np.arange(8, dtype=np.int32).reshape(2, 4)


def torch_settings():
    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    operations = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv)
    return tuple(operation.fp32_precision for operation in operations)


def test_torch_allows_it_on_a_gpu_alone_and_puts_the_callers_settings_back():
    before = torch_settings()
    with torch_exact(tf32=True):
        assert torch_settings() == ("tf32", "tf32", "tf32", "ieee", "ieee")
        assert torch.are_deterministic_algorithms_enabled()
        # What torch's compiler asks, and raises where the two ways of saying it contradict each other.
        assert torch.get_float32_matmul_precision() == "high"
        with torch_exact():
            assert torch_settings() == ("ieee",) * 5
        assert torch_settings() == ("tf32", "tf32", "tf32", "ieee", "ieee")
    assert torch_settings() == before


@pytest.mark.parametrize(("dtype", "highest"), [("float32", True), ("tf32", False)])
def test_jax_asks_for_it_in_every_product(dtype, highest, small):
    """Of the program for a GPU: XLA takes full float32 where the precision is HIGHEST, and TF32 where it is HIGH."""
    side = jax_impl.plain
    state = side.start(initial_weights(0), SGD(), dtype="float32", device="cpu")
    data = side.place(state, small.train_images, small.train_labels)
    with jax_exact(dtype, CPU):
        arrays = (state.carry, state.table, data.images, data.labels, PLAN)
        traced = train_steps.default.trace(*arrays, rates=None, sgd=state.sgd, formulation=WINDOWED)
        lines = traced.lower(lowering_platforms=("cuda",)).as_text().splitlines()
    products = [line for line in lines if "stablehlo.convolution" in line or "stablehlo.dot_general" in line]
    assert len(products) == 14  # five layers forward, and backward by weights and, but for the first, by inputs
    assert all(("HIGHEST" in line) == highest for line in products)
    assert all("HIGH" in line for line in products)


@pytest.mark.parametrize("name", ["torch_impl", "torch_impl:eager", "jax_impl", "jax_impl:plain"])
def test_the_cpu_has_none(name):
    with pytest.raises(InputError, match=r"^dtype tf32: this cpu has no TF32; use float32, or a GPU"):
        resolve(name).start(initial_weights(0), SGD(), dtype="tf32", device="cpu")


@pytest.mark.parametrize(("capability", "has"), [((7, 5), False), ((8, 0), True), ((12, 0), True)])
def test_gpus_before_ampere_have_none(capability, has, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    gpu = SimpleNamespace(platform="gpu", compute_capability="{}.{}".format(*capability))
    require = getattr(require_precision, "__wrapped__", require_precision)  # the fake is no jax.Device
    if has:
        assert precision("tf32", CUDA) == (torch.float32, True)
        require("tf32", gpu)
    else:
        for refused in (lambda: precision("tf32", CUDA), lambda: require("tf32", gpu)):
            with pytest.raises(InputError, match="has no TF32; use float32, or a GPU from Ampere on"):
                refused()


@pytest.mark.parametrize("side", [torch_impl.eager, torch_impl.fast])
def test_torchs_runs_are_in_it(side, small, monkeypatch):
    """On the CPU, which computes in full all the same; what is allowed is seen from within."""
    monkeypatch.setattr("torch_impl.implementation.precision", lambda *_: (torch.float32, True))
    seen = set()
    monkeypatch.setattr(
        "torch_impl.program.update" if side is torch_impl.fast else "torch_impl.implementation.train_steps",
        lambda *_, **__: seen.add(torch_settings()[:2]) or torch.zeros(len(PLAN)),
    )
    state = side.start(initial_weights(0), SGD(), dtype="tf32", device="cpu")
    side.run(state, side.place(state, small.train_images, small.train_labels), PLAN)
    assert seen == {("tf32", "tf32")}
    assert side.describe(state).endswith(", TF32 products, CPU")


def test_jaxs_runs_are_in_it_and_keep_float32(small, monkeypatch):
    monkeypatch.setattr("jax_impl.implementation.require_precision", lambda *_: None)
    side, found = jax_impl.impl, []
    for dtype in ("tf32", "float32"):
        state = side.start(initial_weights(0), SGD(), dtype=dtype, device="cpu")
        state, losses = side.run(state, side.place(state, small.train_images, small.train_labels), PLAN)
        found.append((losses, *side.weights(state).values()))
        assert side.describe(state).endswith(", TF32 products, CPU") == (dtype == "tf32")
    for ours, plain in zip(*found, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, plain, rtol=1e-6)
