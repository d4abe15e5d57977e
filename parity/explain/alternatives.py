"""Forward passes that ports compute in place of the one that is meant: one change each, of inputs, labels or layers.

They are told apart by their losses alone, where nothing else of a forward pass was recorded. Some cannot be: images fed
in B,G,R order, and a first layer that reads its input channels reversed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parity.compare import Stage
from parity.contract import CNN_PARAMETERS
from parity.explain.batch import image_variants, label_variants
from parity.explain.forward import node_variants, other_activations
from parity.explain.network import NODES, Convolution, Linear, Map, MaxPool, Nodes, Part, Reading, Relu, average_pool
from parity.explain.weights import reading_key, weight_readings

__all__ = ["Alternative", "alternatives"]

Labels = NDArray[np.integer]


def _same(labels: Labels) -> Labels:
    return labels


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """One change of the forward pass.

    Args:
        key: its name in the catalogue of faults.
        sentence: what the side does, after its name.
        place: the first stage and tensor that would show it.
        nodes: the layers, with the change.
        labels: what the loss is taken at, of the labels that are due.
    """

    key: str
    sentence: str
    place: Stage
    nodes: Nodes = field(default_factory=lambda: NODES, repr=False)
    labels: Callable[[Labels], Labels] = field(default=_same, repr=False)


def alternatives() -> Iterator[Alternative]:
    """Inputs, labels, one layer, and then the same change in every layer of a kind."""
    images = Stage(stage="batch", tensor="images")
    for key, sentence, change in image_variants():
        # Nothing before the first layer has parameters: no gradient by its input is asked for.
        fed = Map(name="images", function=change, pullback=lambda upstream, x: upstream)  # noqa: ARG005
        yield Alternative(key=key, sentence=sentence, place=images, nodes={**NODES, "conv1": (fed, *NODES["conv1"])})
    for key, sentence, relabel in label_variants():
        place = Stage(stage="batch", tensor="labels")
        yield Alternative(key=key, sentence=sentence, place=place, labels=relabel)
    for name, node in NODES.items():
        for key, sentence, variant in node_variants(name, node):
            yield Alternative(key=key, sentence=sentence, place=_place(name), nodes={**NODES, name: variant})
    yield from _everywhere()


def _place(name: str) -> Stage:
    return Stage(stage="logits" if name == "logits" else "activations", tensor=name)


def _everywhere() -> Iterator[Alternative]:
    """A pool, an activation, or the order in which kernels or matrices are read."""
    pools = _each(MaxPool, lambda _: (average_pool,))
    sentence = "has average pools in place of the max-pools"
    yield Alternative(key="average-pool", sentence=sentence, place=_place("pool1"), nodes=pools)
    for other in other_activations():
        nodes = _each(Relu, lambda _, other=other: (other,))  # type: ignore[misc]
        sentence = f"has {other.name} in place of each ReLU"
        yield Alternative(key="other-activation", sentence=sentence, place=_place("pool1"), nodes=nodes)
    yield Alternative(
        key="relu-missing", sentence="leaves out every ReLU", place=_place("pool1"), nodes=_each(Relu, lambda _: ())
    )
    for kind, noun, first in ((Convolution, "kernels", "conv1"), (Linear, "linear layers' weights", "fc1")):
        for name in _common(kind):
            key = reading_key(first, Reading(name=name))
            sentence = f"reads all {noun} {name}"
            yield Alternative(key=key, sentence=sentence, place=_place(first), nodes=_each(kind, _reader(name)))


def _each(kind: type[Part], change: Callable[[Part], tuple[Part, ...]]) -> Nodes:
    """The network with every part of a kind changed."""
    return {
        name: tuple(new for part in node for new in (change(part) if isinstance(part, kind) else (part,)))
        for name, node in NODES.items()
    }


def _readings(layer: str) -> dict[str, Reading]:
    weight = f"{layer}.weight"
    return {reading.name: reading for reading in weight_readings(weight, CNN_PARAMETERS[weight])}


def _common(kind: type[Convolution | Linear]) -> list[str]:
    """The orders that every layer of a kind can be read in, by name."""
    layers = [part.layer for node in NODES.values() for part in node if isinstance(part, kind)]
    first, *others = (_readings(layer) for layer in layers)
    return [name for name in first if all(name in other for other in others)]


def _reader(name: str) -> Callable[[Part], tuple[Part, ...]]:
    def change(part: Part) -> tuple[Part, ...]:
        assert isinstance(part, Convolution | Linear)  # noqa: S101  that is what it is asked of; for the type checker
        return (type(part)(layer=part.layer, reading=_readings(part.layer)[name]),)

    return change
