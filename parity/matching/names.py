"""What the names of two programs' tensors have in common: their kind, the words of their modules, their rank.

Frameworks name the same thing differently (`bn1.running_mean`, `BatchNorm_0/mean`) and count from 0 or 1, per type or
per container. So words are normalised, and a number only says which of its like comes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Label", "contradict", "labels", "similarity"]

_KINDS = {
    "weight": ("weight", "weights", "kernel", "w", "scale", "gamma", "embedding", "embed"),
    "bias": ("bias", "biases", "beta", "b", "offset", "shift"),
    "mean": ("mean",),
    "var": ("var", "variance"),
}
_KIND_OF = {word: kind for kind, words in _KINDS.items() for word in words}
_SYNONYMS = {
    "fc": "linear",
    "dense": "linear",
    "lin": "linear",
    "proj": "linear",
    "projection": "linear",
    "convolution": "conv",
    "bn": "norm",
    "ln": "norm",
    "query": "q",
    "key": "k",
    "value": "v",
    "output": "out",
    "o": "out",
    "attention": "attn",
}
_NOISE = frozenset({"params", "param", "batch", "stats", "state", "module", "modules", "model", "net", "running"})
_NOISE |= {"moving", "layer", "layers", "self"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True, kw_only=True)
class Label:
    """A name, taken apart.

    Args:
        kind: "weight", "bias", "mean" or "var"; None if the name does not say.
        words: of the modules, normalised.
        module: everything before the last part of the name, without the names of collections.
        rank: which this is, from 0, among the names that differ from it in their numbers alone.
    """

    kind: str | None
    words: frozenset[str]
    module: str
    rank: int


def labels(names: Iterable[str]) -> dict[str, Label]:
    """The labels of one program's tensors."""
    names = tuple(names)
    parts = {name: [word.lower() for word in _WORD.findall(name)] for name in names}
    patterns = {name: tuple("#" if word.isdigit() else word for word in parts[name]) for name in names}
    numbers = {name: tuple(int(word) for word in parts[name] if word.isdigit()) for name in names}
    ranked: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for name in names:
        ranked.setdefault(patterns[name], []).append(numbers[name])
    return {
        name: _label(name, parts[name], rank=sorted(set(ranked[patterns[name]])).index(numbers[name])) for name in names
    }


def _label(name: str, parts: list[str], *, rank: int) -> Label:
    words = [word for word in parts if not word.isdigit()]
    kind = next((_KIND_OF[word] for word in reversed(words) if word in _KIND_OF), None)
    modules = (_SYNONYMS.get(word, word) for word in words if word not in _NOISE)
    pieces = [piece for piece in re.split(r"[./\[\]'\"]+", name) if piece and piece.lower() not in _NOISE]
    return Label(
        kind=kind,
        words=frozenset(word for word in modules if _KIND_OF.get(word) is None),
        module="/".join(pieces[:-1]),
        rank=rank,
    )


def contradict(a: Label, b: Label) -> bool:
    """Whether both say what they are, and it is not the same."""
    return None not in (a.kind, b.kind) and a.kind != b.kind


def similarity(a: Label, b: Label, modules: Mapping[str, str] | None = None) -> float:
    """How much two names agree, from -5 to 7.5: kind 4, words 2, rank 0.5, and 1 for modules known to belong together.

    Args:
        a: of A's tensor.
        b: of B's tensor.
        modules: A's modules and B's that other tensors have already brought together.
    """
    points = -4.0 if contradict(a, b) else 4.0 if a.kind and a.kind == b.kind else 0.0
    shared, either = a.words & b.words, a.words | b.words
    points += 2.0 * len(shared) / len(either) if either else 0.0
    points += 0.5 * (a.rank == b.rank)
    if modules and a.module in modules:
        points += 1.0 if modules[a.module] == b.module else -1.0
    return points
