"""Files beside a trace's chunks, which hold its first steps in full.

Each has a small file with its SHA-256, and the trace's manifest holds it too: what was copied in from another recording
is no part of this one, however whole it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parity.contract import InputError
from parity.trace.manifest import MANIFEST, Manifest

__all__ = ["read_beside", "refusal"]


def refusal(argument: str, folder: Path, problem: str) -> InputError:
    """What is wrong with one of the files, in one line."""
    return InputError(argument, folder, problem, "copy it again, or record it again")


def read_beside(
    folder: Path, file: str, *, digest: str, promised: str, argument: str
) -> tuple[dict[str, Any], bytes] | None:
    """What is known of a file, and its content; None where the trace was recorded without.

    Args:
        folder: of the trace.
        file: its name.
        digest: the name of the file with its SHA-256.
        promised: the format that this one states.
        argument: how the user named the trace.

    Raises:
        InputError: either is missing or damaged, or the file is of another recording.
    """

    def refuse(problem: str) -> InputError:
        return refusal(argument, folder, problem)

    own = _own(folder, argument)
    if file not in own and not (folder / digest).is_file():
        return None
    try:
        known = json.loads((folder / digest).read_bytes())
        content = (folder / file).read_bytes()
    except FileNotFoundError as error:
        raise refuse(f"{Path(error.filename).name} is missing") from error
    except OSError as error:
        raise refuse(f"{Path(error.filename).name} cannot be read ({error.strerror})") from error
    except ValueError as error:  # not JSON, or not text
        raise refuse(f"{digest} is damaged ({error})") from error
    if not isinstance(known, dict) or known.get("format") != promised:
        raise refuse(f"the format of {digest} is not {promised}")
    found = hashlib.sha256(content).hexdigest()
    if found != known.get("sha256"):
        raise refuse(f"{file} was truncated or edited: its SHA-256 is another")
    if own.get(file, found) != found:
        raise refuse(f"{file} is of another recording, or was edited: its SHA-256 is not that in {MANIFEST}")
    return known, content


def _own(folder: Path, argument: str) -> Mapping[str, str]:
    return Manifest.read(folder, argument=argument).beside if (folder / MANIFEST).is_file() else {}
