"""The loop of the PyTorch CIFAR-10 tutorial: torchvision's transforms on PIL images, a DataLoader, `loss.item()`.

The data set gives what torchvision.datasets.CIFAR10 gives for an index. The plan comes in as the DataLoader's
batch_sampler, in place of the tutorial's batch_size and shuffle. The tutorial starts its two workers once for an epoch
of 12,500 steps; here the loader keeps them from one call of `run` to the next, so that a call need not be that long:
they start in the first call, and the first batches of a call are waited for, which 100 steps or a second make up for.

Source: https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from parity_peers.torch_peer import State, TorchPeer

__all__ = ["Tutorial", "impl", "without_workers"]


class Images(Dataset[tuple[Tensor, int]]):
    """(N, 32, 32, 3) uint8 images and (N,) labels, as torchvision.datasets.CIFAR10 holds and gives them."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.integer], dtype: torch.dtype) -> None:
        self.data, self.targets = images.copy(), [int(label) for label in labels]
        self.transform = transforms.Compose([*_to_tensor(dtype), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


def _to_tensor(dtype: torch.dtype) -> list[nn.Module | transforms.ToTensor]:
    """To [0, 1]; ToTensor gives float32 alone, unless torch's default dtype is changed for the whole program."""
    if dtype == torch.float32:
        return [transforms.ToTensor()]
    return [transforms.PILToTensor(), transforms.ConvertImageDtype(dtype)]


class Plan(Sampler[list[int]]):
    """The batches that the loader is to give next."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


@dataclass(frozen=True, kw_only=True, eq=False)
class Resident:
    """The tutorial's `trainloader`, and the plan that it follows."""

    loader: DataLoader[tuple[Tensor, int]]
    plan: Plan


@dataclass(frozen=True, kw_only=True)
class Tutorial(TorchPeer):
    """See `parity_peers`.

    Args:
        workers: processes that load images beside the training; the tutorial has 2.
    """

    workers: int = 2

    def describe(self, state: State) -> str:
        """Framework, loop and device."""
        return self._describe(f"the tutorial's loop, DataLoader with {self.workers} workers, eager", state)

    # What the tutorial trains on is no tensor on the device.
    def place(  # type: ignore[override]
        self, state: State, images: NDArray[np.uint8], labels: NDArray[np.integer]
    ) -> Resident:
        """A DataLoader over a copy of these images; they stay in the host's memory, as in the tutorial."""
        plan = Plan()
        loader = DataLoader(
            Images(images, labels, state.dtype),
            batch_sampler=plan,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )
        return Resident(loader=loader, plan=plan)

    def run(self, state: State, data: Resident, plan: NDArray[np.int32]) -> tuple[State, NDArray[np.floating]]:
        """Train on the plan's rows."""
        state, losses = state.copy(), []
        net, optimizer, criterion = state.net, state.optimizer, nn.CrossEntropyLoss()
        data.plan.batches = plan.tolist()
        for batch in data.loader:
            inputs, labels = batch[0].to(state.device), batch[1].to(state.device)
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return state, np.array(losses, str(state.dtype).removeprefix("torch."))


impl = Tutorial()
without_workers = Tutorial(workers=0)
