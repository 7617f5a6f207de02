"""Digests of datasets, which tell whether two runs used the same bytes."""

from __future__ import annotations

import hashlib
import os
from typing import Any

_CHUNK_BYTES = 1024 * 1024


def digest_of(data: Any) -> str:
    """Return the first 32 hexadecimal digits of a SHA-256 of the content.

    Args:
        data: A path of a file or folder, bytes, a data frame (by its CSV text) or an array (by
            type, shape and bytes).

    Raises:
        TypeError: it is none of these.
        OSError: the path cannot be read.
    """
    sha = hashlib.sha256()
    if isinstance(data, str | os.PathLike):
        _add_path(sha, os.fspath(data))
    elif isinstance(data, bytes | bytearray | memoryview):
        sha.update(data)
    elif hasattr(data, "to_csv"):
        sha.update(data.to_csv().encode())
    elif hasattr(data, "write_csv"):
        sha.update(data.write_csv().encode())
    elif hasattr(data, "tobytes"):
        kind = str(getattr(data, "dtype", ""))
        sha.update(f"{kind} {getattr(data, 'shape', '')}".encode())
        # The bytes of an array of objects are addresses, which say nothing about the content.
        sha.update(repr(data.tolist()).encode() if kind == "object" else data.tobytes())
    else:
        raise TypeError(f"no digest of a {type(data).__name__}; pass digest= or data=")
    return sha.hexdigest()[:32]


def _add_path(sha: Any, path: str) -> None:
    if not os.path.isdir(path):
        _add_file(sha, path)
        return
    for parent, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            file = os.path.join(parent, name)
            sha.update(os.path.relpath(file, path).encode("utf-8", "surrogateescape") + b"\0")
            _add_file(sha, file)


def _add_file(sha: Any, path: str) -> None:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha.update(chunk)
