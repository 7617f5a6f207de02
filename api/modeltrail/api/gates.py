"""Limits on simultaneous work of each kind, and where other requests wait.

One event loop reads and answers requests, and threads do their work. Each kind of work has its own
threads, so that many requests of one kind never delay another kind: see the pools below. Work that
costs much more than a thread, such as hashing a password or a query, passes a ``Gate`` first.
Requests that wait there hold no thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, ParamSpec, TypeVar

import anyio
from anyio.lowlevel import RunVar
from anyio.to_thread import current_default_thread_limiter, run_sync

from modeltrail.api.errors import TooBusy

P = ParamSpec("P")
T = TypeVar("T")


class Pool:
    """Threads for one kind of work. Excess work waits in the event loop."""

    def __init__(self, name: str, threads: int | None) -> None:
        """Allow this many threads; None uses Starlette's default threads."""
        self.name = name
        self.threads = threads
        self._limiter = RunVar[anyio.CapacityLimiter](f"modeltrail-{name}")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in one of the threads."""
        return await run_sync(partial(work, *args, **kwargs), limiter=self._here())

    def _here(self) -> anyio.CapacityLimiter:
        """Return the limiter of this event loop."""
        if self.threads is None:
            return current_default_thread_limiter()
        try:
            return self._limiter.get()
        except LookupError:
            limiter = anyio.CapacityLimiter(self.threads)
            self._limiter.set(limiter)
            return limiter


HEALTH: Final = Pool("health", 4)
"""Health and metrics, which monitoring needs most when everything else is stuck."""
SIGN_IN: Final = Pool("sign-in", 4)
"""Reading users and permissions after a change."""
WRITES: Final = Pool("writes", 40)
"""Ingest, and requests that append. They mostly wait for the log."""
READS: Final = Pool("reads", 24)
"""Lists, searches and histories."""
SQL: Final = Pool("sql", 16)
"""SQL queries."""
FILES: Final = Pool("files", None)
"""Uploads and downloads of artifacts, at the pace of a disk or an object store."""


def pool_of(method: str, path: str) -> Pool:
    """Return the pool for a route, by its method and path."""
    last = path.rpartition("/")[2]
    if path in ("/", "/health", "/metrics"):
        return HEALTH
    if path == "/api/v1/sql":
        return SQL
    if "/artifacts/" in path:
        return FILES
    if method in ("GET", "HEAD") or last.startswith(("search", "get-", "query", "charts")):
        return READS
    return WRITES


class Gate:
    """Lets a few requests in at a time.

    Waiting ones hold no thread, and are refused after a while.
    """

    def __init__(
        self, at_once: int, *, waiting_max: int, wait_s: float, what: str = "requests"
    ) -> None:
        """Make a gate of one application.

        Args:
            at_once: How many may be inside.
            waiting_max: How many may wait; others are refused at once.
            wait_s: Maximum wait, in seconds.
            what: What there is too much of, for the message.
        """
        self._inside = anyio.Semaphore(at_once)
        self._waiting = 0
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self._what = what

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Be inside during the block. Raises ``TooBusy``."""
        await self._acquire()
        try:
            yield
        finally:
            self._inside.release()

    async def _acquire(self) -> None:
        with suppress(anyio.WouldBlock):
            self._inside.acquire_nowait()
            return
        if self._waiting >= self._waiting_max:
            raise self._busy()
        self._waiting += 1
        try:
            with anyio.fail_after(self._wait_s):
                await self._inside.acquire()
        except TimeoutError:
            raise self._busy() from None
        finally:
            self._waiting -= 1

    def _busy(self) -> TooBusy:
        return too_busy(self._what)


def too_busy(what: str) -> TooBusy:
    """Return the error for too many simultaneous requests."""
    return TooBusy(f"too many {what} are under way; try again in a moment")
