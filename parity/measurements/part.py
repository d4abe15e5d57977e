"""What the parts of the calibration have in common: a bar, numbered trials, and a conclusion from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from parity.data import Dataset
from parity.run import resolve_sides
from parity.settings import Side

__all__ = ["Bench", "Conclusion", "Part", "Trial", "figures", "pair_of", "seconds_in_turns"]

Trial = dict[str, Any]
"""One trial's numbers, as JSON holds them."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What trials are measured with.

    Args:
        dataset: the images.
        sides: the honest pair, by name.
        partner: an honest side that need not compile anything, by name.
        programs: further honest pairs, by name; programs of their own that bring their weights and data.
        emulated: sides that compute with less precision than float32, by name.
        epochs: of the long runs.
        steps: after so many the long runs stop; None for all of the epochs'.
        device: "auto", "cpu" or "cuda".
    """

    dataset: Dataset = field(repr=False)
    sides: tuple[str, str] = ("torch_impl", "jax_impl")
    partner: str = "torch_impl:eager"
    programs: tuple[tuple[str, str], ...] = ()
    emulated: tuple[str, ...] = ()
    epochs: int = 3
    steps: int | None = None
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """Whether the bar is reached, and what all trials show together."""

    met: bool
    summary: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One measurement.

    Args:
        name: what `--part` calls it.
        bar: what is to be reached, in one line.
        count: how many trials make the whole.
        quick: the numbers of those that make the quick version.
        reads: names of the fields of `Bench`, beside the data set, that decide what is measured.
        measure: one trial, by its number.
        conclude: from all trials, at least one, in the order of their numbers.
    """

    name: str
    bar: str
    count: int
    quick: Sequence[int]
    reads: Sequence[str]
    measure: Callable[[Bench, int], Trial]
    conclude: Callable[[Sequence[Trial]], Conclusion]


def seconds_in_turns(number: int, calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """How long each call took, one after the other; for odd numbers in reverse, so that none is always first."""
    names = list(calls) if number % 2 == 0 else list(calls)[::-1]
    seconds = {}
    for name in names:
        begin = time.perf_counter()
        calls[name]()
        seconds[name] = time.perf_counter() - begin
    return seconds


def pair_of(names: Sequence[str]) -> tuple[Side, Side]:
    """Both sides, imported."""
    first, second = resolve_sides(names)
    return first, second


def figures(value: float) -> float:
    """Four significant digits: what a table needs, in a file that stays small."""
    return float(f"{value:.3e}")
