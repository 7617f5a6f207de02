"""Who may read what is in a data folder: its owner alone, or the folder's group as well.

A data folder holds hashes of passwords, keys, and everything that was logged. It is made for its
owner alone (0700), and so is what is in it (0600). A folder that its owner made writable for a
group (``chmod 2770``) is shared with it on purpose: then what is in it is the group's too (0660).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_GROUP_WRITES = stat.S_IWGRP
_OTHERS = 0o007
_GROUP_AND_OTHERS = 0o077


def withheld(folder: Path) -> int:
    """The bits of a mode that nothing in the folder may have, nor the folder itself."""
    try:
        shared = os.stat(folder).st_mode & _GROUP_WRITES
    except FileNotFoundError:
        shared = 0
    return _OTHERS if shared else _GROUP_AND_OTHERS


def make_folder(folder: Path) -> None:
    """Make a folder for its owner alone; one that is there already stays as it is."""
    folder.mkdir(0o700, parents=True, exist_ok=True)


def open_private(path: Path) -> int:
    """Open a file of a data folder to read and write, and make it if need be; a descriptor.

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
    """The folder and what is directly in it, as far as others may reach it.

    What is further down is guarded by what is above it.
    """
    bits = withheld(folder)
    paths = [folder, *sorted(folder.iterdir())]
    return [path for path in paths if not path.is_symlink() and path.stat().st_mode & bits]


def close_to_others(folder: Path) -> None:
    """Take away what ``too_open`` finds; raises ``OSError`` for what is somebody else's."""
    bits = withheld(folder)
    for path in too_open(folder):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~bits)
