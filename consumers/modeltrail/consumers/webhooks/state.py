"""The stored state of webhook delivery: position, pending deliveries and dead letters.

It is one small SQLite file, ``webhooks.sqlite`` in the data folder. A delivery is a row that refers
to a webhook and an event; what to send is read from the fold at each attempt. Rows and the position
change in one transaction, so a crash may repeat a delivery but never lose one.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

STATE_FILE = "webhooks.sqlite"
PENDING_MAX = 10_000
"""Maximum number of pending deliveries of a webhook. Further ones become dead letters at once."""
KEPT_MAX = 10_000
"""Maximum number of completed deliveries to keep for display."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id TEXT NOT NULL UNIQUE,
    webhook_id TEXT NOT NULL,
    log_offset INTEGER NOT NULL,
    n INTEGER NOT NULL,
    event TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
    tries INTEGER NOT NULL DEFAULT 0,
    next_try_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    status INTEGER,
    error TEXT
);
CREATE INDEX IF NOT EXISTS pending ON deliveries (webhook_id, seq) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS by_state ON deliveries (state, seq);
CREATE TABLE IF NOT EXISTS replays (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook_id TEXT,
    next_offset INTEGER NOT NULL,
    to_offset INTEGER NOT NULL
);
PRAGMA user_version = 1;
"""
_QUEUE_FULL = f"{PENDING_MAX:,} deliveries wait for this webhook already"
_COLUMNS = (
    "seq, delivery_id, webhook_id, log_offset, n, event, state, tries, next_try_ms, updated_ms, "
    "status, error"
)


class Delivery(NamedTuple):
    """An event to deliver to a webhook."""

    seq: int
    """Order of the deliveries of one webhook."""
    delivery_id: str
    webhook_id: str
    log_offset: int
    n: int
    """Number of the event among those that the request at the offset caused."""
    event: str
    state: str
    """pending, delivered or dead."""
    tries: int
    next_try_ms: int
    updated_ms: int
    status: int | None
    """HTTP status of the last answer."""
    error: str | None
    """What failed in the last attempt."""


class New(NamedTuple):
    """A new delivery."""

    delivery_id: str
    webhook_id: str
    log_offset: int
    n: int
    event: str


class Replay(NamedTuple):
    """A range of the registry to deliver again."""

    id: int
    webhook_id: str | None
    """None for all webhooks."""
    next_offset: int
    to_offset: int
    """The offset after the last one."""


class State:
    """The state file. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Open or create the file.

        Raises:
            sqlite3.Error: it cannot be used.
        """
        self._lock = threading.Lock()
        self._con = sqlite3.connect(
            folder / STATE_FILE, isolation_level=None, check_same_thread=False
        )
        self._con.execute("PRAGMA journal_mode = WAL")
        # A power cut can lose the last transactions, as a whole. They are repeated, because the
        # position is lost with them.
        self._con.execute("PRAGMA synchronous = NORMAL")
        self._con.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._con.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._con.execute("BEGIN IMMEDIATE")
            try:
                yield self._con
            except BaseException:
                self._con.execute("ROLLBACK")
                raise
            self._con.execute("COMMIT")

    def _rows(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._con.execute(query, params).fetchall()

    # Positions

    def position(self) -> tuple[int, str] | None:
        """Return the next offset to read and the hash of the chain before it, or None at first."""
        found = dict(self._rows("SELECT key, value FROM meta"))
        return (int(found["next_offset"]), found["hash"]) if found else None

    def move(self, next_offset: int, hash: str, new: Iterable[New], now_ms: int) -> None:
        """Add deliveries and advance the position, in one transaction."""
        with self._transaction() as con:
            self._add(con, new, now_ms)
            con.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [("next_offset", str(next_offset)), ("hash", hash)],
            )

    def begin_again(self, next_offset: int) -> None:
        """Delete everything, and continue from an offset of another log."""
        with self._transaction() as con:
            for table in ("meta", "deliveries", "replays"):
                con.execute(f"DELETE FROM {table}")
            con.executemany(
                "INSERT INTO meta VALUES (?, ?)", [("next_offset", str(next_offset)), ("hash", "")]
            )

    def _add(self, con: sqlite3.Connection, new: Iterable[New], now_ms: int) -> None:
        waiting: dict[str, int] = {}
        for one in new:
            if one.webhook_id not in waiting:
                (waiting[one.webhook_id],) = con.execute(
                    "SELECT count(*) FROM deliveries WHERE state = 'pending' AND webhook_id = ?",
                    [one.webhook_id],
                ).fetchone()
            full = waiting[one.webhook_id] >= PENDING_MAX
            added = con.execute(
                "INSERT OR IGNORE INTO deliveries (delivery_id, webhook_id, log_offset, n, event, "
                "state, next_try_ms, updated_ms, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    *one,
                    "dead" if full else "pending",
                    now_ms,
                    now_ms,
                    _QUEUE_FULL if full else None,
                ],
            ).rowcount
            waiting[one.webhook_id] += added if not full else 0

    # Replays

    def add_replay(self, webhook_id: str | None, first: int, until: int) -> int:
        """Add a replay. Returns its id."""
        with self._transaction() as con:
            made = con.execute(
                "INSERT INTO replays (webhook_id, next_offset, to_offset) VALUES (?, ?, ?)",
                [webhook_id, first, until],
            )
            return int(made.lastrowid or 0)

    def replays(self) -> list[Replay]:
        """Return the unfinished replays, oldest first."""
        return [Replay(*row) for row in self._rows("SELECT * FROM replays ORDER BY id")]

    def move_replay(self, replay: Replay, next_offset: int, new: list[New], now_ms: int) -> None:
        """Add deliveries, including those made before, and advance the replay."""
        with self._transaction() as con:
            con.executemany(
                "DELETE FROM deliveries WHERE delivery_id = ? AND state <> 'pending'",
                [(one.delivery_id,) for one in new],
            )
            self._add(con, new, now_ms)
            if next_offset >= replay.to_offset:
                con.execute("DELETE FROM replays WHERE id = ?", [replay.id])
            else:
                con.execute(
                    "UPDATE replays SET next_offset = ? WHERE id = ?", [next_offset, replay.id]
                )

    # Deliveries

    def heads(self) -> list[Delivery]:
        """Return the first pending delivery of each webhook."""
        query = (
            f"SELECT {_COLUMNS} FROM deliveries WHERE seq IN "
            "(SELECT min(seq) FROM deliveries WHERE state = 'pending' GROUP BY webhook_id)"
        )
        return [Delivery(*row) for row in self._rows(query)]

    def head(self, webhook_id: str) -> Delivery | None:
        """Return the first pending delivery of a webhook."""
        found = self._rows(
            f"SELECT {_COLUMNS} FROM deliveries WHERE state = 'pending' AND webhook_id = ? "
            "ORDER BY seq LIMIT 1",
            [webhook_id],
        )
        return Delivery(*found[0]) if found else None

    def pending_max(self) -> int:
        """Return the largest number of pending deliveries of a webhook."""
        query = (
            "SELECT count(*) AS n FROM deliveries WHERE state = 'pending' GROUP BY webhook_id "
            "ORDER BY n DESC LIMIT 1"
        )
        found = self._rows(query)
        return found[0][0] if found else 0

    def delivered(self, delivery: Delivery, status: int, now_ms: int) -> None:
        with self._transaction() as con:
            con.execute(
                "UPDATE deliveries SET state = 'delivered', tries = tries + 1, status = ?, "
                "error = NULL, updated_ms = ? WHERE seq = ?",
                [status, now_ms, delivery.seq],
            )
            if delivery.seq % 100 == 0:
                con.execute(
                    "DELETE FROM deliveries WHERE state = 'delivered' AND seq <= coalesce("
                    "(SELECT seq FROM deliveries WHERE state = 'delivered' ORDER BY seq DESC "
                    "LIMIT 1 OFFSET ?), 0)",
                    [KEPT_MAX],
                )

    def failed(
        self,
        delivery: Delivery,
        error: str,
        status: int | None,
        next_try_ms: int | None,
        now_ms: int,
    ) -> None:
        """Record a failed attempt. Without ``next_try_ms``, the delivery becomes a dead letter."""
        with self._transaction() as con:
            con.execute(
                "UPDATE deliveries SET state = ?, tries = tries + 1, status = ?, error = ?, "
                "next_try_ms = ?, updated_ms = ? WHERE seq = ?",
                [
                    "dead" if next_try_ms is None else "pending",
                    status,
                    error,
                    now_ms if next_try_ms is None else next_try_ms,
                    now_ms,
                    delivery.seq,
                ],
            )

    def cancel(self, webhook_ids: Iterable[str]) -> None:
        """Delete the pending deliveries of deleted webhooks."""
        with self._transaction() as con:
            con.executemany(
                "DELETE FROM deliveries WHERE webhook_id = ? AND state = 'pending'",
                [(webhook_id,) for webhook_id in webhook_ids],
            )

    def retry(self, webhook_id: str | None, delivery_id: str | None, now_ms: int) -> int:
        """Queue dead letters again, in their old order. Returns how many."""
        where, values = _where(webhook_id=webhook_id, delivery_id=delivery_id, state="dead")
        with self._transaction() as con:
            return con.execute(
                "UPDATE deliveries SET state = 'pending', tries = 0, next_try_ms = ?, "
                f"updated_ms = ? WHERE {where}",
                [now_ms, now_ms, *values],
            ).rowcount

    def deliveries(
        self, webhook_id: str | None, state: str | None, before: int | None, limit: int
    ) -> list[Delivery]:
        """Return deliveries, newest first."""
        where, values = _where(webhook_id=webhook_id, state=state)
        if before is not None:
            where, values = f"{where} AND seq < ?", [*values, before]
        query = f"SELECT {_COLUMNS} FROM deliveries WHERE {where} ORDER BY seq DESC LIMIT ?"
        return [Delivery(*row) for row in self._rows(query, [*values, limit])]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many deliveries each webhook has in each state."""
        found: dict[str, dict[str, int]] = {}
        for webhook_id, state, n in self._rows(
            "SELECT webhook_id, state, count(*) FROM deliveries GROUP BY 1, 2"
        ):
            found.setdefault(webhook_id, {})[state] = n
        return found


def _where(**given: str | None) -> tuple[str, list[Any]]:
    named = {name: value for name, value in given.items() if value is not None}
    return " AND ".join(f"{name} = ?" for name in named) or "TRUE", list(named.values())
