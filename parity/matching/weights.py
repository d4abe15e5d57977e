"""Which tensor of B each tensor of A is: proposed from shapes, names and order, proved by B's outputs in float64."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import InputError, Tensors, nearest_name
from parity.matching.divisions import divisions
from parity.matching.inputs import input_axes, shared_rows
from parity.matching.mapping import WeightMapping
from parity.matching.options import Options, Unit, parse_given
from parity.matching.probe import Budget, Probe, Program, distinct
from parity.matching.search import Attempt, Search
from parity.matching.ties import name_notes, resolve_ties

__all__ = ["PASSES", "match_weights"]

Array = NDArray[Any]

PASSES = 500
"""Training steps that a search may cost, both programs together: a few suffice where names and shapes are clear."""

ROWS = 8
"""Samples in the batch of the proof."""

_LEAST = 3


def match_weights(
    a: Program,
    b: Program,
    *,
    mapping: Mapping[str, str | Sequence[str]] | Iterable[str] = (),
    rows: int = ROWS,
    passes: int = PASSES,
) -> WeightMapping:
    """Find out which tensor of B each tensor of A is, and in which layout.

    Both programs train for one step on the same rows of A's data, from A's weights, in float64. The mapping is proved
    if B's outputs are A's to 1e-9. What the outputs leave open is decided by gradients, by what the step makes of each
    tensor, and by the outputs in evaluation.

    Args:
        a: the program whose names and layout are to be used.
        b: the other.
        mapping: what the user knows, A's names to B's, or "A=B" strings. It is taken as it is, and tried like the rest.
        rows: samples in the batch.
        passes: after so many steps the search ends with the best mapping so far.

    Returns:
        The mapping. `proved` is False if B's forward pass agrees under none that shapes allow: then B computes
        something else, and `broken` says where.

    Raises:
        InputError: a tensor has no partner of its size, the inputs differ, `mapping` names a tensor that there is not
            or that does not fit, or several mappings fit and differ in their effect.
    """
    if passes < _LEAST:
        raise InputError(
            "passes", passes, "a step of each program and one attempt are needed", f"give {_LEAST} or more"
        )
    (weights_a, arrays_a), (weights_b, arrays_b) = a.example(), b.example()
    given = parse_given(mapping)
    _check_given(given, weights_a, weights_b)
    inputs = input_axes(arrays_a, arrays_b)
    batch_a, batch_b = shared_rows(arrays_a, inputs, rows)
    budget = Budget(passes)
    starts = distinct(weights_a), distinct(weights_b)
    probes = Probe(a, starts[0], batch_a, budget), Probe(b, starts[1], batch_b, budget)
    traces = probes[0].observe(starts[0]), probes[1].observe(starts[1])
    options = Options(a=_units(weights_a), b=_units(weights_b), traces=traces, given=given)
    searches = (Search(each, probes, *starts) for each in divisions(options))
    return _result(*_found(searches), inputs=inputs, budget=budget)


def _found(searches: Iterable[Search]) -> tuple[Search, Attempt, bool]:
    """The first search whose mapping is proved, or the one that came furthest; and whether it ended early."""
    results = []
    for search in searches:
        results.append((search, *search.run()))
        _, attempt, ended = results[-1]
        if attempt.agrees or ended:
            break
    return max(results, key=lambda result: (result[1].agrees, result[1].progress))


def _units(weights: Tensors) -> tuple[Unit, ...]:
    return tuple(Unit(name=name, shape=np.shape(value)) for name, value in weights.items())


def _check_given(given: Mapping[str, frozenset[str]], ours: Tensors, theirs: Tensors) -> None:
    for source, targets in given.items():
        for name, known, side in [(source, ours, "A"), *((target, theirs, "B") for target in sorted(targets))]:
            if name not in known:
                names = ", ".join(known)
                fix = nearest_name(name, known, f"it has {names}", alone=True)
                raise InputError("mapping", name, f"{side} has no tensor of this name", fix)
        sizes = [theirs[target].size for target in targets]
        # One of either may be a part of the other.
        if ours[source].size != sum(sizes) and not all(size % ours[source].size == 0 for size in sizes):
            shapes = ", ".join(f"{target} {theirs[target].shape}" for target in sorted(targets))
            problem = f"{ours[source].shape} in A cannot be laid out as {shapes} in B"
            raise InputError("mapping", source, problem, "map tensors of equal size")


def _result(search: Search, attempt: Attempt, ended: bool, *, inputs: Any, budget: Budget) -> WeightMapping:
    notes = ["the search for a mapping ended early, after its last pass"] if ended else []
    if attempt.agrees:
        budget.lift()  # what remains is bounded, and a proof is not given up half way
        attempt = resolve_ties(search, attempt)
    found = WeightMapping(tensors=tuple(map(search.options.tensor_map, attempt.chosen)))
    return replace(
        found,
        inputs=inputs,
        proved=attempt.agrees,
        broken=attempt.comparison.broken,
        passes=budget.spent,
        notes=(*notes, *name_notes(search, attempt)),
    )
