"""What a torch optimizer keeps for each parameter: its tensors of the parameter's shape, called slots here, by number.

| optimizer                  | slot 1          | slot 2          | slot 3          |
| -------------------------- | --------------- | --------------- | --------------- |
| SGD                        | momentum_buffer |                 |                 |
| Adam, AdamW, NAdam, RAdam  | exp_avg         | exp_avg_sq      | max_exp_avg_sq  |
| Adamax                     | exp_avg         | exp_inf         |                 |
| RMSprop                    | square_avg      | momentum_buffer |                 |
| RMSprop, centred           | grad_avg        | square_avg      | momentum_buffer |
| Adadelta                   | square_avg      | acc_delta       |                 |
| Adagrad                    | sum             |                 |                 |
| any other                  | by alphabet     |                 |                 |

The order is that of the fields in the states of the optax optimizers of the same names. All else that an optimizer
keeps (step counts, matrices of other shapes) goes from state to state, but has no name.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from parity.contract import InputError, Weights
from parity.contract.programs import check_tensors, other_precision, slot_name
from torch_impl.capture import type_name

__all__ = ["OptimizerState", "cast_slots", "check_slots", "load", "read_slots", "snapshot", "write_slots"]

ORDER = (
    "exp_avg",
    "grad_avg",
    "exp_avg_sq",
    "exp_inf",
    "max_exp_avg_sq",
    "square_avg",
    "acc_delta",
    "sum",
    "momentum_buffer",
)
COUNTERS = frozenset({"step", "mu_product", "mu", "eta"})
"""Not slots, though of the shape of a scalar parameter."""

Entry = dict[str, Any]
"""What the optimizer keeps for one parameter, under its own names."""


@dataclass(frozen=True, eq=False)
class OptimizerState:
    """A copy of `optimizer.state`, by parameter name, and of the options of its parameter groups."""

    entries: dict[Any, Entry]
    options: tuple[dict[str, Any], ...]


def snapshot(optimizer: torch.optim.Optimizer, named: Mapping[str, Tensor]) -> OptimizerState:
    """Copy out what the optimizer keeps.

    Not by `state_dict`: its way back converts tensors to their parameter's type, and would hide an optimizer that
    keeps them in another.
    """
    names = {parameter: name for name, parameter in named.items()}
    return OptimizerState(
        entries={names.get(key, key): copy.deepcopy(entry) for key, entry in optimizer.state.items()},
        options=tuple(
            copy.deepcopy({option: value for option, value in group.items() if option != "params"})
            for group in optimizer.param_groups
        ),
    )


def load(optimizer: torch.optim.Optimizer, named: Mapping[str, Tensor], state: OptimizerState) -> None:
    """Copy a snapshot in."""
    optimizer.state.clear()
    for key, entry in state.entries.items():
        optimizer.state[named.get(key, key)] = copy.deepcopy(entry)
    for group, options in zip(optimizer.param_groups, state.options, strict=True):
        group.update(copy.deepcopy(options))


def cast_slots(optimizer: torch.optim.Optimizer, dtype: torch.dtype, device: torch.device) -> None:
    """Convert what the optimizer keeps from its construction or from earlier steps, in place."""
    for parameter, entry in optimizer.state.items():
        for slot, tensor in _slots(entry, tuple(parameter.shape)).items():
            entry[slot] = tensor.to(dtype=dtype, device=device)


def check_slots(state: OptimizerState, dtype: torch.dtype) -> None:
    """Refuse an optimizer that keeps tensors in another precision than the run's.

    Raises:
        InputError: names the tensor.
    """
    for key, entry in state.entries.items():
        for slot, value in entry.items():
            floats = isinstance(value, Tensor) and value.is_floating_point() and slot not in COUNTERS
            if floats and value.dtype != dtype:
                raise other_precision(f"the optimizer's {slot} of {key}", type_name(value.dtype), type_name(dtype))


def read_slots(state: OptimizerState, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The snapshot's slots under their numbered names; {} while the optimizer has none."""
    return {
        slot_name(name, number): tensor
        for name, shape in shapes.items()
        for number, tensor in enumerate(_slots(state.entries.get(name, {}), shape).values())
    }


def write_slots(
    state: OptimizerState, stepped: OptimizerState, shapes: Mapping[str, tuple[int, ...]], values: Weights
) -> OptimizerState:
    """The snapshot with other slots; all else in it, step counts for example, stays.

    Args:
        state: left as it was.
        stepped: a snapshot of the same optimizer after a step, whose entries serve for what `state` does not have yet.
        shapes: parameter name -> shape.
        values: what `read_slots` returns, as arrays; {} for slots as they are before the first step.

    Raises:
        InputError: the names or shapes are not those of the slots.
    """
    entries = copy.deepcopy(state.entries)
    if not values:
        return replace(state, entries=_emptied(entries, shapes))
    new = {key: copy.deepcopy(entry) for key, entry in stepped.entries.items() if key not in entries}
    entries |= new
    result = replace(state, entries=entries)
    slots = read_slots(result, shapes)
    check_tensors(values, {name: tuple(tensor.shape) for name, tensor in slots.items()}, argument="momentum")
    for name, entry in new.items():
        _rewind(name, entry, slots)
    for name, tensor in slots.items():
        tensor.copy_(torch.tensor(values[name]))
    return result


def _slots(entry: Entry, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """The entry's slots in their order; the tensors themselves, not copies."""

    def is_slot(name: str, value: object) -> bool:
        same = isinstance(value, Tensor) and value.is_floating_point() and tuple(value.shape) == shape
        return same and name not in COUNTERS

    names = [name for name, value in entry.items() if is_slot(name, value)]
    return {name: entry[name] for name in sorted(names, key=_rank)}


def _rank(slot: str) -> tuple[int, str]:
    return (ORDER.index(slot) if slot in ORDER else len(ORDER), slot)


def _emptied(entries: dict[Any, Entry], shapes: Mapping[str, tuple[int, ...]]) -> dict[Any, Entry]:
    """Entries without slots, where they hold nothing else; otherwise with zeros, beside the step count."""
    kept: dict[Any, Entry] = {}
    for key, entry in entries.items():
        slots = _slots(entry, shapes[key]) if key in shapes else {}
        if not slots or slots.keys() != entry.keys():
            kept[key] = entry | {name: torch.zeros_like(tensor) for name, tensor in slots.items()}
    return kept


def _rewind(name: str, entry: Entry, slots: Mapping[str, Tensor]) -> None:
    """Set the step count of an entry, taken after a step, back to before it."""
    others = [key for key, value in entry.items() if not any(value is tensor for tensor in slots.values())]
    for key in others:
        if key != "step":
            problem = f"the optimizer has taken no step yet, and keeps {key} of {name}, whose start is not known"
            raise InputError("momentum", "given", problem, "restore a state that has taken a step")
        entry[key] = torch.zeros_like(entry[key]) if isinstance(entry[key], Tensor) else 0
