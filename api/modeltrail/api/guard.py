"""Middleware for every request: host and origin, limits, headers, counters, and no tracebacks."""

from __future__ import annotations

import ipaddress
import json
import logging
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modeltrail.api.errors import ApiError, Forbidden, TooLarge

if TYPE_CHECKING:
    from prometheus_client.core import Metric

logger = logging.getLogger("modeltrail.api")

JSON_BYTES_MAX = 4 * 1024 * 1024
INGEST_BYTES_MAX = 32 * 1024 * 1024
BODIES_BYTES_MAX = 512 * 1024 * 1024
"""Maximum size of all bodies together that are being read or answered."""
INGEST_PATH = "/api/v1/ingest"
_LARGE_PATHS = ("/mlflow/runs/log-inputs", "/mlflow/upload-artifact")
CLIENT_GONE = 499
"""The status under which requests are counted if the client did not wait for the answer."""
_PARTS_PATH = "/mlflow-artifacts/mpu/"
_HEAD_AS_GET = ("/", "/health", "/metrics")
_NATIVE = "/api/v1/"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_POLICY = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; style-src 'unsafe-inline'"


class Counters:
    """Requests by route and status, and their durations."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(_BUCKETS_S) + 1))
        self._seconds: dict[str, float] = defaultdict(float)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        bucket = next((i for i, s in enumerate(_BUCKETS_S) if seconds <= s), len(_BUCKETS_S))
        with self._lock:
            self._requests[method, route, status] += 1
            self._buckets[route][bucket] += 1
            self._seconds[route] += seconds

    def families(self) -> Iterator[Metric]:
        """Return the answers as a counter and their durations as a histogram, for Prometheus."""
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        with self._lock:
            requests = sorted(self._requests.items())
            buckets = sorted((route, list(counts)) for route, counts in self._buckets.items())
            seconds = dict(self._seconds)
        answers = CounterMetricFamily(
            "modeltrail_http_requests",
            "Answers, by route and status.",
            labels=("method", "route", "status"),
        )
        for (method, route, status), n in requests:
            answers.add_metric((method, route, str(status)), n)
        yield answers
        times = HistogramMetricFamily(
            "modeltrail_http_request_duration_seconds",
            "Time to the last byte of an answer.",
            labels=("route",),
        )
        limits = (*map(str, _BUCKETS_S), "+Inf")
        for route, counts in buckets:
            cumulated = list(zip(limits, accumulate(counts), strict=True))
            times.add_metric((route,), cumulated, seconds[route])
        yield times


def host_name(text: str) -> str:
    """Return the name in a Host header, without the port and in lower case."""
    try:
        return (urlsplit(f"//{text}").hostname or "").rstrip(".")
    except ValueError:
        return ""


class Hosts:
    """The host names that this server answers to.

    A page of another site can make its name resolve to this machine, and then talk to the server as
    if it were its own ("DNS rebinding"). It cannot forge the Host header, and it cannot rebind an
    address.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Allow loopback, all addresses, and these names; ``*`` allows all names."""
        self._names = {"localhost", *(name.lower() for name in names)}

    def allow(self, host: str) -> bool:
        """Return whether a Host header is allowed."""
        name = host_name(host)
        if "*" in self._names or name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _is_of_page(scope: Scope) -> bool | None:
    """Return whether a browser sent the request from a page of this server; None if unknown."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    origin = headers.get(b"origin")
    if origin is not None:
        host = headers.get(b"host", b"").decode("latin-1")
        try:
            return urlsplit(origin.decode("latin-1")).netloc.lower() == host.lower()
        except ValueError:
            return False
    if b"sec-fetch-site" not in headers:
        return None
    return headers[b"sec-fetch-site"] == b"same-origin"


def check_same_origin(scope: Scope) -> None:
    """Check that a request that changes something comes from a page of this server.

    A browser adds a cookie to requests that any page makes; it says in a header which page it was.

    Raises:
        Forbidden: it comes from elsewhere, or does not say.
    """
    if scope["method"] not in _READING and not _is_of_page(scope):
        raise Forbidden(
            "with a session's cookie, only a page of this server may write: the request needs its "
            "Origin; scripts use a token",
            code="ORIGIN_NOT_ALLOWED",
        )


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Hosts,
        counters: Counters,
        artifact_bytes_max: Callable[[], int],
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._counters = counters
        self._artifact_bytes_max = artifact_bytes_max
        self._room = _Room(BODIES_BYTES_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        path: str = scope["path"]
        method: str = scope["method"]

        if method == "HEAD" and (path in _HEAD_AS_GET or path.startswith(_NATIVE)):
            # FastAPI's routes do not accept HEAD; all other routes do.
            scope = {**scope, "method": "GET"}
            scope["state"]["head"] = True

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if method == "HEAD" and message["type"] == "http.response.body":
                message["body"] = b""
            if message["type"] == "http.response.start":
                status = message["status"]
                own = message.get("headers", [])
                if all(name.lower() != b"content-security-policy" for name, _ in own):
                    own = [*own, (b"content-security-policy", _POLICY)]
                request_header = (b"x-request-id", request_id.encode())
                message["headers"] = [*own, *_HEADERS, request_header]
            await send(message)

        body: _Body | None = None
        try:
            self._check(scope)
            limit = self._limit(scope)
            self._check_length(scope, limit)
            body = _Body(receive, limit, None if _is_upload(scope) else self._room)
            await self._app(scope, body, send_guarded)
        except ApiError as error:
            await _answer(send_guarded, error.status, error.body())
        except ClientDisconnect:
            status = CLIENT_GONE
            logger.info("request %s: %s %s: the client went away", request_id, method, path)
        except Exception:
            # The path without its query, which may contain private data.
            logger.exception("request %s: %s %s failed", request_id, method, path)
            if status:
                raise  # half an answer is sent: only breaking the connection can tell the client
            await _answer(
                send_guarded,
                500,
                {
                    "error_code": "INTERNAL_ERROR",
                    "message": "the server made a mistake; its log says more under this id",
                    "request_id": request_id,
                },
            )
        finally:
            if body is not None:
                body.forget()
            route = getattr(scope.get("route"), "path", "other")
            self._counters.count(method, route, status, time.monotonic() - began)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._hosts.allow(host):
            raise Forbidden(
                f"this server does not answer to the name {host_name(host)!r}; "
                "start it with --allow-host NAME if that is its name",
                code="HOST_NOT_ALLOWED",
            )
        if scope["method"] not in _READING and _is_of_page(scope) is False:
            raise Forbidden(
                "a web page of another origin must not write here", code="ORIGIN_NOT_ALLOWED"
            )

    def _limit(self, scope: Scope) -> int:
        path: str = scope["path"]
        if path == INGEST_PATH:
            return INGEST_BYTES_MAX
        if _is_upload(scope):
            return self._artifact_bytes_max()
        if path.endswith(_LARGE_PATHS) or _PARTS_PATH in path:
            # MLflow allows 16 MB for a dataset's profile alone, and 10 MB for a file of its page. A
            # large upload also lists its parts.
            return INGEST_BYTES_MAX
        return JSON_BYTES_MAX

    def _check_length(self, scope: Scope, limit: int) -> None:
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)


def _is_upload(scope: Scope) -> bool:
    """Return whether the body is streamed to the artifacts, and never whole in memory."""
    path: str = scope["path"]
    return scope["method"] == "PUT" and ("/artifacts/" in path or _PARTS_PATH in path)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body may have {limit:,} bytes at most here")


class _Room:
    """Memory for the bodies of all requests together, in bytes."""

    def __init__(self, size: int) -> None:
        self.left = size


class _Body:
    """The body of a request, limited in size and by the available memory."""

    def __init__(self, receive: Receive, limit: int, room: _Room | None) -> None:
        self._receive = receive
        self._limit = limit
        self._room = room
        self._taken = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        size = len(message.get("body", b""))
        # FastAPI passes this class on. It would turn any other into a "bad request".
        if self._taken + size > self._limit:
            raise HTTPException(413, _too_large(self._limit).message)
        if self._room is not None:
            if size > self._room.left:
                raise HTTPException(
                    429,
                    "the server has no memory left for more bodies; try again in a moment",
                )
            self._room.left -= size
        self._taken += size
        return message

    def forget(self) -> None:
        """Release the memory."""
        if self._room is not None:
            self._room.left += self._taken


async def _answer(send: Send, status: int, body: dict[str, object]) -> None:
    data = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    if status in (413, 403):
        headers.append((b"connection", b"close"))  # the body was not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
