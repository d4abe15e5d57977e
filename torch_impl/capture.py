"""Every floating-point value that a forward pass computes from the model's inputs, read off torch's dispatcher.

Below autograd, every operation passes `TorchDispatchMode` with plain tensors, whatever Python code called it, so that
nothing in the model is renamed or rewritten. Which value comes from which is followed by storage: a view shares its
base's, so that views need no rule of their own, and an operation in place gives its storage a new value.

Source: https://docs.pytorch.org/docs/stable/notes/extending.html#extending-torch-native-api
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, UntypedStorage, nn
from torch.utils._python_dispatch import TorchDispatchMode

from parity.contract.captured import CapturedGraph, union
from parity.contract.programs import other_precision

__all__ = ["Capture", "PrecisionCheck", "Scope", "scoped", "type_name"]

# These hold the values of what they are given, in another order or place, or some of them. Views need no entry.
LAYOUT = frozenset({"clone", "copy_", "_to_copy", "_unsafe_view", "flip", "unsafe_split", "unsafe_split_with_sizes"})


@dataclass
class Scope:
    """The modules that are being called, innermost last; `outside` stands for where none is."""

    outside: str = "loss"
    modules: list[str] = field(default_factory=list)

    def label(self, operation: str) -> str:
        """Where an operation is, and what it is: "layer1.conv2.convolution"; the root module has no name."""
        path = self.modules[-1] if self.modules else self.outside
        return ".".join(filter(None, (path, operation.strip("_"))))


@contextmanager
def scoped(module: nn.Module) -> Iterator[Scope]:
    """Within it, the scope follows the calls of the module and its parts."""
    scope = Scope()

    def leave(*_: object) -> None:  # what a forward hook returns would replace the output
        scope.modules.pop()

    handles = []
    for name, part in module.named_modules():
        # The name as a default: a closure would see the loop's last.
        handles.append(part.register_forward_pre_hook(lambda *_, name=name: scope.modules.append(name)))
        handles.append(part.register_forward_hook(leave, always_call=True))
    try:
        yield scope
    finally:
        for handle in handles:
            handle.remove()


class Capture(TorchDispatchMode):
    """While active, records each output that depends on the inputs: floating-point, of more than one element.

    Values are copied when they are computed, so that a later operation in place does not change them.

    Args:
        inputs: the model's inputs; what depends on parameters or targets alone is not recorded.
        scope: from `scoped`, for the names.
    """

    def __init__(self, inputs: tuple[Tensor, ...], scope: Scope) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has not annotated it
        self._graph = CapturedGraph()
        self._values: dict[str, NDArray[np.floating]] = {}
        self._sources: dict[int, tuple[str, ...]] = {}
        self._alive: list[UntypedStorage] = []
        self._scope = scope
        for tensor in inputs:
            self._follow(tensor, ())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called by torch for every operation."""
        result = func(*args, **(kwargs or {}))
        given = map(_address, _tensors((*args, *(kwargs or {}).values())))
        known = [self._sources[address] for address in given if address in self._sources]
        if known and not _is_creation(func):
            self._record(func, tuple(_tensors((result,))), union(known))
        return result

    def leading_to(self, *ends: Tensor) -> tuple[dict[str, NDArray[np.floating]], dict[str, tuple[str, ...]]]:
        """The recorded values that these tensors are computed from, in forward order, and the parents of each."""
        sources = union(self._sources.get(_address(tensor), ()) for tensor in ends)
        names = self._graph.leading_to(sources)
        return {name: self._values[name] for name in names}, {name: self._graph.parents[name] for name in names}

    def _record(self, func: Any, outputs: tuple[Tensor, ...], parents: tuple[str, ...]) -> None:
        computes = [not _is_layout(func) and _is_activation(tensor) for tensor in outputs]
        operation = self._graph.operation(self._scope.label(_packet(func))) if any(computes) else ""
        for number, (tensor, new) in enumerate(zip(outputs, computes, strict=True)):
            if not new:
                self._follow(tensor, parents)
                continue
            name = self._graph.add(operation, number, parents)
            self._values[name] = np.array(tensor.detach().cpu().numpy())
            # Written in part, a storage still holds what was there before.
            whole = tensor.nbytes == tensor.untyped_storage().nbytes()
            self._follow(tensor, (name,) if whole else (name, *self._sources.get(_address(tensor), ())))

    def _follow(self, tensor: Tensor, sources: tuple[str, ...]) -> None:
        if tensor.numel():
            self._sources[_address(tensor)] = sources
            # Kept, so that no other tensor gets its address.
            self._alive.append(tensor.untyped_storage())


class PrecisionCheck(TorchDispatchMode):
    """While active, refuses operations on floats whose results have another floating-point type than the run's.

    Integers and masks may become any floats, which hold them exactly.

    Raises:
        InputError: from the operation, with its place in the program.
    """

    def __init__(self, dtype: torch.dtype, scope: Scope) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has not annotated it
        self._dtype, self._scope = dtype, scope

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called by torch for every operation."""
        result = func(*args, **(kwargs or {}))
        given, results = _float_types((*args, *(kwargs or {}).values())), _float_types((result,))
        moves = _is_layout(func) and given == results
        if given and results - {self._dtype} and not moves and not _is_creation(func):
            found = (results - {self._dtype}).pop()
            raise other_precision(self._scope.label(_packet(func)), type_name(found), type_name(self._dtype))
        return result


def type_name(dtype: torch.dtype) -> str:
    """A type's name, as NumPy has it."""
    return str(dtype).removeprefix("torch.")


def _tensors(values: tuple[Any, ...]) -> Iterator[Tensor]:
    """The tensors among an operation's arguments or results, which may come in lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(tuple(value))


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _float_types(values: tuple[Any, ...]) -> set[torch.dtype]:
    return {tensor.dtype for tensor in _tensors(values) if tensor.is_floating_point()}


def _packet(func: Any) -> str:
    """The operation's name, without the overload: "add", "relu_", "_to_copy"."""
    name: str = func.overloadpacket.__name__
    return name


def _is_creation(func: Any) -> bool:
    """Whether only the shape of the arguments matters: empty_like, zeros_like, new_ones, ..."""
    return _packet(func).endswith("_like") or _packet(func).startswith("new_")


def _is_layout(func: Any) -> bool:
    return func.is_view or _packet(func) in LAYOUT


def _is_activation(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.float32, torch.float64) and tensor.numel() > 1
