"""Who is timed: implementations by their own names, peers by short ones, and the compiled reference step."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from parity.contract import InputError, nearest_name

__all__ = [
    "INSTALL",
    "PEERS",
    "REFERENCE",
    "Entrant",
    "Peer",
    "absent_peers",
    "absent_reference",
    "chosen_peers",
    "named",
    "with_reference",
]

INSTALL = "pip install '.[bench]'"


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """What is timed.

    Args:
        label: that the table shows.
        name: "module:attribute".
        unasked: nobody has named it, so that it has no say in the device; where it lacks the device it is left out.
    """

    label: str
    name: str
    unasked: bool = False


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another way to train the CNN: where it is, and the packages that it needs."""

    name: str
    needs: tuple[str, ...]


PEERS: Mapping[str, Peer] = {
    "tutorial": Peer(name="parity_peers.tutorial:impl", needs=("torch", "torchvision")),
    "tutorial-0": Peer(name="parity_peers.tutorial:without_workers", needs=("torch", "torchvision")),
    "eager": Peer(name="parity_peers.eager:impl", needs=("torch",)),
    "lightning": Peer(name="parity_peers.lightning_loop:impl", needs=("torch", "lightning")),
    "keras-jax": Peer(name="parity_peers.keras_fit:on_jax", needs=("keras", "jax")),
    "keras-torch": Peer(name="parity_peers.keras_fit:on_torch", needs=("keras", "torch")),
    "nnx": Peer(name="parity_peers.nnx_loop:impl", needs=("flax", "jax")),
    "reference": Peer(name="parity_peers.reference:impl", needs=("numba",)),
}
"""By the name that `--peers` takes."""

REFERENCE = "reference"
"""The compiled step on one thread: what could be had."""

ALL = "all"


def named(names: Sequence[str]) -> tuple[Entrant, ...]:
    """Implementations under the names that they were given; one that is named twice is timed twice.

    >>> [contestant.label for contestant in named(["torch_impl", "torch_impl"])]
    ['torch_impl', 'torch_impl#2']
    """
    labels = [f"{name}#{names[:n].count(name) + 1}" if name in names[:n] else name for n, name in enumerate(names)]
    return tuple(Entrant(label=label, name=name) for label, name in zip(labels, names, strict=True))


def chosen_peers(text: str) -> tuple[Entrant, ...]:
    """The peers of a list with commas; "all" stands for those that are installed.

    Raises:
        InputError: there is no such peer, or a package that it needs is not installed.
    """
    if text == ALL:
        return tuple(_peer(key, unasked=key == REFERENCE) for key in PEERS if not missing(key))
    keys = [key.strip() for key in text.split(",")]
    for key in keys:
        if key not in PEERS:
            fix = nearest_name(key, (*PEERS, ALL), f"give some of: {', '.join(PEERS)}, or all")
            raise InputError("peers", key, "there is no such peer", fix)
        if lacking := missing(key):
            raise InputError("peers", key, f"{', '.join(lacking)} is not installed", INSTALL)
    return tuple(_peer(key) for key in dict.fromkeys(keys))


def absent_peers(text: str) -> Iterator[str]:
    """Those that "all" leaves out, each with its reason, as a line."""
    yield from _absent(PEERS if text == ALL else ())


def _absent(keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        if lacking := missing(key):
            yield f"{key}: left out, {', '.join(lacking)} is not installed: {INSTALL}"


def with_reference(contestants: Sequence[Entrant]) -> tuple[Entrant, ...]:
    """The same and the reference step, if it is installed and not among them yet."""
    if missing(REFERENCE) or any(contestant.name == PEERS[REFERENCE].name for contestant in contestants):
        return tuple(contestants)
    return (*contestants, _peer(REFERENCE, unasked=True))


def absent_reference(text: str | None) -> Iterator[str]:
    """That the reference step, which nobody asked for, is left out, as a line; where `absent_peers` does not say so."""
    yield from _absent([REFERENCE] if text != ALL else ())


def missing(key: str) -> tuple[str, ...]:
    """The packages that a peer needs and that are not installed; none is imported to find out."""
    module = PEERS[key].name.partition(".")[0]
    return tuple(package for package in (module, *PEERS[key].needs) if importlib.util.find_spec(package) is None)


def _peer(key: str, *, unasked: bool = False) -> Entrant:
    return Entrant(label=key, name=PEERS[key].name, unasked=unasked)
