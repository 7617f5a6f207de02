"""Artifacts in one storage, on top of those in an older one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from modeltrail.api.artifacts.storage import Entry, Pieces, Sink, Stat, Storage


class Layers:
    """A ``Storage`` of two layers: new files go to the upper one and hide those of the lower one.

    A server that stores artifacts elsewhere thereby still finds those in its data folder: earlier
    ones, and those of training jobs that log to the folder.
    """

    def __init__(self, upper: Storage, lower: Storage) -> None:
        """Write to ``upper``. Read from ``lower`` what is not in ``upper``."""
        self._upper = upper
        self._both = (upper, lower)
        self.url = upper.url
        self.folder = upper.folder
        self.signed_headers = upper.signed_headers

    def check(self) -> None:
        self._upper.check()

    def url_of(self, key: str) -> str:
        """Return the URL in the upper storage."""
        return self._upper.url_of(key)

    def write(self, key: str) -> Sink:
        return self._upper.write(key)

    def stat(self, key: str) -> Stat | None:
        return next((found for s in self._both if (found := s.stat(key)) is not None), None)

    def open(self, key: str) -> tuple[Stat, Pieces] | None:
        return next((found for s in self._both if (found := s.open(key)) is not None), None)

    def read(self, key: str, start: int, end: int) -> Pieces:
        upper, lower = self._both
        return (lower if upper.stat(key) is None else upper).read(key, start, end)

    def entries(self, key: str) -> list[Entry]:
        found = {e.name: e for s in reversed(self._both) for e in s.entries(key)}
        return list(found.values())

    def walk(self, key: str) -> Iterator[tuple[str, Stat]]:
        yield from {k: stat for s in reversed(self._both) for k, stat in s.walk(key)}.items()

    def delete(self, key: str) -> None:
        for storage in self._both:
            storage.delete(key)

    def signed(self, method: Literal["GET", "PUT"], key: str, valid_s: int) -> str | None:
        """Return a signed URL of the upper storage.

        Files of the lower one are read through this server.
        """
        if method == "GET" and self._upper.stat(key) is None:
            return None
        return self._upper.signed(method, key, valid_s)
