"""One step with every stage recorded: forward hooks on the model's layers, then the gradients and the buffers.

A layer's input is what the functions before it made of the previous layer's output, so hooks on the five layers also
show what ReLU and pooling computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from parity.contract import CNN_ACTIVATIONS
from torch_impl.layout import to_canonical

__all__ = ["activations", "recording", "to_batch"]

INPUTS = {"conv2": "pool1", "fc1": "pool2", "fc2": "relu3", "fc3": "relu4"}
"""Layer -> what its input is called."""


@contextmanager
def recording(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Within it, a forward pass leaves every layer's input and output here, by canonical name."""
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> object:
        def record(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if name in INPUTS:
                seen[INPUTS[name]] = inputs[0].detach().clone()
            seen[name] = output.detach().clone()

        return record

    handles = [layer.register_forward_hook(hook(name)) for name, layer in model.named_children()]  # type: ignore[arg-type]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def activations(seen: Mapping[str, Tensor]) -> dict[str, NDArray[np.floating]]:
    """What was recorded between the images and the logits, canonical: fc1's flat input becomes (B, C, H, W) again."""
    arrays = to_canonical({name: seen[name] for name in CNN_ACTIVATIONS})
    return {name: array.reshape(len(array), *CNN_ACTIVATIONS[name]) for name, array in arrays.items()}


def to_batch(images: Float[Tensor, "batch 3 32 32"], labels: Int[Tensor, " batch"]) -> dict[str, NDArray[np.generic]]:
    """The step's inputs as the model saw them."""
    return {"images": np.array(images.cpu().numpy()), "labels": np.array(labels.cpu().numpy())}
