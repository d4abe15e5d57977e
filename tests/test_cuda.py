"""On an NVIDIA GPU: full float32, the same bits again, and the twins still match."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import jax_impl
import torch_impl
import torch_impl.limits
from parity.bench.limits import Limits
from parity.bench.report import read_report
from parity.compare import relative_difference
from parity.contract import SGD, StepLR, initial_weights
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


def run(side, dataset, dtype, device, sgd=SGD()):  # noqa: B008  it is frozen
    """Losses of an epoch, and the logits after it."""
    state = side.start(initial_weights(0), sgd, dtype=dtype, device=device)
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


SCHEDULED = SGD(lr=0.002, schedule=StepLR(step_size=7))


def require_both():
    if not all("cuda" in one.devices() for one in (torch_impl.impl, jax_impl.impl)):
        pytest.skip("torch and JAX do not both find an NVIDIA GPU here")


def in_a_process(folder, *arguments):
    """`parity` in a process of its own: each framework's settings are read when it starts, and torch can compile."""
    np.savez(folder / "small.npz", **small_arrays())
    command = [Path(sys.executable).with_name("parity"), *arguments, "--device", "cuda", "--data", "small.npz"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("sgd", [SGD(), SCHEDULED])
@pytest.mark.parametrize("framework", ["torch_impl", "jax_impl"])
def test_the_paths_of_a_side_agree(framework, sgd, small):
    """On the GPU, in float64; with a schedule, whose rates a graph reads from memory."""
    sides = [side for name, side in SIDES.items() if name.startswith(framework)]
    if "cuda" not in sides[0].devices():
        pytest.skip(f"{framework} finds no NVIDIA GPU here")
    for a, b in zip(*(run(side, small, "float64", "cuda", sgd) for side in sides), strict=True):
        assert relative_difference(a, b) < 1e-12


@pytest.mark.parametrize("parts", [(26,), (13, 13), (1, 20, 5)])
def test_chunks_do_not_matter_to_torchs_graphs(parts, small):
    side, plan = torch_impl.fast, np.arange(104, dtype=np.int32).reshape(26, 4) % 102
    if "cuda" not in side.devices():
        pytest.skip("torch finds no NVIDIA GPU here")
    state = side.start(initial_weights(0), SCHEDULED, dtype="float32", device="cuda")
    data = side.place(state, small.train_images, small.train_labels)
    whole = side.weights(side.run(state, data, plan)[0])
    for part in np.split(plan, np.cumsum(parts)[:-1]):
        state, _ = side.run(state, data, part)
    assert side.describe(state).count(", CUDA graphs, ") == 1
    for name, value in side.weights(state).items():
        assert value.tobytes() == whole[name].tobytes(), name


def test_a_side_says_how_much_memory_it_has_used(side, small):
    run(side, small, "float32", "cuda")
    assert side.peak_memory() > small.train_images.nbytes


def test_the_gpus_limits_are_measured():
    if not torch.cuda.is_available():
        pytest.skip("torch finds no NVIDIA GPU here")
    dtypes = ("float32", "float64", *(["tf32"] if torch.cuda.get_device_capability() >= (8, 0) else []))
    limits = Limits(**torch_impl.limits.cuda(threads=1, dtypes=dtypes))
    assert set(limits.operations) == set(dtypes)
    assert min(*limits.operations.values(), limits.bandwidth, limits.memory_bandwidth, limits.latency) > 0
    assert limits.bandwidth >= limits.memory_bandwidth
    assert limits.name == torch.cuda.get_device_name()


@pytest.mark.parametrize("dtype", ["float32", "tf32"])
def test_the_bench_times_both_and_knows_their_memory(dtype, tmp_path):
    require_both()
    if dtype == "tf32" and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no TF32")
    quick = ("--dtype", dtype, "--batch-sizes", "2", "--rounds", "2", "--round-seconds", "0.05", "--no-report")
    done = in_a_process(tmp_path, "bench", "torch_impl", "jax_impl", "--no-reference", *quick, "--json", "bench.json")
    assert done.returncode == 0, done.stdout + done.stderr
    (cell,) = read_report(tmp_path / "bench.json", argument="json").cells
    assert (cell.device, cell.dtype) == ("cuda", dtype)
    assert cell.floor > 0
    for row in cell.rows:
        assert row.outcome == "timed", row.reason
        assert row.memory.device > 0
        assert ("TF32 products" in row.description) == (dtype == "tf32")


@pytest.mark.parametrize(("name", "path"), [("torch_impl", "CUDA graphs"), ("torch_impl:compiled", "compiled")])
def test_the_twins_match_on_cuda(name, path, tmp_path):
    require_both()
    done = in_a_process(tmp_path, "run", name, "jax_impl", "--no-report")
    assert done.returncode == 0, done.stderr
    assert f"{name}: torch " in done.stdout
    assert f", {path}, " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("verdict: match in float64")
