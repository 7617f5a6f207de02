"""The targets of events and artifacts: a log, or a server's ingest endpoint.

Only the deliverers' threads use a target. ``LogRefused`` means that a retry with the same bytes
will not help; after any other error it may.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import threading
from contextlib import nullcontext
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

from modeltrail.eventlog import (
    RUNS,
    LogMisconfigured,
    LogRefused,
    LogUnavailable,
    NewEvent,
    open_log,
)
from modeltrail.eventlog.address import absolute_url, kind_of, mistake_in, without_secrets
from modeltrail.eventlog.durable import replacing
from modeltrail.producers.forks import fork_gate
from modeltrail.producers.settings import Settings
from modeltrail.schemas import writer_schemas
from modeltrail.schemas.framing import MEDIA_TYPE, frame

if TYPE_CHECKING:
    import http.client

    from modeltrail.eventlog import EventLog
    from modeltrail.producers.outbox import Frame

_CHUNK_BYTES = 1024 * 1024
_CONNECT_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 30.0
HTTP_BODY_BYTES_MAX = 24 * 1024 * 1024  # the endpoint accepts 32 MiB


class NoArtifactStore(LogMisconfigured):
    """The target takes events only, and no setting says where artifacts go."""


class EventRefused(LogRefused):
    """The server refuses the events because of their content, not because of the caller."""


class Uploaded(NamedTuple):
    """An artifact in its store."""

    size_bytes: int
    sha256: str
    location: str


class Target(Protocol):
    """A destination for events and artifacts. Thread-safe."""

    def append(self, frames: list[Frame]) -> None:
        """Append events in order, and return when they are durable. Raises ``LogError``."""

    def upload(self, owner: str, path: str, file: str) -> Uploaded:
        """Store a file as the artifact at ``path``. Raises ``LogError`` or ``OSError``.

        The owner is the id of a run, or ``models/`` and the id of a logged model.
        """

    def close(self) -> None:
        """Release all resources."""


def open_target(url: str, settings: Settings) -> Target:
    """Return the target that a URL names. Raises ``LogError``; try again later."""
    if kind_of(url) == "server":
        return HttpTarget(url, settings.token)
    return LogTarget(url, settings)


class LogTarget:
    """A log to which this process appends directly."""

    def __init__(self, url: str, settings: Settings) -> None:
        # SQLite hangs in a forked child if its locks were held during the fork.
        self._gate = fork_gate if kind_of(url) == "folder" else nullcontext()
        with self._gate:
            self._log: EventLog = open_log(url)
            try:
                self._log.add_schemas(writer_schemas())
            except BaseException:
                self._log.close()
                raise
        self._store: FolderStore | HttpTarget | None = None
        self._url = url
        self._settings = settings

    def append(self, frames: list[Frame]) -> None:
        events = [NewEvent(RUNS, frame.key, frame.payload) for frame in frames]
        with self._gate:
            self._log.append(events)

    def upload(self, owner: str, path: str, file: str) -> Uploaded:
        if self._store is None:
            self._store = self._open_store()
        return self._store.upload(owner, path, file)

    def _open_store(self) -> FolderStore | HttpTarget:
        if kind_of(self._url) == "folder":
            return FolderStore(os.path.join(self._url, "artifacts"))
        elsewhere = self._settings.artifacts
        if not elsewhere:
            raise NoArtifactStore(
                "artifacts wait in the outbox: this log holds events only. Set "
                "MODELTRAIL_ARTIFACTS to a folder or to a server's URL, then run "
                "'modeltrail sync'."
            )
        if kind_of(elsewhere) == "server":
            return HttpTarget(elsewhere, self._settings.token)
        if "://" in elsewhere and not elsewhere.startswith("file:"):
            raise NoArtifactStore(
                "artifacts wait in the outbox: a training job stores them in a folder, or sends "
                f"them to a server, and MODELTRAIL_ARTIFACTS is {without_secrets(elsewhere)}. Set "
                "it to the URL of a server that keeps them there, then run 'modeltrail sync'."
            )
        wrong = mistake_in(elsewhere)
        if wrong is not None:
            raise NoArtifactStore(f"artifacts wait in the outbox: MODELTRAIL_ARTIFACTS: {wrong}")
        return FolderStore(absolute_url(elsewhere))

    def close(self) -> None:
        with self._gate:
            self._log.close()


class FolderStore:
    """Artifacts in a folder: ``<folder>/<owner>/<path>``."""

    def __init__(self, folder: str) -> None:
        """Use a folder, which is created at the first upload."""
        self._folder = folder

    def upload(self, owner: str, path: str, file: str) -> Uploaded:
        """Write the file beside its destination, fsync and rename it; see ``Target.upload``."""
        final = Path(self._folder, *owner.split("/"), *path.split("/"))
        final.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with open(file, "rb") as source, replacing(final) as copy:
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
                copy.write(chunk)
                size += len(chunk)
        return Uploaded(size, digest.hexdigest(), "file://" + quote(str(final)))


class HttpTarget:
    """The ingest endpoint of a Modeltrail server."""

    def __init__(self, url: str, token: str | None) -> None:
        """Use the server at ``url``. Connects at the first request."""
        parts = urlsplit(url)
        if not parts.hostname:
            raise LogMisconfigured(f"no host in {url!r}; expected as in 'https://server:5000'")
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._connections: dict[int, http.client.HTTPConnection] = {}  # one for each thread

    def append(self, frames: list[Frame]) -> None:
        start, size = 0, 0
        for i, one in enumerate(frames):
            if i > start and size + len(one.payload) > HTTP_BODY_BYTES_MAX:
                self._post(frames[start:i])
                start, size = i, 0
            size += len(one.payload) + 4
        self._post(frames[start:])

    def _post(self, frames: list[Frame]) -> None:
        body = frame(f.payload for f in frames)
        known = writer_schemas()
        for _ in range(len(known) + 1):
            status, answer = self._request(
                "POST",
                "/api/v1/ingest",
                body,
                {"Content-Type": MEDIA_TYPE},
            )
            if status == HTTPStatus.CONFLICT and answer.get("error_code") == "UNKNOWN_SCHEMA":
                fingerprint = str(answer.get("fingerprint", ""))
                text = known.get(_unhex(fingerprint))
                if text is None:
                    break  # written by an older version, and the server never saw it
                self._check(
                    *self._request(
                        "PUT",
                        f"/api/v1/schemas/{fingerprint}",
                        text.encode(),
                        {"Content-Type": "application/json"},
                    )
                )
                continue
            self._check(status, answer)
            return
        raise LogRefused(f"{self._name} does not know the events' schema: {answer}")

    def upload(self, owner: str, path: str, file: str) -> Uploaded:
        kind, slash, name = owner.partition("/")
        kind, name = ("logged-models", name) if slash else ("runs", kind)
        digest = hashlib.sha256()
        size = os.path.getsize(file)
        with open(file, "rb") as source:
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
            source.seek(0)
            status, answer = self._request(
                "PUT",
                f"/api/v1/{kind}/{quote(name, safe='')}/artifacts/{quote(path)}",
                source,
                {"Content-Type": "application/octet-stream", "Content-Length": str(size)},
            )
        self._check(status, answer)
        if answer.get("sha256") != digest.hexdigest():
            raise LogUnavailable(f"{self._name} stored different bytes than {path} has")
        return Uploaded(size, digest.hexdigest(), str(answer.get("location", "")))

    def _connection(self) -> http.client.HTTPConnection:
        import http.client

        connection = self._connections.get(threading.get_ident())
        if connection is not None and select.select([connection.sock], [], [], 0)[0]:
            self._drop_connection()  # the server closed it because it was idle
            connection = None
        if connection is None:
            kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
            connection = kind(self._host, self._port, timeout=_CONNECT_TIMEOUT_S)
            connection.connect()
            connection.sock.settimeout(_ANSWER_TIMEOUT_S)
            self._connections[threading.get_ident()] = connection
        return connection

    def _request(
        self, method: str, path: str, body: bytes | BinaryIO, headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        import http.client

        try:
            connection = self._connection()
            connection.request(method, self._path + path, body, {**headers, **self._headers})
            response = connection.getresponse()
            data = response.read(_CHUNK_BYTES)
            if response.will_close or response.length:
                self._drop_connection()
        except (OSError, http.client.HTTPException) as error:
            # It is unknown whether the events arrived. They are sent again, and the fold drops
            # repeats.
            self._drop_connection()
            raise LogUnavailable(f"{self._name}: {error or type(error).__name__}") from None
        except BaseException:
            self._drop_connection()
            raise
        try:
            answer = json.loads(data)
        except ValueError:
            answer = {}
        return response.status, answer if isinstance(answer, dict) else {}

    def _check(self, status: int, answer: dict[str, Any]) -> None:
        if status in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT):
            return
        said = f"{self._name} answered {status}: {answer.get('message', 'no reason given')}"
        if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
            raise EventRefused(said)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            # The events are not at fault: they wait until the token is corrected.
            raise LogUnavailable(f"{said}. Check MODELTRAIL_TOKEN.")
        raise LogUnavailable(said)

    def _drop_connection(self) -> None:
        connection = self._connections.pop(threading.get_ident(), None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close all connections. The deliverers have stopped by then."""
        while self._connections:
            self._connections.popitem()[1].close()


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
