"""Where each tensor of one program lies in the other, and how: a table that is data, can be read and stored as JSON.

It is the form of `jax_impl/layout.py`'s table (reshape, transpose, reshape), with one addition: an entry may speak of a
part of a tensor, because what one program keeps in three tensors the other may keep in one (queries, keys and values).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import Tensors
from parity.matching.activations import ForwardBreak

__all__ = ["WHOLE", "Part", "TensorMap", "WeightMapping"]

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Part:
    """The `index`-th of `count` equal pieces of a tensor along `axis`."""

    axis: int = 0
    index: int = 0
    count: int = 1

    def of(self, value: Array) -> Array:
        """This piece of a tensor, a view."""
        return np.split(value, self.count, axis=self.axis)[self.index] if self.count > 1 else value

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """This piece's shape, given the tensor's."""
        if self.count == 1:
            return shape
        return (*shape[: self.axis], shape[self.axis] // self.count, *shape[self.axis + 1 :])

    def whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The tensor's shape, given this piece's."""
        if self.count == 1:
            return shape
        return (*shape[: self.axis], shape[self.axis] * self.count, *shape[self.axis + 1 :])


WHOLE = Part()


@dataclass(frozen=True, kw_only=True)
class TensorMap:
    """How a tensor of A, or a part, becomes one of B: reshape to `split`, transpose to `axes`, reshape to `shape`.

    Args:
        source: A's name.
        target: B's name.
        source_shape: of A's tensor, or of its part.
        split: A's shape with axes divided where B orders their pieces otherwise.
        axes: the transpose.
        shape: of B's tensor, or of its part.
        source_part: which part of A's tensor.
        target_part: which part of B's tensor.
    """

    source: str
    target: str
    source_shape: tuple[int, ...]
    split: tuple[int, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    source_part: Part = WHOLE
    target_part: Part = WHOLE

    def to_target(self, value: Array) -> Array:
        """A's whole tensor -> B's part, in B's layout."""
        return self.source_part.of(value).reshape(self.split).transpose(self.axes).reshape(self.shape)

    def to_source(self, value: Array) -> Array:
        """B's whole tensor -> A's part, in A's layout."""
        permuted = tuple(self.split[axis] for axis in self.axes)
        back = tuple(np.argsort(self.axes).tolist())
        return self.target_part.of(value).reshape(permuted).transpose(back).reshape(self.source_shape)

    def __str__(self) -> str:
        """One line for a report: names, parts, and what happens to the axes unless nothing does."""
        line = f"{_labelled(self.source, self.source_part)} -> {_labelled(self.target, self.target_part)}"
        return f"{line}, {steps}" if (steps := ", ".join(self._steps())) else line

    def _steps(self) -> Iterator[str]:
        if self.axes == tuple(range(len(self.axes))):
            yield from [f"reshaped to {self.shape}"] if self.shape != self.source_shape else []
            return
        yield from [f"as {self.split}"] if self.split != self.source_shape else []
        yield "transposed" if self.axes == (1, 0) else f"axes {self.axes}"
        yield from [f"reshaped to {self.shape}"] if self.shape != tuple(self.split[axis] for axis in self.axes) else []


def _labelled(name: str, part: Part) -> str:
    along = f" along axis {part.axis}" if part.axis else ""
    return name if part.count == 1 else f"{name} (part {part.index + 1} of {part.count}{along})"


@dataclass(frozen=True, kw_only=True)
class WeightMapping:
    """Every tensor of A with its place in B, and how certain that is.

    Args:
        tensors: one entry a tensor, or a part.
        inputs: for each array of a data set the transpose that makes A's B's; None where they are the same.
        proved: with A's weights in these places, B's outputs agree with A's in float64. False means that no candidate
            does that; this is then the one best supported by names, shapes and the activations that do agree.
        broken: where the forward passes part; None if outputs and loss agree. A mapping can be proved by the outputs
            and the losses still differ.
        passes: how many training steps the search has cost, both programs together.
        notes: what a reader should know: tensors whose names say something else, a search that ended early.
    """

    tensors: tuple[TensorMap, ...]
    inputs: tuple[tuple[int, ...] | None, ...] = ()
    proved: bool = False
    broken: ForwardBreak | None = None
    passes: int = 0
    notes: tuple[str, ...] = ()

    def to_target(self, tensors: Tensors) -> dict[str, Array]:
        """A's tensors -> B's names and layout, copies.

        A tensor that is missing (it has no gradient, say) is left out; a missing part of one counts as zeros.
        """
        pieces: dict[str, list[tuple[Part, Array]]] = {}
        for entry in self.tensors:
            if entry.source in tensors:
                piece = (entry.target_part, entry.to_target(tensors[entry.source]))
                pieces.setdefault(entry.target, []).append(piece)
        return {name: _joined(parts) for name, parts in pieces.items()}

    def to_source(self, tensors: Tensors) -> dict[str, Array]:
        """B's tensors -> A's names and layout, copies; missing ones as in `to_target`."""
        pieces: dict[str, list[tuple[Part, Array]]] = {}
        for entry in self.tensors:
            if entry.target in tensors:
                piece = (entry.source_part, entry.to_source(tensors[entry.target]))
                pieces.setdefault(entry.source, []).append(piece)
        return {name: _joined(parts) for name, parts in pieces.items()}

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> WeightMapping:
        """What `to_json` gave, also after a round trip through JSON, where tuples become lists."""
        fields = _tuples(record)
        entries = tuple(
            TensorMap(**{**entry, **{side: Part(**entry[side]) for side in ("source_part", "target_part")}})
            for entry in fields["tensors"]
        )
        broken = ForwardBreak.from_json(fields["broken"]) if fields["broken"] else None
        return cls(**{**fields, "tensors": entries, "broken": broken})


def _joined(pieces: list[tuple[Part, Array]]) -> Array:
    """The tensor that these parts make up, a new array in C order."""
    part, example = pieces[0]
    if part.count == 1:
        return np.array(example, order="C")
    found = {piece.index: value for piece, value in pieces}
    values = [found.get(index, np.zeros_like(example)) for index in range(part.count)]
    return np.concatenate(values, axis=part.axis)


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
