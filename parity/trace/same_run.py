"""Refuses to compare what cannot be compared: traces of another run, plan, model or precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from parity.contract import InputError
from parity.trace.reader import Trace

__all__ = ["require_null_of", "require_same_run"]


def require_same_run(a: Trace, b: Trace, *, argument: str = "trace") -> None:
    """Refuse traces that do not start from the same weights, train the same model on the same batches, or alike.

    Raises:
        InputError: says what differs, and the values.
    """
    ours = dict(_identity(a))
    for name, found in _identity(b):
        if found != ours[name]:
            raise _refusal(b, argument, f"its {name} is {found}, not {ours[name]} as in {a.path}")
    _require_same_tensors(a, b, argument)
    steps = min(len(a.batches), len(b.batches))
    other = np.flatnonzero(a.batches[:steps] != b.batches[:steps])
    if len(other):
        raise _refusal(b, argument, f"step {other[0]} was trained on another batch than in {a.path}")
    if a.manifest.nudge != b.manifest.nudge and argument == "trace":
        problem = f"its weights were nudged with seed {b.manifest.nudge}, those of {a.path} with {a.manifest.nudge}"
        raise _refusal(b, argument, problem)


def require_null_of(a: Trace, null: Trace) -> None:
    """Refuse as a null run what is not A's implementation from weights one ulp away from A's.

    Raises:
        InputError: says what differs, and the values.
    """
    require_same_run(a, null, argument="null")
    if null.manifest.implementation != a.manifest.implementation:
        found, needed = null.manifest.implementation, a.manifest.implementation
        raise _refusal(null, "null", f"it is a run of {found}, not of {needed} as {a.path}")
    if null.manifest.every != a.manifest.every:
        # Momentum is compared in full at some states and by its norm at the others, which is far smaller.
        problem = f"it records every {null.manifest.every} steps, not every {a.manifest.every} as {a.path}"
        raise _refusal(null, "null", problem)
    if null.manifest.nudge == a.manifest.nudge:
        raise InputError(
            "null", null.path, f"it starts from the same weights as {a.path}", "record it with --nudge and another seed"
        )


def _refusal(b: Trace, argument: str, problem: str) -> InputError:
    return InputError(argument, b.path, problem, "record both with the same options")


def _identity(trace: Trace) -> Iterator[tuple[str, Any]]:
    """What must be equal, by the name that a user knows it by."""
    manifest = trace.manifest
    settings = asdict(manifest.settings)
    sgd = settings.pop("sgd") | {"schedule": str(manifest.settings.sgd.schedule)}
    del settings["device"]  # the same program on another device is what a trace may be compared for
    yield from ((name.replace("_", " "), value) for name, value in (settings | sgd).items())
    yield "data's SHA-256", manifest.data.sha256
    yield "initial weights' SHA-256", manifest.weights.sha256


def _require_same_tensors(a: Trace, b: Trace, argument: str) -> None:
    pairs = [("tensor", a.manifest.tensors, b.manifest.tensors)]
    if a.manifest.momentum and b.manifest.momentum:  # a side without any stands at zero, which is no other model
        pairs.append(("momentum tensor", a.manifest.momentum, b.manifest.momentum))
    for noun, ours, theirs in pairs:
        for name in sorted(ours.keys() | theirs.keys()):
            found, expected = theirs.get(name, "missing"), ours.get(name, "missing")
            if found != expected:
                raise _refusal(b, argument, f"its {noun} {name} is {found}, not {expected} as in {a.path}")
