"""What to do about a name that is not known: the nearest one that is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["nearest_file", "nearest_name"]

_ALIKE = 0.7
"""The share of letters that two names must have in common, in the same order (difflib's ratio). At difflib's own 0.6
every three-letter name would be near to many others: tpu to cpu."""


def nearest_name(given: str, known: Iterable[str], fix: str, *, alone: bool = False) -> str:
    """The fix for a name that is not known, with the nearest that is.

    Args:
        given: the name.
        known: those that are.
        fix: what to do where none is near.
        alone: whether to leave the fix out where one is near: where it is a long list.

    >>> nearest_name("cosin", ["step", "cosine"], "give step or cosine")
    'give step or cosine; did you mean cosine?'
    >>> nearest_name("cosin", ["step", "cosine"], "give step or cosine", alone=True)
    'did you mean cosine?'
    >>> nearest_name("x", ["step", "cosine"], "give step or cosine")
    'give step or cosine'
    """
    # Without case: "Embedded" is a slip of the same kind. Where names differ in nothing else, the first is meant.
    spelled = {name.lower(): name for name in reversed(list(known))}
    near = difflib.get_close_matches(given.lower(), spelled, n=1, cutoff=_ALIKE)
    if not near:
        return fix
    return f"{'' if alone else f'{fix}; '}did you mean {spelled[near[0]]}?"


def nearest_file(given: Path, fix: str, *, known: Iterable[str] = (), suffix: str = "") -> str:
    """The fix for a file or folder that does not exist: the nearest beside it, or of the other names that may be meant.

    Args:
        given: what was not found.
        fix: what to do where nothing is near.
        known: names that are no files and would do as well.
        suffix: of the files that can be meant; "" for all.
    """
    try:
        beside = [path.name for path in given.parent.iterdir() if path.name.endswith(suffix) and path.name[0] != "."]
    except OSError:  # its folder does not exist either, or cannot be read
        beside = []
    return nearest_name(str(given), [*known, *(str(given.parent / name) for name in sorted(beside))], fix)
