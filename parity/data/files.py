"""Writing files so that a reader never sees half of one: a temporary name in the same folder, then a rename."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parity.contract import InputError

__all__ = ["check_folder", "check_writable", "replacing"]


def check_writable(path: Path, *, argument: str) -> None:
    """Refuse a path that cannot be written, before hours of training rather than after.

    Raises:
        InputError: it is a folder, or its folder is missing or not writable.
    """
    folder = path.resolve().parent
    if path.is_dir():
        raise InputError(argument, path, "it is a folder", "name a file")
    if path.exists() and not path.is_file():
        # A rename over /dev/null would replace the device.
        raise InputError(argument, path, "it is not a regular file", "name a file")
    if not folder.is_dir():
        raise InputError(argument, path, f"the folder {folder} does not exist", "create it first")
    if not os.access(folder, os.W_OK):
        raise InputError(argument, path, f"the folder {folder} is not writable", "choose another")


def check_folder(folder: Path, *, argument: str) -> None:
    """Refuse a folder that files cannot be written into, or that cannot be made; it is not made here.

    Raises:
        InputError: it is a file, or it or its own folder is missing or not writable.
    """
    if folder.is_dir():
        check_writable(folder / "file", argument=argument)
    elif folder.exists():
        raise InputError(argument, folder, "it is a file", "name a folder")
    else:
        check_writable(folder, argument=argument)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; it takes the place of `path` when the block ends well, else it is removed."""
    target = path.resolve()  # the file that a link points to, not the link
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; give the permissions that a plain open would have given.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
