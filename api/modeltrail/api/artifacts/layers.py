"""Artifacts in one storage, and those that were in another one before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from modeltrail.api.artifacts.storage import Entry, Pieces, Sink, Stat, Storage


class Layers:
    """See ``Storage``: new files go to the upper one, and hide those of the lower one.

    A server that keeps artifacts elsewhere still finds those in its data folder: from before, and
    of training jobs that log into that folder.
    """

    def __init__(self, upper: Storage, lower: Storage) -> None:
        """Write into ``upper``; read from ``lower`` what is not there."""
        self._upper = upper
        self._both = (upper, lower)
        self.url = upper.url
        self.folder = upper.folder
        self.signed_headers = upper.signed_headers

    def check(self) -> None:
        """See ``Storage.check``."""
        self._upper.check()

    def url_of(self, key: str) -> str:
        """See ``Storage.url_of``: where it is written."""
        return self._upper.url_of(key)

    def write(self, key: str) -> Sink:
        """See ``Storage.write``."""
        return self._upper.write(key)

    def stat(self, key: str) -> Stat | None:
        """See ``Storage.stat``."""
        return next((found for s in self._both if (found := s.stat(key)) is not None), None)

    def open(self, key: str) -> tuple[Stat, Pieces] | None:
        """See ``Storage.open``."""
        return next((found for s in self._both if (found := s.open(key)) is not None), None)

    def read(self, key: str, start: int, end: int) -> Pieces:
        """See ``Storage.read``."""
        upper, lower = self._both
        return (lower if upper.stat(key) is None else upper).read(key, start, end)

    def entries(self, key: str) -> list[Entry]:
        """See ``Storage.entries``."""
        found = {e.name: e for s in reversed(self._both) for e in s.entries(key)}
        return list(found.values())

    def walk(self, key: str) -> Iterator[tuple[str, Stat]]:
        """See ``Storage.walk``."""
        yield from {k: stat for s in reversed(self._both) for k, stat in s.walk(key)}.items()

    def delete(self, key: str) -> None:
        """See ``Storage.delete``."""
        for storage in self._both:
            storage.delete(key)

    def signed(self, method: Literal["GET", "PUT"], key: str, valid_s: int) -> str | None:
        """See ``Storage.signed``; what only the lower one has is read through this server."""
        if method == "GET" and self._upper.stat(key) is None:
            return None
        return self._upper.signed(method, key, valid_s)
