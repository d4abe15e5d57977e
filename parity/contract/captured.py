"""The graph of the activations that are captured while a program runs: their names, and which follows from which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["CapturedGraph", "union"]


def union(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The names in any of the groups, each once, in the order in which they first come.

    >>> union([("a", "b"), ("c", "a")])
    ('a', 'b', 'c')
    """
    return tuple(dict.fromkeys(name for group in groups for name in group))


@dataclass
class CapturedGraph:
    """Activations by name, in forward order.

    Args:
        parents: activation -> the activations that it is computed from, without others in between.
        operations: activation -> the operation that it is an output of.
    """

    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    operations: dict[str, str] = field(default_factory=dict)
    _calls: Counter[str] = field(default_factory=Counter)

    def operation(self, label: str) -> str:
        """A unique name for one more operation of this label: "fc/dot", "fc/dot:2", ..."""
        self._calls[label] += 1
        return label if self._calls[label] == 1 else f"{label}:{self._calls[label]}"

    def add(self, operation: str, output: int, parents: tuple[str, ...]) -> str:
        """Add an operation's output, and name it: "norm", "norm[1]", ..., counted from 0."""
        name = f"{operation}[{output}]" if output else operation
        self.parents[name] = parents
        self.operations[name] = operation
        return name

    def leading_to(self, ends: Iterable[str]) -> list[str]:
        """Every output of the operations that these activations come from, themselves included, in forward order.

        What leads nowhere, such as the update of running statistics, is not among them.
        """
        found: set[str] = set()
        waiting = list(ends)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(self.parents[name])
        operations = {self.operations[name] for name in found}
        return [name for name in self.parents if self.operations[name] in operations]
