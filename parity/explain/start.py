"""Why a run does not begin with the weights that it was given, where only a linear image of them is known.

A trace keeps 64 numbers that each initial tensor is projected to. A tensor of many elements cannot be had back from
them, but what ports make of it can be projected as well: of a wrong guess not one of the numbers is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from parity.compare import Stage
from parity.contract import Weights
from parity.explain.cause import Cause, Unknown
from parity.explain.fit import Deviation, Fit, far, settle
from parity.explain.relayout import FORMATS, round_to
from parity.explain.weights import reading_key, together, weight_readings
from parity.oracle.layers import Array

__all__ = ["explain_start"]


def explain_start(
    side: str, given: Weights, seen: Mapping[str, Array], view: Callable[[str, Array], Array]
) -> list[Cause | Unknown]:
    """A cause for each kind of change, [] where every tensor's image is that of the one given.

    Args:
        side: its name.
        given: the weights that it was to begin with.
        seen: the image of each that it began with.
        view: of a tensor's name and value, the image.
    """
    found: dict[str, list[Cause | Unknown]] = {}
    for name, value in given.items():
        meant = np.asarray(value, np.float64)
        place = Stage(stage="weights", tensor=name)
        deviation = Deviation(side=side, step=0, place=place, difference=far(seen[name], view(name, meant)))
        if deviation.difference <= deviation.allowed:
            continue
        fits = [
            Fit(key=key, sentence=sentence, residual=far(seen[name], view(name, held)))
            for key, sentence, held in _held(name, meant)
        ]
        settled = settle(deviation, fits)
        found.setdefault(settled.key if isinstance(settled, Cause) else "unknown", []).append(settled)
    return [together(each) for each in found.values()]


def _held(name: str, meant: Array) -> Iterator[tuple[str, str, Array]]:
    """What is held instead: key, sentence, tensor."""
    for format_, bits in FORMATS.items():
        yield "weights-rounded", f"holds {name} rounded to {format_}", round_to(meant, bits)
    half = meant.astype(np.float16).astype(np.float64)
    yield "weights-rounded", f"holds {name} rounded to float16", half
    yield "weights-zero", f"begins with {name} at 0", np.zeros_like(meant)
    for reading in weight_readings(name, meant.shape):
        key = reading_key(name.partition(".")[0], reading)
        yield key, f"holds {name} {reading.name}", reading.read(meant)
