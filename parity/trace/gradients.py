"""The first steps of a run in full: parameters before and after each, and the gradients that each was given.

They lie beside a trace's chunks, as `gradients.npz`, in the layout of `parity.identify.files`; `gradients.json` holds
the file's SHA-256. A trace without them is a trace as before, and so is one with them: who does not read them need not
know.

The steps are taken by `observe`, from the same initial weights on the same batches; the trace's own losses come from
the side's fast path, so that the first of them must agree with these to rounding.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import InputError
from parity.data import replacing
from parity.identify import load_run, save_run
from parity.trace.beside import read_beside
from parity.trace.manifest import MANIFEST

__all__ = ["GRADIENTS", "MANIFEST", "read_gradients", "write_gradients"]

GRADIENTS, DIGEST = "gradients.npz", "gradients.json"
FORMAT = "parity.gradients/1"

Tensors = dict[str, NDArray[np.generic]]


def write_gradients(folder: Path, parameters: list[Tensors], gradients: list[Tensors]) -> tuple[int, str]:
    """Write the steps into a trace's folder; returns the bytes written, and the file's SHA-256.

    Raises:
        InputError: a file cannot be written.
    """
    try:
        with replacing(folder / GRADIENTS) as temporary:
            save_run(temporary, parameters, gradients)
            content = temporary.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        digest = {"format": FORMAT, "file": GRADIENTS, "sha256": found}
        with replacing(folder / DIGEST) as temporary:
            temporary.write_text(json.dumps({**digest, "steps": len(gradients)}, indent=1) + "\n")
    except OSError as error:
        problem = f"{GRADIENTS} cannot be written ({error.strerror or error})"
        raise InputError("out", folder, problem, "free space, or record elsewhere") from error
    return len(content), found


def read_gradients(folder: Path, *, argument: str = "trace") -> Any:
    """Read them back: parameters, gradients and the steps' numbers, as `parity.identify.load_run` gives them.

    Raises:
        InputError: the trace was recorded without gradients, or the file is missing, truncated, edited, or of another
            recording.
    """
    if read_beside(folder, GRADIENTS, digest=DIGEST, promised=FORMAT, argument=argument) is None:
        problem = "it holds no gradients of its first steps"
        raise InputError(argument, folder, problem, "record it with parity record --gradients N")
    return load_run(folder / GRADIENTS, argument=argument)
