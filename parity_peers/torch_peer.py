"""What the peers in PyTorch share: the tutorial's net, its optimizer, and how both become a state.

Source: https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from parity.contract import SGD, InputError, Weights, check_weights, storage
from parity_peers.sgd import TORCH_SGD, require_only

__all__ = ["Net", "Resident", "State", "TorchPeer", "batch_of"]


class Net(nn.Module):
    """The tutorial's net, word for word."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 3, 32, 32) -> (batch, 10) logits."""
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """The model and its optimizer with the momentum; never trained themselves: a run trains a copy."""

    net: Net
    optimizer: torch.optim.SGD
    dtype: torch.dtype
    device: torch.device

    def copy(self) -> State:
        """A state that shares no memory with this one; for 62,006 parameters that takes about a millisecond."""
        net, optimizer = copy.deepcopy((self.net, self.optimizer))  # together: the optimizer holds the net's tensors
        return State(net=net, optimizer=optimizer, dtype=self.dtype, device=self.device)


@dataclass(frozen=True, kw_only=True, eq=False)
class Resident:
    """A data set in the device's memory: (N, 3, 32, 32) uint8 images and (N,) int64 labels."""

    images: Tensor
    labels: Tensor


def batch_of(state: State, data: Resident, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The images of these rows, normalised as ToTensor and Normalize do it, and their labels."""
    return data.images[rows].to(state.dtype).div(255).sub(0.5).div(0.5), data.labels[rows]


def _allow_tf32(device: str) -> None:
    """In all products, for the rest of this process; by default torch allows it in convolutions.

    Raises:
        InputError: the device has none.
    """
    if device == "cpu":
        raise InputError("dtype", "tf32", "the CPU has no TF32", "use float32, or a GPU")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True


class TorchPeer:
    """All of a peer but `run`."""

    def devices(self) -> tuple[str, ...]:
        """See `parity.contract.Implementation`; so for all methods."""
        return ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)

    def start(self, weights: Weights, sgd: SGD, *, dtype: str, device: str) -> State:
        """A state with these weights and no momentum; of `sgd`, what torch.optim.SGD takes."""
        check_weights(weights)
        require_only(sgd, TORCH_SGD)
        if device not in self.devices():
            raise InputError("device", device, "torch has no such device here", f"use {' or '.join(self.devices())}")
        kind, where = getattr(torch, storage(dtype)), torch.device(device)
        if dtype == "tf32":
            _allow_tf32(device)
        net = Net().to(where, kind)
        net.load_state_dict({name: torch.tensor(value, dtype=kind) for name, value in weights.items()})
        optimizer = torch.optim.SGD(net.parameters(), **{name: getattr(sgd, name) for name in TORCH_SGD})
        return State(net=net, optimizer=optimizer, dtype=kind, device=where)

    def place(self, state: State, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> Resident:
        """Copy the data set to the device, channels first."""
        return Resident(
            images=torch.tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), device=state.device),
            labels=torch.tensor(labels, dtype=torch.int64, device=state.device),
        )

    def weights(self, state: State) -> dict[str, NDArray[np.floating]]:
        """Copies of the parameters."""
        return {name: np.array(tensor.cpu().numpy()) for name, tensor in state.net.state_dict().items()}

    def peak_memory(self) -> int | None:
        """The most bytes of the GPU that torch has held; None on the CPU."""
        return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None

    def _describe(self, loop: str, state: State) -> str:
        gpu = state.device.type == "cuda"
        name = f"{torch.cuda.get_device_name(state.device)}, kernels need not be deterministic" if gpu else "CPU"
        return f"torch {torch.__version__}, {loop}, {name}"
