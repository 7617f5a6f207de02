"""Deliver the registry's accepted requests from the log to webhooks, at least once.

The position in the log and the pending deliveries are stored in a file, so that what was missed
while no server delivered, or what an endpoint did not accept, is delivered later. Deliveries of one
webhook are made one after the other, in log order; webhooks do not wait for each other. The id of a
delivery is derived from webhook and event, so that a receiver can recognize a repeat.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import duckdb

from modeltrail.consumers.fold import Fold
from modeltrail.consumers.webhooks import events
from modeltrail.consumers.webhooks.http import (
    Answer,
    NoAnswer,
    Sender,
    UrlRefused,
    headers_of,
)
from modeltrail.consumers.webhooks.secrets import Secrets, SecretUnreadable, WebhookKeyError
from modeltrail.consumers.webhooks.state import PENDING_MAX, Delivery, New, State
from modeltrail.eventlog import REGISTRY_PARTITION, EventLog
from modeltrail.schemas import now_ms

logger = logging.getLogger("modeltrail.webhooks")

TRIES = 15
"""Attempts before a delivery is a dead letter: about an hour, with the pauses below."""
BACKOFF_S = 1.0
"""Pause after the first failed attempt; it doubles with each."""
BACKOFF_MAX_S = 600.0

_ANSWER_BYTES_MAX = 64 * 1024
_ERROR_CHARACTERS_MAX = 500
_REQUESTS_A_PAGE = 500
_PAUSE_S = 5.0
_REST_S = 1.0
_GATHER_S = 0.05
_STOP_S = 5.0


class Definition(NamedTuple):
    """The current definition of a webhook."""

    webhook_id: str
    name: str
    url: str
    status: str
    secret: str | None
    """Encrypted."""


class Outcome(NamedTuple):
    """The result of a test."""

    success: bool
    status: int | None
    body: str | None
    error: str | None


class DelivererStatus(NamedTuple):
    """The state of the delivery."""

    position: int
    """The next offset of the registry to process."""
    lag: int
    """Number of registry events not processed yet."""
    pending: int
    dead: int
    replays: int
    """Number of unfinished replays."""
    error: str | None
    """Why delivery is stopped, or None."""


def definition(cursor: duckdb.DuckDBPyConnection, webhook_id: str) -> Definition | None:
    """Return the definition of an existing webhook."""
    row = cursor.execute(
        "SELECT w.webhook_id, w.name, s.url, w.status, s.secret FROM fold.webhooks w "
        "JOIN fold.webhook_secrets s ON s.webhook_id = w.webhook_id "
        "WHERE w.webhook_id = ? AND NOT w.deleted",
        [webhook_id],
    ).fetchone()
    return None if row is None else Definition(*row)


class Webhooks:
    """What a server needs for webhooks: the key, the sender and, if it delivers, the deliverer."""

    def __init__(self, secrets: Secrets, sender: Sender) -> None:
        """Make it without a deliverer; set ``deliverer`` to deliver."""
        self.secrets = secrets
        self.sender = sender
        self.deliverer: Deliverer | None = None

    def test(self, webhook: Definition, event: str) -> Outcome:
        """Post an example of an event now, once."""
        body = events.body_of(event, datetime.now(UTC), events.EXAMPLES[event])
        try:
            answer = send(self, webhook, str(uuid4()), body)
        except (NoAnswer, UrlRefused, SecretUnreadable, WebhookKeyError) as error:
            return Outcome(False, None, None, f"Failed to test webhook: {error}")
        return Outcome(answer.status < 400, answer.status, answer.body, None)


def send(tools: Webhooks, webhook: Definition, delivery_id: str, body: bytes) -> Answer:
    """Sign and post once.

    Raises:
        SecretUnreadable: this server cannot decrypt the secret.
        WebhookKeyError: this server's key cannot be used.
        UrlRefused: this server does not send to that URL.
        NoAnswer: the endpoint did not answer.
    """
    secret = tools.secrets.decrypt(webhook.secret) if webhook.secret else None
    headers = headers_of(delivery_id, body, secret)
    return tools.sender.post(webhook.url, body, headers, _ANSWER_BYTES_MAX)


class Deliverer:
    """A thread that reads the registry and sends, with a thread for each webhook.

    On a log that was never delivered from, it starts at the end: what happened before any server
    delivered is no news.
    """

    def __init__(
        self,
        log: EventLog,
        fold: Fold,
        folder: Path,
        tools: Webhooks,
        *,
        tries: int = TRIES,
        backoff_s: float = BACKOFF_S,
        workers: int = 16,
    ) -> None:
        """Make a deliverer; call ``start`` to start it.

        Args:
            log: The log that is folded.
            fold: The fold that decides; its owner starts and stops it.
            folder: The folder for the position and the deliveries.
            tools: The key and the sender.
            tries: Attempts before a delivery is a dead letter.
            backoff_s: Pause after the first failed attempt, in seconds.
            workers: Maximum number of simultaneous requests.
        """
        self._log = log
        self._fold = fold
        self._state = State(folder)
        self._tools = tools
        self._tries = tries
        self._backoff_s = backoff_s
        self._workers = workers
        self._due = threading.Event()
        self._stopping = False
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Thread] = {}  # by webhook
        self._position = 0
        self._error: str | None = None
        self._thread = threading.Thread(target=self._run, name="modeltrail-webhooks", daemon=True)

    def start(self) -> None:
        """Start the thread. The fold must be running.

        Raises:
            LogError: the end of the log, where the first start begins, cannot be read.
        """
        found = self._state.position()
        end = self._log.end().get(REGISTRY_PARTITION, 0)
        if found is None:
            self._position = end
            self._state.move(end, "", [], now_ms())
        elif found[0] > end:
            self._begin_again(
                f"the registry ends at offset {end}, but was delivered up to {found[0]}: it was "
                "cut, or this is another log"
            )
        else:
            self._position = found[0]
        self._fold.listen(self._folded)
        self._thread.start()

    def _begin_again(self, why: str) -> None:
        """Start over on another log: the stored offsets belong to the old one."""
        counts = self._state.counts().values()
        left = sum(n for states in counts for state, n in states.items() if state != "delivered")
        logger.error(
            "webhooks: %s. Delivery starts at its end; %d pending or dead deliveries are "
            "forgotten.",
            why,
            left,
        )
        self._position = self._log.end().get(REGISTRY_PARTITION, 0)
        self._state.begin_again(self._position)

    def stop(self) -> None:
        """Stop. Deliveries in progress are aborted and sent again later."""
        self._stopping = True
        self._due.set()
        self._tools.sender.abort()
        if self._thread.is_alive():
            self._thread.join()
        deadline = time.monotonic() + _STOP_S
        with self._lock:
            busy = list(self._busy.values())
        for thread in busy:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._state.close()

    def _folded(self) -> None:
        if self._folded_to() > self._position:
            self._due.set()

    def _folded_to(self) -> int:
        return self._fold.positions().get(REGISTRY_PARTITION, 0)

    # The thread

    def _run(self) -> None:
        checked = False
        while not self._stopping:
            self._due.clear()
            pause_s = _PAUSE_S
            try:
                # Pending deliveries are read from the fold, which may be a rebuilt one.
                if self._folded_to() >= self._position:
                    checked = checked or self._check_log()
                    while self._collect() and not self._stopping:
                        self._dispatch()
                    pause_s = self._dispatch()
                self._error = None
            except Exception as error:
                # A full disk, a log out of reach, or a bug: report it, and keep trying.
                text = f"{type(error).__name__}: {error}"
                if text != self._error and not self._stopping:
                    logger.error("webhook delivery is interrupted, and will continue: %s", text)
                self._error = text
            self._due.wait(pause_s)
            if not self._stopping:
                # Process requests that arrive in quick succession together; the threads that decide
                # them need the processor more.
                time.sleep(_GATHER_S)

    def _check_log(self) -> bool:
        """Return whether this is the log that was delivered from. If not, start at its end."""
        found = self._state.position()
        hash = self._hash(self._position)
        if found is not None and found[1] and found[1] != hash:
            self._begin_again(
                f"offset {self._position - 1} of the registry is not what it was: this is another "
                "log"
            )
        return True

    def _hash(self, next_offset: int) -> str:
        """Return the hash of the chain before an offset, in hexadecimal."""
        with closing(self._fold.cursor()) as cursor:
            row = cursor.execute(
                'SELECT hex(hash) FROM fold.requests WHERE "offset" = ?', [next_offset - 1]
            ).fetchone()
        return row[0].lower() if row else ""

    def _collect(self) -> bool:
        """Process one page of new or replayed requests. Returns whether there was one."""
        until = self._folded_to()
        if self._position < until:
            new, next_offset = self._wanted(self._position, until, None)
            self._state.move(next_offset, self._hash(next_offset), new, now_ms())
            self._position = next_offset
            return True
        for replay in self._state.replays():
            # Replays wait for room. New deliveries do not; without room they become dead letters.
            if self._state.pending_max() > PENDING_MAX // 2:
                return False
            new, next_offset = self._wanted(replay.next_offset, replay.to_offset, replay.webhook_id)
            self._state.move_replay(replay, next_offset, new, now_ms())
            return True
        return False

    def _wanted(self, first: int, until: int, webhook_id: str | None) -> tuple[list[New], int]:
        with closing(self._fold.cursor()) as cursor:
            page = events.fired(cursor, first, until, _REQUESTS_A_PAGE)
            new = [
                New(event.delivery_id(one), one, event.offset, event.n, event.event)
                for event, wanting in events.subscribers(cursor, page.fired)
                for one in wanting
                if webhook_id is None or one == webhook_id
            ]
        return new, page.next_offset

    def _dispatch(self) -> float:
        """Start due deliveries. Returns the seconds until the next one is due."""
        with self._lock:
            busy = set(self._busy)
        # Read this last: what an idle webhook has done is then stored.
        heads = [head for head in self._state.heads() if head.webhook_id not in busy]
        if not heads:
            return _PAUSE_S
        statuses = self._statuses()
        gone = {head.webhook_id for head in heads} - statuses.keys()
        if gone:
            self._state.cancel(gone)
        at_ms = now_ms()
        pause_s = _PAUSE_S
        for head in sorted(heads, key=lambda head: head.next_try_ms):
            if statuses.get(head.webhook_id) != "ACTIVE":
                continue  # deliveries of a disabled webhook wait until it is active again
            if head.next_try_ms > at_ms:
                pause_s = min(pause_s, (head.next_try_ms - at_ms) / 1000)
                continue
            with self._lock:
                if len(self._busy) >= self._workers:
                    break  # the next worker to finish continues here
                self._busy[head.webhook_id] = thread = threading.Thread(
                    target=self._work, args=[head], name="modeltrail-webhook", daemon=True
                )
            thread.start()
        return pause_s

    def _statuses(self) -> dict[str, str]:
        with closing(self._fold.cursor()) as cursor:
            return dict(
                cursor.execute(
                    "SELECT webhook_id, status FROM fold.webhooks WHERE NOT deleted"
                ).fetchall()
            )

    # One delivery, in its own thread

    def _work(self, first: Delivery) -> None:
        """Deliver for one webhook until nothing is left or a delivery has to wait."""
        delivery: Delivery | None = first
        try:
            while delivery is not None and not self._stopping and self._deliver(delivery):
                delivery = self._state.head(first.webhook_id)
        except Exception as error:
            if not self._stopping:
                logger.error("webhook %s will be tried again: %s", first.webhook_id, error)
                time.sleep(_REST_S)  # the webhook counts as busy during this time
        finally:
            with self._lock:
                del self._busy[first.webhook_id]
            self._due.set()

    def _deliver(self, delivery: Delivery) -> bool:
        """Try a delivery once. Returns True if it is finished, so that the next one may follow."""
        if delivery.next_try_ms > now_ms():
            return False
        with closing(self._fold.cursor()) as cursor:
            webhook = definition(cursor, delivery.webhook_id)
            page = events.fired(cursor, delivery.log_offset, delivery.log_offset + 1, 1)
        if webhook is None or webhook.status != "ACTIVE":
            return False  # it changed a moment ago; the next round handles it
        event = next((event for event in page.fired if event.n == delivery.n), None)
        if event is None:
            return self._fail(delivery, webhook, "the log has no such event any more", None, None)
        try:
            answer = send(self._tools, webhook, delivery.delivery_id, event.body())
        except (UrlRefused, SecretUnreadable) as error:
            return self._fail(delivery, webhook, str(error), None, None)
        except (NoAnswer, WebhookKeyError) as error:
            if self._stopping:
                return False
            return self._fail(delivery, webhook, str(error), None, self._pause_s(delivery))
        if not 200 <= answer.status < 300:
            pause_s = self._wait(delivery, answer)
            return self._fail(delivery, webhook, _error_of(answer), answer.status, pause_s)
        self._state.delivered(delivery, answer.status, now_ms())
        return True

    def _wait(self, delivery: Delivery, answer: Answer) -> float | None:
        """Return the pause after an unsuccessful answer, or None if a retry does not help."""
        if answer.status != 429 and answer.status < 500:
            return None
        pause_s = self._pause_s(delivery)
        if pause_s is not None and answer.retry_after_s is not None:
            return min(max(pause_s, answer.retry_after_s), BACKOFF_MAX_S)
        return pause_s

    def _pause_s(self, delivery: Delivery) -> float | None:
        """Return the pause after another failed attempt, or None if it was the last."""
        if delivery.tries + 1 >= self._tries:
            return None
        pause_s = min(self._backoff_s * 2.0**delivery.tries, BACKOFF_MAX_S)
        return pause_s * random.uniform(0.8, 1.2)

    def _fail(
        self,
        delivery: Delivery,
        webhook: Definition,
        error: str,
        status: int | None,
        pause_s: float | None,
    ) -> bool:
        """Record a failed attempt. Returns True if no retry is left (``pause_s`` is None)."""
        at_ms = now_ms()
        next_try_ms = None if pause_s is None else at_ms + int(pause_s * 1000)
        error = error[:_ERROR_CHARACTERS_MAX]
        self._state.failed(delivery, error, status, next_try_ms, at_ms)
        if next_try_ms is None:
            # Not the whole URL: for some endpoints the path is the password.
            logger.warning(
                "dead letter: %s (%s at %s:%d) for webhook %r at %s after %d tries: %s",
                delivery.delivery_id,
                delivery.event,
                REGISTRY_PARTITION,
                delivery.log_offset,
                webhook.name,
                urlsplit(webhook.url).hostname,
                delivery.tries + 1,
                error,
            )
        return next_try_ms is None

    # Status and control

    def status(self) -> DelivererStatus:
        """Return the state of the delivery."""
        counts = self._state.counts().values()
        return DelivererStatus(
            position=self._position,
            lag=max(0, self._folded_to() - self._position),
            pending=sum(states.get("pending", 0) for states in counts),
            dead=sum(states.get("dead", 0) for states in counts),
            replays=len(self._state.replays()),
            error=self._error,
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many deliveries each webhook has in each state."""
        return self._state.counts()

    def deliveries(
        self, webhook_id: str | None, state: str | None, before: int | None, limit: int
    ) -> list[dict[str, Any]]:
        """Return deliveries, newest first: pending, dead, and the latest completed ones."""
        return [d._asdict() for d in self._state.deliveries(webhook_id, state, before, limit)]

    def retry(self, webhook_id: str | None = None, delivery_id: str | None = None) -> int:
        """Queue dead letters for another attempt. Returns how many."""
        found = self._state.retry(webhook_id, delivery_id, now_ms())
        self._due.set()
        return found

    def replay(self, first: int, webhook_id: str | None = None) -> tuple[int, int]:
        """Queue everything from an offset up to the current position for another delivery.

        Each webhook gets the events that it was subscribed to while it was active.

        Returns:
            The replay's id, and the offset after its last request.
        """
        until = self._position
        id = self._state.add_replay(webhook_id, first, until)
        self._due.set()
        return id, until


def _error_of(answer: Answer) -> str:
    text = " ".join(answer.body.split())
    kind = "a redirect, which is not followed" if 300 <= answer.status < 400 else "an error"
    return f"the endpoint answered {answer.status}, {kind}" + (f": {text}" if text else "")
