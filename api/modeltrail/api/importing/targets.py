"""The target of an import: a data folder without a server, or a running server."""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import pyarrow as pa

from modeltrail.api.artifacts.store import Stored, of_model
from modeltrail.api.errors import ApiError, Unavailable
from modeltrail.api.node import Node
from modeltrail.api.registry.reading import Outcome, outcomes
from modeltrail.eventlog import NewEvent
from modeltrail.schemas import writer_schemas
from modeltrail.schemas.framing import MEDIA_TYPE, frame

if TYPE_CHECKING:
    from modeltrail.api.sql.limits import Params

_TIMEOUT_S = 600.0
_INGEST_BYTES = 16 * 1024 * 1024
_IMPORT_BYTES = 2 * 1024 * 1024


class TargetError(ApiError):
    """The target refuses, or cannot be reached."""


class Target(Protocol):
    """Appends events, decides requests, stores artifacts, and answers queries.

    A query sees everything that was appended through the target before.
    """

    def append(self, events: Sequence[NewEvent]) -> None:
        """Append events of the stream ``runs``. They are durable on return."""
        ...

    def request(self, events: Sequence[NewEvent]) -> list[Outcome]:
        """Append requests to the registry, and wait for the decisions."""
        ...

    def batches(self, statement: str, params: Params) -> Iterator[pa.RecordBatch]:
        """Return the result of a query, in pieces."""
        ...

    def store(self, kind: str, id: str, path: str, pieces: Iterator[bytes]) -> Stored:
        """Store an artifact of a ``run`` or a logged ``model``."""
        ...


def rows(target: Target, statement: str, params: Params = ()) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a query."""
    for batch in target.batches(statement, params):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


class NodeTarget:
    """A node in this process."""

    def __init__(self, node: Node) -> None:
        """Use a started node."""
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


class ServerTarget:
    """A running server."""

    def __init__(self, url: str) -> None:
        """Use the server at a URL. Sends it the schemas of this program first."""
        self._url = url
        known = set(self._json("GET", "/api/v1/schemas")["fingerprints"])
        for fingerprint, text in writer_schemas().items():
            if fingerprint.hex() not in known:
                self._json("PUT", f"/api/v1/schemas/{fingerprint.hex()}", text.encode())

    def _open(self, method: str, path: str, body: Any = None, **headers: str) -> IO[bytes]:
        request = urllib.request.Request(self._url + path, data=body, method=method)
        request.add_header("User-Agent", "modeltrail-import")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        token = os.environ.get("MODELTRAIL_TOKEN")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            answer: IO[bytes] = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
            return answer
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode("utf-8", "replace")
            try:
                message = str(json.loads(text)["message"])
            except (ValueError, KeyError, TypeError):
                message = f"{error.code} {error.reason}"
            raise TargetError(f"{self._url}: {message}") from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise Unavailable(f"no answer from {self._url}: {reason}") from None

    def _json(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        with self._open(method, path, body, **headers) as answer:
            return json.load(answer)

    def append(self, events: Sequence[NewEvent]) -> None:
        for some in _parts(events, _INGEST_BYTES):
            self._json("POST", "/api/v1/ingest", frame(e.payload for e in some), **_EVENTS)

    def request(self, events: Sequence[NewEvent]) -> list[Outcome]:
        found: list[Outcome] = []
        for some in _parts(events, _IMPORT_BYTES):
            answer = self._json("POST", "/api/v1/import", frame(e.payload for e in some), **_EVENTS)
            found += [Outcome(*outcome) for outcome in answer["outcomes"]]
        return found

    def batches(self, statement: str, params: Params) -> Iterator[pa.RecordBatch]:
        asked = {
            "statement": statement,
            "params": params or None,
            "format": "arrow",
            "timeout_s": _TIMEOUT_S,
        }
        body = json.dumps(asked).encode()
        with self._open("POST", "/api/v1/sql", body, Content_Type="application/json") as answer:
            yield from pa.ipc.open_stream(answer)

    def store(self, kind: str, id: str, path: str, pieces: Iterator[bytes]) -> Stored:
        digest, size = hashlib.sha256(), 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                yield piece

        owners = "runs" if kind == "run" else "logged-models"
        place = f"/api/v1/{owners}/{quote(id, safe='')}/artifacts/"
        answer = self._json(
            "PUT", place + quote(path), counted(), Content_Type="application/octet-stream"
        )
        return Stored(size, digest.hexdigest(), answer["location"])


_EVENTS = {"Content_Type": MEDIA_TYPE}


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


class DryTarget:
    """Reads from a target, and discards everything that would be written to it."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def append(self, events: Sequence[NewEvent]) -> None:
        """Do nothing."""

    def request(self, events: Sequence[NewEvent]) -> list[Outcome]:
        """Accept everything."""
        return [Outcome(True, None, None)] * len(events)

    def batches(self, statement: str, params: Params) -> Iterator[pa.RecordBatch]:
        return self._target.batches(statement, params)

    def store(self, kind: str, id: str, path: str, pieces: Iterator[bytes]) -> Stored:
        """Do nothing."""
        return Stored(0, "", "")
