"""Limits for connections: how many there may be, and how long a client may leave one idle.

Uvicorn itself only closes connections that are idle after an answer. Here every connection is
checked regularly, and closed if its request does not arrive, head or body, or if its answer is not
read. Clients that hang, by accident or on purpose, therefore hold nothing for long.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

logger = logging.getLogger("modeltrail.api")

GRACE_S: Final = 30.0
"""How long a request may take to arrive, plus a second for each ``BYTES_A_SECOND_MIN`` of it."""
BYTES_A_SECOND_MIN: Final = 1_000
UNREAD_S: Final = 60.0
"""How long a client may leave its answer unread."""
CONNECTIONS_MAX: Final = 4_096
ENDLESS_PATH: Final = "/api/v1/live"
_LOOK_EVERY_S = 5.0
_OTHER_FILES = 256
"""File descriptors reserved for everything except connections."""


def allow_connections() -> int:
    """Raise the limit of open files as far as needed. Returns how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(16, min(CONNECTIONS_MAX, soft - _OTHER_FILES))


class Connection(HttpToolsProtocol):
    """An HTTP connection."""

    grace_s = GRACE_S
    unread_s = UNREAD_S
    look_every_s = _LOOK_EVERY_S
    connections_max = CONNECTIONS_MAX

    _look: asyncio.TimerHandle | None = None
    _arriving = True
    _received = 0
    _waited_s = 0.0
    _unsent = 0
    _unread_for_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
            return
        self._look = self.loop.call_later(self.look_every_s, self._look_at_it)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Called when a request begins to arrive."""
        self._arriving, self._received, self._waited_s = True, 0, 0.0
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Called when a request has arrived."""
        self._arriving, self._waited_s = False, 0.0
        super().on_message_complete()

    def shutdown(self) -> None:
        """Called when the server begins to stop. Live streams have no end of their own."""
        super().shutdown()
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and self.scope["path"] == ENDLESS_PATH:
            self.transport.close()

    def _look_at_it(self) -> None:
        if self.transport.is_closing():
            return
        self._look = self.loop.call_later(self.look_every_s, self._look_at_it)
        unsent = self.transport.get_write_buffer_size()
        self._unread_for_s = (
            self._unread_for_s + self.look_every_s if unsent and unsent == self._unsent else 0.0
        )
        self._unsent = unsent
        if self._waits():
            self._waited_s += self.look_every_s
        if self._unread_for_s >= self.unread_s:
            self._say(f"left its answer unread for {self.unread_s:g} s")
            self.transport.abort()
        elif self._waited_s >= self.grace_s + self._received / BYTES_A_SECOND_MIN:
            self._say(f"sent {self._received:,} bytes of a request, and then too little")
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")

    def _waits(self) -> bool:
        """Return whether the server is waiting for the client, except after a complete answer."""
        if self._arriving:
            return not self.flow.read_paused
        resting = self.cycle is None or self.cycle.response_complete
        return resting and self.timeout_keep_alive_task is None

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Send an error if nothing was answered yet, and close the connection."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            codes = {503: "TEMPORARILY_UNAVAILABLE", 408: "REQUEST_TIMEOUT"}
            body = json.dumps({"error_code": codes[status], "message": message}).encode()
            self.transport.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
        self.transport.close()

    def _say(self, what: str) -> None:
        address: Any = self.client[0] if self.client else "a client"
        logger.info("closed a connection of %s, which %s", address, what)
