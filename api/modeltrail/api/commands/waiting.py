"""`modeltrail serve` while its log is away: wait, and answer from what was folded."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from modeltrail.eventlog.address import without_secrets
from modeltrail.eventlog.base import (
    EventLog,
    LogUnavailable,
)
from modeltrail.eventlog.opening import open_log

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("modeltrail.log")

_PATIENCE_S = 2.0
_TRY_EVERY_S = 1.0
_SAY_EVERY_S = 5.0
BEHIND_HEADER: Final = "X-Modeltrail-Behind"


class Opening:
    """Opens a log in a thread, however long it takes."""

    def __init__(self, url: str) -> None:
        self.url = without_secrets(url)
        self.log: EventLog | None = None
        self.error: Exception | None = None
        """Why it can never be opened, or None if it is open or may still be."""
        self.reason = "it did not answer yet"
        self.done = threading.Event()
        self._given_up = threading.Event()
        self._thread = threading.Thread(
            target=self._open, args=(url,), name="modeltrail-opening", daemon=True
        )
        self._thread.start()

    def _open(self, url: str) -> None:
        said_s = float("-inf")
        log: EventLog | None = None
        while not self._given_up.is_set():
            try:
                log = log or open_log(url)
                log.end()  # contacts the brokers, and checks the topics
            except LogUnavailable as error:
                self.reason = str(error)
                if time.monotonic() - said_s >= _SAY_EVERY_S:
                    said_s = time.monotonic()
                    logger.warning("waiting for the log: %s", error)
                self._given_up.wait(_TRY_EVERY_S)
            except Exception as error:
                self.error = error
                break
            else:
                self.log = log
                break
        self.done.set()

    def give_up(self) -> None:
        """Stop trying. Does not wait for the current attempt."""
        self._given_up.set()

    def wait(self, stopped: threading.Event) -> bool:
        """Wait a moment, in which an available broker answers. Returns whether it is open."""
        until = time.monotonic() + _PATIENCE_S
        while not stopped.is_set() and time.monotonic() < until:
            if self.done.wait(0.05):
                return True
        return False

    def opened(self) -> EventLog:
        """Return the log, or raise why it cannot be opened."""
        if self.error is not None:
            raise self.error
        assert self.log is not None, "it is not open yet"
        return self.log


class AwayLog:
    """A log that cannot be reached yet. Every method raises."""

    shared = True

    def __init__(self, opening: Opening) -> None:
        """Stand in for a log that is being opened."""
        self._opening = opening
        self.url = opening.url

    def _away(self, *_: Any, **__: Any) -> Any:
        raise LogUnavailable(f"{self.url} is not there yet: {self._opening.reason}")

    append = reader = end = add_schemas = schemas = _away

    def close(self) -> None:
        """Do nothing."""


class Behind:
    """Marks every answer as based on what was folded before, and possibly out of date."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                mark = (BEHIND_HEADER.lower().encode(), b"the log is away")
                message["headers"] = [*message.get("headers", []), mark]
            await send(message)

        await self._app(scope, receive, send_marked)


def serve_until(
    opening: Opening,
    config_of: Callable[[ExitStack, AwayLog], uvicorn.Config],
    listener: socket.socket,
    stopped: threading.Event,
) -> None:
    """Serve an application while its log is away, until it is there or the server is to stop.

    Args:
        opening: The log that is being opened.
        config_of: Makes the configuration of the server. Whatever is to be closed goes on the
            stack.
        listener: Where to listen; it stays open.
        stopped: Set by the signals that stop the server.
    """
    import uvicorn

    with ExitStack() as stack:
        server = uvicorn.Server(config_of(stack, AwayLog(opening)))
        ended = threading.Event()

        def watch() -> None:
            while not (opening.done.wait(0.1) or stopped.is_set() or ended.is_set()):
                pass
            server.should_exit = True

        watcher = threading.Thread(target=watch, name="modeltrail-waiting", daemon=True)
        watcher.start()
        try:
            if not stopped.is_set():
                server.run(sockets=[listener.dup()])
        finally:
            ended.set()
            watcher.join()
