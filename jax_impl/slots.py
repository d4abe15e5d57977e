"""What an optax transformation keeps for each parameter: its arrays of the parameter's shape, called slots here.

They are found by their place: optax keeps pytrees like the parameters, so the path of such a leaf in the optimizer's
state ends with the parameter's own path (`[0].mu['fc']['kernel']`). Their numbers follow the order of the state:

| optimizer                       | slot 1         | slot 2 | slot 3 |
| ------------------------------- | -------------- | ------ | ------ |
| sgd with momentum               | trace          |        |        |
| adam, adamw, nadam, radam       | mu             | nu     |        |
| amsgrad                         | mu             | nu     | nu_max |
| adamax                          | mu             | nu     |        |
| rmsprop                         | nu             | trace  |        |
| rmsprop, centred                | mu             | nu     | trace  |
| adadelta                        | e_g            | e_x    |        |
| adagrad                         | sum_of_squares |        |        |

All else in the state (counts, arrays of other shapes) has no name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from parity.contract.programs import other_precision, slot_name

__all__ = ["Path", "check_slots", "leaf_name", "named_leaves", "read_slots", "write_slots"]

Path = tuple[Any, ...]
"""The keys from a pytree's root to a leaf, as JAX gives them."""


def leaf_name(path: Path) -> str:
    """A leaf's name: its path joined by dots. An nnx.Variable's is that of the variable.

    >>> [leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path({"fc": [1.0, 2.0]})]
    ['fc.0', 'fc.1']
    """
    if len(path) > 1 and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator=".") or "params"


def named_leaves(tree: Any) -> dict[str, Any]:
    """A pytree's leaves by name."""
    return {leaf_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def read_slots(state: optax.OptState, params: Any) -> dict[str, Any]:
    """The slots under their numbered names; {} when the optimizer keeps none."""
    return {name: leaf for name, leaf in _walk(state, params) if name is not None}


def write_slots(state: optax.OptState, params: Any, values: Mapping[str, Any]) -> optax.OptState:
    """The state with these slots in place of its own; all else in it stays."""
    leaves = [leaf if name is None else values[name] for name, leaf in _walk(state, params)]
    return jax.tree.unflatten(jax.tree.structure(state), leaves)


def check_slots(state: optax.OptState, params: Any, dtype: str) -> None:
    """Refuse an optimizer that keeps arrays in another precision than the run's.

    Raises:
        InputError: names the array.
    """
    for name, leaf in read_slots(state, params).items():
        if leaf.dtype != dtype:
            raise other_precision(f"the optimizer's tensor {name}", leaf.dtype, dtype)


def _walk(state: optax.OptState, params: Any) -> Iterator[tuple[str | None, Any]]:
    """The state's leaves, each with its slot's name, or None."""
    parameters = dict(jax.tree_util.tree_leaves_with_path(params))
    seen: Counter[Path] = Counter()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        owner = _owner(path, leaf, parameters)
        yield None if owner is None else slot_name(leaf_name(owner), seen[owner]), leaf
        if owner is not None:
            seen[owner] += 1


def _owner(path: Path, leaf: Any, parameters: Mapping[Path, Any]) -> Path | None:
    """The parameter whose path ends this one, the longest first: ["a"]["b"] is not a slot of ["b"]."""
    for start in range(len(path) + 1):
        if (parameter := parameters.get(path[start:])) is not None:
            same = leaf.shape == parameter.shape and jnp.issubdtype(leaf.dtype, jnp.floating)
            return path[start:] if same else None
    return None
