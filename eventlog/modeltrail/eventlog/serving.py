"""Which server runs on a data folder: it keeps a lock, and its address beside it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any


def server_on(folder: str | os.PathLike[str]) -> str | None:
    """Return the URL of the server that runs on a folder, or None."""
    found = server_info(folder)
    if found is None:
        return None
    try:
        # Open for reading, which creates no file and needs no permission to write.
        with (Path(folder) / "server.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        held = error.errno in (errno.EWOULDBLOCK, errno.EACCES)
        return str(found["url"]) if held else None
    return None  # its server was killed, so the lock is free


def server_info(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return what the last server on a folder wrote about itself, or None."""
    try:
        found = json.loads((Path(folder) / "server.json").read_text(encoding="utf-8"))
        return {**found, "url": str(found["url"]), "pid": int(found["pid"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None
