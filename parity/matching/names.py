"""What the names of two programs' tensors have in common: their kind, the words of their modules, their rank.

Frameworks name the same thing differently (`bn1.running_mean`, `BatchNorm_0/mean`) and count from 0 or 1, per type or
per container. So words are normalised, and a number only says which of its like comes first.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
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
_NOISE |= {"moving", "layer", "layers", "self", "fc", "dense", "linear", "lin", "proj", "projection"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True, kw_only=True)
class Label:
    """A name, taken apart.

    Args:
        kind: "weight", "bias", "mean" or "var"; None if the name does not say.
        words: of the modules, normalised.
        module: everything before the last part of the name, without the names of collections.
        pattern: the module with its numbers left open.
        rank: which this is, from 0, among the tensors of its shape whose names differ from it in their numbers alone.
    """

    kind: str | None
    words: frozenset[str]
    module: str
    pattern: str
    rank: int


def labels(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Label]:
    """The labels of one program's tensors, given their names and shapes."""
    like: dict[tuple[str, tuple[int, ...]], list[tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        like.setdefault((_open(name), shape), []).append(_numbers(name))
    return {name: _label(name, sorted(like[_open(name), shape])) for name, shape in shapes.items()}


def _open(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _label(name: str, like: Sequence[tuple[int, ...]]) -> Label:
    words = [word for word in _words(name) if not word.isdigit()]
    kind = next((_KIND_OF[word] for word in reversed(words) if word in _KIND_OF), None)
    modules = (_SYNONYMS.get(word, word) for word in words if word not in _NOISE)
    pieces = [piece for piece in re.split(r"[./\[\]'\"]+", name) if not _NOISE.issuperset(_words(piece))]
    module = "/".join(pieces[:-1])
    return Label(
        kind=kind,
        words=frozenset(word for word in modules if word not in _KIND_OF),
        module=module,
        pattern=_open(module),
        rank=like.index(_numbers(name)),
    )


def contradict(a: Label, b: Label) -> bool:
    """Whether both say what they are, and it is not the same."""
    return None not in (a.kind, b.kind) and a.kind != b.kind


def similarity(a: Label, b: Label, modules: Mapping[str, frozenset[str]] | None = None) -> float:
    """How much two names agree, from -5 to 7.5: kind 4, words 2, rank 0.5, and 1 for modules known to belong together.

    Args:
        a: of A's tensor.
        b: of B's tensor.
        modules: for modules of A those of B that other tensors have already brought it together with.
    """
    points = -4.0 if contradict(a, b) else 4.0 if a.kind and a.kind == b.kind else 0.0
    shared, either = a.words & b.words, a.words | b.words
    points += 2.0 * len(shared) / len(either) if either else 2.0
    points += 0.5 * (a.rank == b.rank)
    if modules and a.module in modules:
        points += max(2 * _shared(b.module, module) - 1 for module in modules[a.module])
    return points


def _shared(a: str, b: str) -> float:
    """How much of the longer path two modules have in common from the start, 0 to 1."""
    x, y = a.split("/"), b.split("/")
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(x, y, strict=False))
    return len(list(same)) / max(len(x), len(y))
