"""The first steps of a run stage by stage, for a cause: what `observe` shows of them beside parameters and gradients.

They lie beside a trace's chunks, as `stages.safetensors`, under names `<stage>.<step>.<tensor>`; `stages.json` holds
the SHA-256. Parameters and gradients are those of `gradients.npz`; the weights that a step begins with are kept
only where they are not, to the last bit, what the step before has left. One step of the tutorial's CNN at batch 4 takes
0.9 MB in float64. A trace without them is a trace as before, and who compares two that match does not read them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from parity.contract import InputError, StepTrace, Tensors
from parity.data import replacing
from parity.trace.gradients import read_gradients

__all__ = ["read_stages", "write_stages"]

STAGES, DIGEST = "stages.safetensors", "stages.json"
FORMAT = "parity.stages/1"

KINDS = ("batch", "weights", "activations", "logits", "loss", "momentum")

Arrays = dict[str, NDArray[np.generic]]


def write_stages(folder: Path, start: Tensors, steps: Sequence[StepTrace]) -> int:
    """Write the steps into a trace's folder, beside their gradients; returns the bytes written.

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
    digest = {"format": FORMAT, "file": STAGES, "sha256": hashlib.sha256(content).hexdigest(), "steps": len(steps)}
    try:
        with replacing(folder / STAGES) as temporary:
            temporary.write_bytes(content)
        with replacing(folder / DIGEST) as temporary:
            temporary.write_text(json.dumps(digest, indent=1) + "\n")
    except OSError as error:
        problem = f"{STAGES} cannot be written ({error.strerror or error})"
        raise InputError("out", folder, problem, "free space, or record elsewhere") from error
    return len(content)


def _arrays(number: int, step: StepTrace, before: Tensors) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """What is kept of one step, by its name in the file."""
    for kind in KINDS:
        for name, value in getattr(step, kind).items():
            if kind != "weights" or name not in before or not np.array_equal(value, before[name]):
                yield f"{kind}.{number}.{name}", np.ascontiguousarray(value)


def read_stages(folder: Path, *, argument: str = "trace") -> tuple[StepTrace, ...]:
    """Read them back; () where the trace was recorded without.

    Raises:
        InputError: the file is missing, or was truncated or edited.
    """

    def refuse(problem: str) -> InputError:
        return InputError(argument, folder, problem, "copy it again, or record it again")

    if not (folder / DIGEST).is_file():
        return ()
    try:
        digest = json.loads((folder / DIGEST).read_bytes())
        content = (folder / STAGES).read_bytes()
    except OSError as error:
        raise refuse(f"{STAGES} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise refuse(f"{DIGEST} is damaged ({error})") from error
    if not isinstance(digest, dict) or digest.get("format") != FORMAT:
        raise refuse(f"the format of {DIGEST} is not {FORMAT}")
    if hashlib.sha256(content).hexdigest() != digest.get("sha256"):
        raise refuse(f"{STAGES} was truncated or edited: its SHA-256 is another")
    parameters, gradients, _ = read_gradients(folder, argument=argument)
    if digest.get("steps") != len(gradients):
        raise refuse(f"{STAGES} holds other steps than the gradients beside it")
    try:
        return _steps(safetensors.numpy.load(content), parameters, gradients)
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise refuse(f"{STAGES} does not hold what the format promises ({error!r})") from error


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
