"""The first steps of a run stage by stage, for a cause: what `observe` shows of them beside parameters and gradients.

They lie beside a trace's chunks, as `stages.safetensors`, under names `<stage>.<step>.<tensor>`; `stages.json` holds
the SHA-256. Parameters and gradients are those of `gradients.npz`; the weights that a step begins with are kept
only where they are not, to the last bit, what the step before has left. One step of the tutorial's CNN at batch 4 takes
0.9 MB in float64. A trace without them is a trace as before, and who compares two that match does not read them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from parity.contract import InputError, StepTrace, Tensors
from parity.data import replacing
from parity.trace.beside import read_beside, refusal
from parity.trace.gradients import read_gradients

__all__ = ["STAGES", "read_stages", "write_stages"]

STAGES, DIGEST = "stages.safetensors", "stages.json"
FORMAT = "parity.stages/1"

KINDS = ("batch", "weights", "activations", "logits", "loss", "momentum")
_KEY = re.compile(rf"(?P<kind>{'|'.join(KINDS)})\.(?P<step>0|[1-9][0-9]{{0,8}})\.(?P<name>.+)", re.DOTALL)

Arrays = dict[str, NDArray[np.generic]]


def write_stages(folder: Path, start: Tensors, steps: Sequence[StepTrace]) -> tuple[int, str]:
    """Write the steps into a trace's folder, beside their gradients; returns the bytes written, and the SHA-256.

    Args:
        folder: of the trace.
        start: the parameters before the first step.
        steps: all stages of each.

    Raises:
        InputError: a file cannot be written.
    """
    before = [start, *(step.parameters for step in steps)]
    kept = {key: value for number, step in enumerate(steps) for key, value in _arrays(number, step, before[number])}
    content = safetensors.numpy.save(kept)
    found = hashlib.sha256(content).hexdigest()
    digest = {"format": FORMAT, "file": STAGES, "sha256": found, "steps": len(steps)}
    try:
        with replacing(folder / STAGES) as temporary:
            temporary.write_bytes(content)
        with replacing(folder / DIGEST) as temporary:
            temporary.write_text(json.dumps(digest, indent=1) + "\n")
    except OSError as error:
        problem = f"{STAGES} cannot be written ({error.strerror or error})"
        raise InputError("out", folder, problem, "free space, or record elsewhere") from error
    return len(content), found


def _arrays(number: int, step: StepTrace, before: Tensors) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """What is kept of one step, by its name in the file."""
    for kind in KINDS:
        for name, value in getattr(step, kind).items():
            if kind != "weights" or name not in before or not np.array_equal(value, before[name]):
                yield f"{kind}.{number}.{name}", np.ascontiguousarray(value)


def read_stages(folder: Path, *, argument: str = "trace") -> tuple[Tensors, tuple[StepTrace, ...]]:
    """Read them back: the parameters before the first step, and the steps; none where the trace was recorded without.

    Raises:
        InputError: the file is missing, was truncated or edited, is of another recording, or does not hold such steps.
    """
    read = read_beside(folder, STAGES, digest=DIGEST, promised=FORMAT, argument=argument)
    if read is None:
        return {}, ()
    parameters, gradients, _ = read_gradients(folder, argument=argument)
    if read[0].get("steps") != len(gradients) or len(parameters) != len(gradients) + 1:
        raise refusal(argument, folder, f"{STAGES} holds other steps than the gradients beside it")
    promise = f"{STAGES} does not hold what the format promises"
    try:
        arrays = safetensors.numpy.load(read[1])
    except (AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise refusal(argument, folder, f"{promise} ({error!r})") from error
    if problem := _contradiction(arrays, parameters[:-1]):
        raise refusal(argument, folder, f"{promise}: {problem}")
    return parameters[0], _steps(arrays, parameters, gradients)


def _contradiction(arrays: Arrays, before: Sequence[Arrays]) -> str | None:
    """What is too much or missing, given the parameters before each step; None if nothing is."""
    names: list[dict[str, set[str]]] = [{kind: set() for kind in KINDS} for _ in before]
    for key, value in sorted(arrays.items(), key=lambda item: item[0]):
        found = _KEY.fullmatch(key)
        if not found or int(found["step"]) >= len(before):
            return f"{key} is no tensor of its {len(before)} steps"
        kind, step, name = found["kind"], int(found["step"]), found["name"]
        if kind == "weights" and (name not in before[step] or value.shape != before[step][name].shape):
            return f"{key} is {value.shape}, which the parameter is not"
        names[step][kind].add(name)
    for step, kinds in enumerate(names):
        for kind in ("batch", "activations", "logits", "loss"):
            if kind != "activations" and not kinds[kind]:  # a side need not show what lies between
                return f"step {step} has nothing as {kind}"
            if kinds[kind] != names[0][kind]:
                return f"step {step} has other tensors as {kind} than step 0"
    return None


def _steps(arrays: Arrays, parameters: Sequence[Arrays], gradients: Sequence[Arrays]) -> tuple[StepTrace, ...]:
    """Every step's stages, those that the gradients' file holds among them."""
    found: list[dict[str, Arrays]] = [{kind: {} for kind in KINDS} for _ in gradients]
    for number, stages in enumerate(found):
        stages["weights"] |= parameters[number]
        stages |= {"gradients": gradients[number], "parameters": parameters[number + 1]}
    for key in sorted(arrays):
        kind, step, name = key.split(".", 2)
        found[int(step)][kind][name] = arrays[key]
    return tuple(_trace(stages) for stages in found)


def _trace(stages: dict[str, Arrays]) -> StepTrace:
    """With gradients and momentum in the order of the parameters: that of the forward pass."""
    names = list(stages["weights"])

    def order(kind: str) -> Arrays:
        return {name: stages[kind][name] for name in sorted(stages[kind], key=lambda name: _place(names, name))}

    return StepTrace(
        batch=stages["batch"],
        weights=stages["weights"],
        activations=stages["activations"],
        logits=stages["logits"],
        loss=stages["loss"],
        gradients=order("gradients"),
        momentum=order("momentum"),
        parameters=stages["parameters"],
    )


def _place(names: list[str], name: str) -> int:
    parameter = name.partition(":")[0]  # a buffer is named as its parameter, or parameter:slot
    return names.index(parameter) if parameter in names else len(names)
