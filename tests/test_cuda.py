"""On an NVIDIA GPU: full float32, the same bits again, and the twins still match."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jax_impl
import torch_impl
from parity.compare import relative_difference
from parity.contract import SGD, initial_weights
from parity.data import Loader
from tests.conftest import small_arrays

# Not torch_impl:compiled: torch cannot compile functions whose annotations pytest checks. The last test runs it.
SIDES = {
    "torch_impl:eager": torch_impl.eager,
    "torch_impl:fast": torch_impl.fast,
    "jax_impl:plain": jax_impl.plain,
    "jax_impl:fast": jax_impl.fast,
}


@pytest.fixture(params=SIDES)
def side(request):
    implementation = SIDES[request.param]
    if "cuda" not in implementation.devices():
        pytest.skip(f"{request.param.partition('_')[0]} finds no NVIDIA GPU here")
    return implementation


def run(side, dataset, dtype, device):
    """Losses of an epoch, and the logits after it."""
    state = side.start(initial_weights(0), SGD(), dtype=dtype, device=device)
    data = side.place(state, dataset.train_images, dataset.train_labels)
    losses = []
    for plan in Loader(size=len(dataset.train_labels), batch_size=4, seed=0).plans(0):
        state, piece = side.run(state, data, plan)
        losses.append(piece)
    return np.concatenate(losses), side.logits(state, data)


def test_float32_products_are_full_float32(side, small):
    """TF32 keeps 10 bits: its products are off by 5e-4, float32's by 6e-8. The bound lies between, far from both."""
    state = side.start(initial_weights(0), SGD(), dtype="float32", device="cuda")
    logits = side.logits(state, side.place(state, small.test_images, small.test_labels))
    cpu = torch_impl.eager
    exact = cpu.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
    expected = cpu.logits(exact, cpu.place(exact, small.test_images, small.test_labels))
    assert relative_difference(logits, expected) < 5e-6


def test_a_repeat_is_bit_equal(side, small):
    first, again = (run(side, small, "float32", "cuda") for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert a.tobytes() == b.tobytes()


def test_float64_agrees_with_the_cpu(side, small):
    gpu, cpu = run(side, small, "float64", "cuda"), run(torch_impl.eager, small, "float64", "cpu")
    for a, b in zip(gpu, cpu, strict=True):
        assert relative_difference(a, b) < 1e-12


@pytest.mark.parametrize(("name", "path"), [("torch_impl", "CUDA graphs"), ("torch_impl:compiled", "compiled")])
def test_the_twins_match_on_cuda(name, path, tmp_path):
    """In a process of its own, where torch can compile."""
    if not all("cuda" in one.devices() for one in (torch_impl.impl, jax_impl.impl)):
        pytest.skip("torch and JAX do not both find an NVIDIA GPU here")
    np.savez(tmp_path / "small.npz", **small_arrays())
    command = [Path(sys.executable).with_name("parity"), "run", name, "jax_impl", "--no-report"]
    command += ["--device", "cuda", "--data", "small.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{name}: torch " in done.stdout
    assert f", {path}, " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("verdict: match in float64")
