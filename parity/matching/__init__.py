"""Compares programs that name and lay out their tensors differently: which weight is which, which activations agree."""

from parity.matching.activations import (
    Candidate,
    Captured,
    Comparison,
    ForwardBreak,
    Matches,
    first_unmatched,
    match_activations,
    matched_pairs,
)
from parity.matching.mapped import Mapped
from parity.matching.mapping import WHOLE, Part, TensorMap, WeightMapping
from parity.matching.probe import Program
from parity.matching.weights import match_weights

__all__ = [
    "WHOLE",
    "Candidate",
    "Captured",
    "Comparison",
    "ForwardBreak",
    "Mapped",
    "Matches",
    "Part",
    "Program",
    "TensorMap",
    "WeightMapping",
    "first_unmatched",
    "match_activations",
    "match_weights",
    "matched_pairs",
]
