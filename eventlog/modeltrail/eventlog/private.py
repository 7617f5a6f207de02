"""File modes in a data folder: private to its owner, or shared with the folder's group.

A data folder contains password hashes, keys and everything that was logged. The folder is therefore
created with mode 0700 and its files with 0600. If its owner made the folder writable for a group
(``chmod 2770``), its files are shared with that group (0660).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_GROUP_WRITES = stat.S_IWGRP
_OTHERS = 0o007
_GROUP_AND_OTHERS = 0o077


def withheld(folder: Path) -> int:
    """Return the mode bits that neither the folder nor anything in it may have."""
    try:
        shared = os.stat(folder).st_mode & _GROUP_WRITES
    except FileNotFoundError:
        shared = 0
    return _OTHERS if shared else _GROUP_AND_OTHERS


def make_folder(folder: Path) -> None:
    """Create a private folder. An existing folder is not changed."""
    folder.mkdir(0o700, parents=True, exist_ok=True)


def open_private(path: Path) -> int:
    """Open a file of a data folder for reading and writing, and create it if needed.

    Returns a descriptor.

    Its mode does not depend on the umask of the process, which may be a training job's.
    """
    flags = os.O_RDWR | os.O_CLOEXEC
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue  # another process was first
        mode = 0o666 & ~withheld(path.parent)
        if mode != 0o600:
            os.fchmod(fd, mode)
        return fd


def too_open(folder: Path) -> list[Path]:
    """Return the folder and the files directly in it that others can access.

    Anything deeper is protected by the folder above it.
    """
    bits = withheld(folder)
    paths = [folder, *sorted(folder.iterdir())]
    return [path for path in paths if not path.is_symlink() and path.stat().st_mode & bits]


def close_to_others(folder: Path) -> None:
    """Remove the access that ``too_open`` finds. Raises ``OSError`` for files of another user."""
    bits = withheld(folder)
    for path in too_open(folder):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~bits)
