"""The artifacts of a source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from modeltrail.api.artifacts.storage import Storage
from modeltrail.api.artifacts.store import open_storage
from modeltrail.api.errors import ApiError
from modeltrail.api.importing.entities import File, SourceError


def is_ours_to_copy(uri: str) -> bool:
    """Return whether files at a URI must be copied: local ones, and those behind a server."""
    return urlsplit(uri).scheme in ("", "file", "mlflow-artifacts", "http", "https")


def local_path(uri: str) -> Path | None:
    """Return the local path in a URI."""
    parts = urlsplit(uri)
    if parts.scheme == "" and uri:
        return Path(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return None


class StoredFolder:
    """Artifacts in a local folder or an object store."""

    def __init__(self, uri: str) -> None:
        """Make it. Raises ``SourceError`` if nothing can be read there."""
        path = local_path(uri)
        self._uri = uri
        if path is not None and not path.is_dir():
            # MLflow creates the folder with the first artifact, so a missing folder is an empty
            # one.
            self._storage: Storage | None = None
            return
        try:
            self._storage = open_storage(str(path) if path is not None else uri)
        except ApiError as error:
            raise SourceError(f"artifacts at {uri} cannot be read: {error.message}") from None

    def files(self) -> Iterator[File]:
        if self._storage is None:
            return
        try:
            for key, stat in sorted(self._storage.walk("")):
                yield File(key, stat.size_bytes, int(stat.modified_at.timestamp() * 1000))
        except ApiError as error:
            raise SourceError(f"artifacts at {self._uri}: {error.message}") from None

    def read(self, path: str) -> Iterator[bytes]:
        assert self._storage is not None
        try:
            found = self._storage.open(path)
            if found is None:
                raise SourceError(f"{path} no longer exists at {self._uri}")
            yield from found[1]
        except ApiError as error:
            raise SourceError(f"{path} at {self._uri}: {error.message}") from None


def folder_at(uri: str, behind_proxy: str | None) -> StoredFolder:
    """Return the artifacts at a URI.

    Args:
        uri: The URI, as the source has it.
        behind_proxy: Where ``mlflow-artifacts:/`` leads: a folder, or the URL of an object store.

    Raises:
        SourceError: nothing can be read there.
    """
    if uri.startswith("mlflow-artifacts:"):
        if behind_proxy is None:
            raise SourceError(
                f"the files at {uri} are stored by a server: give the folder or URL that it was "
                "started with (--artifacts-destination) with --artifacts-from"
            )
        path = re.sub(r"^mlflow-artifacts:(//[^/]*)?/*", "", uri)
        uri = f"{behind_proxy.rstrip('/')}/{path}"
    elif urlsplit(uri).scheme in ("http", "https"):
        raise SourceError(f"the files at {uri} are behind a server: import from that server")
    return StoredFolder(uri)
