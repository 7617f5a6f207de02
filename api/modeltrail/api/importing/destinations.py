"""The destination of an import: a data folder without a server, or a running server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import pyarrow as pa

from modeltrail.api.artifacts.store import Stored, of_model
from modeltrail.api.node import Node
from modeltrail.api.registry.reading import Outcome, outcomes
from modeltrail.api.remote import Server
from modeltrail.eventlog import NewEvent
from modeltrail.schemas import writer_schemas
from modeltrail.schemas.framing import MEDIA_TYPE, frame

if TYPE_CHECKING:
    from modeltrail.api.sql.limits import Params

_TIMEOUT_S = 600.0
_INGEST_BYTES = 16 * 1024 * 1024
_IMPORT_BYTES = 2 * 1024 * 1024


class Destination(Protocol):
    """Appends events, decides requests, stores artifacts, and answers queries.

    A query sees everything that was appended through the destination before.
    """

    def append(self, events: Sequence[NewEvent]) -> None:
        """Append events of the stream ``runs``. They are durable on return."""

    def request(self, events: Sequence[NewEvent]) -> list[Outcome]:
        """Append requests to the registry, and wait for the decisions."""

    def batches(self, statement: str, params: Params) -> Iterator[pa.RecordBatch]:
        """Return the result of a query, in pieces."""

    def store(self, kind: str, id: str, path: str, pieces: Iterator[bytes]) -> Stored:
        """Store an artifact of a ``run`` or a logged ``model``."""


def rows(
    destination: Destination, statement: str, params: Params = ()
) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a query."""
    for batch in destination.batches(statement, params):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


class NodeDestination:
    """A node in this process."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def append(self, events: Sequence[NewEvent]) -> None:
        self._node.append(events)

    def request(self, events: Sequence[NewEvent]) -> list[Outcome]:
        return outcomes(self._node, self._node.append(events)) if events else []

    def batches(self, statement: str, params: Params) -> Iterator[pa.RecordBatch]:
        with self._node.read() as cursor:
            found = cursor.sql(statement, params=params) if params else cursor.sql(statement)
            yield from found.to_arrow_reader(50_000)

    def store(self, kind: str, id: str, path: str, pieces: Iterator[bytes]) -> Stored:
        owner = id if kind == "run" else of_model(id)
        with self._node.artifacts.write(owner, path) as upload:
            for piece in pieces:
                upload.write(piece)
            return upload.finish()


class ServerDestination:
    """A running server."""

    def __init__(self, url: str) -> None:
        """Use the server at a URL. Sends it the schemas of this program first."""
        self._server = Server(url)
        known = set(self._server.ask("GET", "/api/v1/schemas")["fingerprints"])
        for fingerprint, text in writer_schemas().items():
            if fingerprint.hex() not in known:
                self._server.ask("PUT", f"/api/v1/schemas/{fingerprint.hex()}", json.loads(text))

    def append(self, events: Sequence[NewEvent]) -> None:
        for some in _parts(events, _INGEST_BYTES):
            self._send("/api/v1/ingest", some)

    def request(self, events: Sequence[NewEvent]) -> list[Outcome]:
        found: list[Outcome] = []
        for some in _parts(events, _IMPORT_BYTES):
            found += [Outcome(*one) for one in self._send("/api/v1/import", some)["outcomes"]]
        return found

    def _send(self, path: str, events: Sequence[NewEvent]) -> Any:
        body = frame(event.payload for event in events)
        return self._server.ask("POST", path, body, content_type=MEDIA_TYPE)

    def batches(self, statement: str, params: Params) -> Iterator[pa.RecordBatch]:
        asked = {
            "statement": statement,
            "params": params or None,
            "format": "arrow",
            "timeout_s": _TIMEOUT_S,
        }
        with self._server.request("POST", "/api/v1/sql", asked) as answer:
            yield from pa.ipc.open_stream(answer)

    def store(self, kind: str, id: str, path: str, pieces: Iterator[bytes]) -> Stored:
        owners = "runs" if kind == "run" else "logged-models"
        place = f"/api/v1/{owners}/{quote(id, safe='')}/artifacts/"
        answer = self._server.ask(
            "PUT", place + quote(path), pieces, content_type="application/octet-stream"
        )
        return Stored(answer["size_bytes"], answer["sha256"], answer["location"])


def _parts(events: Sequence[NewEvent], bytes_max: int) -> Iterator[Sequence[NewEvent]]:
    """Split events into as many parts as requests are needed."""
    some: list[NewEvent] = []
    size = 0
    for event in events:
        if some and (size + len(event.payload) > bytes_max or len(some) >= 10_000):
            yield some
            some, size = [], 0
        some.append(event)
        size += len(event.payload)
    if some:
        yield some


class DryDestination:
    """Reads from a destination, and discards everything that would be written to it."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination

    def append(self, events: Sequence[NewEvent]) -> None:
        """Do nothing."""

    def request(self, events: Sequence[NewEvent]) -> list[Outcome]:
        """Accept everything."""
        return [Outcome(True, None, None)] * len(events)

    def batches(self, statement: str, params: Params) -> Iterator[pa.RecordBatch]:
        return self._destination.batches(statement, params)

    def store(self, kind: str, id: str, path: str, pieces: Iterator[bytes]) -> Stored:
        """Do nothing."""
        return Stored(0, "", "")
