"""Every peer trains the same program: its losses and weights are the oracle's."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from parity.compare import largest_gap, loss_differences
from parity.contract import CNN_PARAMETERS, SGD, InputError, StepLR, initial_weights
from parity.oracle import impl as oracle
from tests.peers.programs import SGDS, resolve, train

ROOT = Path(__file__).parent.parent.parent

# What a rounding of 1 makes of 20 steps: a step's sums have up to 3,136 terms, whose roundings grow with the square
# root of their number, 56; a stable lr does not amplify them, and those of 20 steps add up like a square root again.
GROWTH = 56 * 20**0.5
BOUNDS = {dtype: GROWTH * np.finfo(dtype).eps / 2 for dtype in ("float32", "float64")}

PACKAGES = {
    "parity_peers.eager": ("torch",),
    "parity_peers.tutorial": ("torch", "torchvision"),
    "parity_peers.lightning_loop": ("torch", "lightning"),
    "parity_peers.nnx_loop": ("jax", "flax", "optax"),
    "parity_peers.keras_fit": ("torch", "jax", "keras"),
    "parity_peers.reference": ("numba",),
}


def require(name: str) -> None:
    """Skip where a package is missing. It is not imported: Keras would choose its backend."""
    for package in PACKAGES[name.partition(":")[0]]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install -e '.[bench]'")


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def trained(name: str, folder: Path, device: str, *dtypes: str) -> dict[str, list[dict[str, np.ndarray]]]:
    """What the peer made of every setting, by dtype, in a process of its own; nothing is printed and nothing warns."""
    done = python("-m", "tests.peers.programs", name, device, folder / "out.npz", *dtypes)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    with np.load(folder / "out.npz") as arrays:
        return {
            dtype: [
                {key: arrays[f"{dtype}.{number}.{key}"] for key in ("losses", *CNN_PARAMETERS)}
                for number in range(len(SGDS[name]))
            ]
            for dtype in dtypes
        }


@cache
def expected(sgd: SGD):
    return train(oracle, sgd, "float64")


def largest_difference(losses, weights, sgd):
    theirs, tensors = expected(sgd)
    return max(loss_differences(losses, theirs).max(), largest_gap(weights, tensors).difference)


def judge(found, name):
    """Every setting, in every dtype, against the oracle."""
    for dtype, runs in found.items():
        for sgd, arrays in zip(SGDS[name], runs, strict=True):
            assert {array.dtype for array in arrays.values()} == {np.dtype(dtype)}
            losses = arrays.pop("losses")
            assert losses.shape == (20,)
            assert largest_difference(losses, arrays, sgd) < BOUNDS[dtype], (dtype, sgd)


@pytest.mark.parametrize("name", SGDS)
def test_a_peer_trains_as_the_oracle(name, tmp_path):
    require(name)
    dtypes = ["float32"] if name == "parity_peers.keras_fit:on_torch" else BOUNDS
    judge(trained(name, tmp_path, "cpu", *dtypes), name)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("sgd", SGDS["parity_peers.eager:impl"])
def test_the_bounds_catch_a_learning_rate_that_is_off_by_a_percent(sgd, dtype):
    arguments = {name: getattr(sgd, name) for name in ("momentum", "dampening", "weight_decay", "nesterov", "maximize")}
    wrong = train(oracle, SGD(lr=1.01 * sgd.lr, **arguments), "float64")
    assert largest_difference(*wrong, sgd) > 2 * BOUNDS[dtype]


@pytest.mark.parametrize("name", [name for name in SGDS if "keras" not in name])
def test_a_peer_trains_on_cuda(name, tmp_path):
    """In float64, where nothing is TF32."""
    require(name)
    if "cuda" not in resolve(name).devices():
        pytest.skip("there is no NVIDIA GPU here, or this peer uses none")
    judge(trained(name, tmp_path, "cuda", "float64"), name)


REFUSED = {
    "schedule": SGD(schedule=StepLR(step_size=2)),
    "clip_norm": SGD(clip_norm=1.0),
    "clip_value": SGD(clip_value=1.0),
    "decay_biases": SGD(decay_biases=False),
}
OPTAX_REFUSED = {
    **REFUSED,
    "dampening": SGD(dampening=0.1),
    "weight_decay": SGD(weight_decay=0.1),
    "maximize": SGD(maximize=True),
}


@pytest.mark.parametrize("name", SGDS)
def test_a_peer_refuses_what_its_users_would_have_to_write_by_hand(name):
    require(name)
    refused = REFUSED if len(SGDS[name]) > 3 else OPTAX_REFUSED
    for argument, sgd in refused.items():
        with pytest.raises(InputError, match=f"^{argument} .*: this peer takes lr, momentum, "):
            resolve(name).start(initial_weights(0), sgd, dtype="float32", device=resolve(name).devices()[0])


@pytest.mark.parametrize("name", SGDS)
def test_a_peer_refuses_weights_and_devices_that_are_not_there(name):
    require(name)
    side, weights = resolve(name), initial_weights(0)
    with pytest.raises(InputError, match="^device tpu: "):
        side.start(weights, SGD(), dtype="float32", device="tpu")
    del weights["fc3.bias"]
    with pytest.raises(InputError, match="tensor fc3.bias is missing"):
        side.start(weights, SGD(), dtype="float32", device=side.devices()[0])


@pytest.mark.parametrize(("module", "packages"), PACKAGES.items())
def test_a_missing_package_is_named_when_the_peer_is_imported(module, packages):
    code = (
        "import importlib, sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == sys.argv[2]: raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "try:\n"
        "    importlib.import_module(sys.argv[1])\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error.name)\n"
    )
    done = python("-c", code, module, packages[-1])
    assert done.stdout == f"{packages[-1]}\n", done.stderr


KERAS = """
import parity_peers.keras_fit as keras_fit
from parity.contract import CNN_PARAMETERS, SGD, InputError, initial_weights
for side, dtype in ((keras_fit.on_torch, "float64"), (keras_fit.on_jax, "float32"), (keras_fit.on_torch, "float32")):
    try:
        state = side.start(initial_weights(0), SGD(), dtype=dtype, device=side.devices()[0])
        print(side.describe(state).partition(",")[0].split()[2:])
    except InputError as error:
        print(error)
"""


def test_keras_refuses_float64_on_torch_and_a_second_backend():
    require("parity_peers.keras_fit")
    done = python("-c", KERAS)
    assert done.stdout.splitlines() == [
        "dtype float64: Keras rounds the loss to float32 on torch, and with it the gradients; use float32, or Keras on "
        "JAX",
        "['on', 'jax']",
        "backend torch: Keras runs on jax in this process already; start each backend in a process of its own",
    ], done.stderr


def test_keras_on_torch_needs_no_jax():
    """Importing it would take its time and its memory, and start its threads."""
    require("parity_peers.keras_fit")
    code = (
        "import sys; sys.modules['jax'] = None\n"  # from here on importing it raises
        "from parity_peers.keras_fit import on_torch\n"
        "from parity.contract import SGD, initial_weights\n"
        "import numpy as np\n"
        "state = on_torch.start(initial_weights(0), SGD(), dtype='float32', device=on_torch.devices()[0])\n"
        "data = on_torch.place(state, np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, int))\n"
        "print(on_torch.run(state, data, np.array([[0, 1]], np.int32))[1].shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "(1,)\n", done.stderr


def test_a_state_is_described_by_what_computes_it():
    """The names of `parity_peers`' table; Keras's are tested above, in a process of their own."""
    for name, words in {
        "parity_peers.eager:impl": "eager, batches in memory",
        "parity_peers.tutorial:impl": "DataLoader with 2 workers",
        "parity_peers.tutorial:without_workers": "DataLoader with 0 workers",
        "parity_peers.lightning_loop:impl": "Lightning",
        "parity_peers.nnx_loop:impl": "a jitted call a step",
        "parity_peers.reference:impl": "1 thread",
    }.items():
        require(name)
        side = resolve(name)
        state = side.start(initial_weights(0), SGD(), dtype="float32", device="cpu")
        assert words in side.describe(state)
        assert side.describe(state).endswith("CPU")
        assert side.peak_memory() is None or "cuda" in side.devices()


def test_a_row_on_a_gpu_says_that_its_kernels_need_not_repeat(monkeypatch):
    """The project's own are held to that; XLA refuses this peer's max-pooling under the flag that would hold it too."""
    require("parity_peers.nnx_loop")
    from parity_peers import nnx_loop, torch_peer

    gpu = SimpleNamespace(platform="gpu", device_kind="a GPU")
    state = nnx_loop.State(graph=None, arrays=None, dtype="float32", device=gpu, tf32=False)
    assert nnx_loop.impl.describe(state).endswith(", a GPU, kernels need not be deterministic")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    state = torch_peer.State(net=None, optimizer=None, dtype=torch.float32, device=torch.device("cuda"))
    assert resolve("parity_peers.eager:impl").describe(state).endswith(", a GPU, kernels need not be deterministic")


@pytest.mark.parametrize("name", ["eager:impl", "nnx_loop:impl", "keras_fit:on_jax"])
def test_the_cpu_has_no_tf32(name):
    require(f"parity_peers.{name}")
    side = resolve(f"parity_peers.{name}")
    with pytest.raises(InputError, match="dtype tf32: the CPU has no TF32; use float32, or a GPU"):
        side.start(initial_weights(0), SGD(), dtype="tf32", device="cpu")
