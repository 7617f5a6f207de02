"""The requests: every event of the registry, its hash in the chain, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

import duckdb

from modeltrail.consumers import tables
from modeltrail.consumers.projections import Incoming
from modeltrail.eventlog import REGISTRY_PARTITION, LogRecord, Position

Event = Mapping[str, Any]

_SECRETS = ("password_hash", "token_hash", "secret")


@dataclass(slots=True)
class Verdict:
    """A registry request and its verdict: a row of ``fold.requests``.

    The same object goes from the fold to the code that answers the request.
    """

    offset: int
    appended_at_ms: int
    hash: bytes
    event_id: bytes
    type: str
    actor: str
    actor_verified: bool
    client: str
    reason: str | None
    entity: str | None
    experiment_id: str | None
    model: str | None
    model_key: str | None
    version: int | None
    """Number of the version that the request created or referred to."""
    alias: str | None
    request: str
    """The event as JSON, as the trail shows it."""
    accepted: bool | None = None
    """None without a decision: for a repeat or a dead letter."""
    code: str | None = None
    """MLflow's error code, if it was refused."""
    message: str | None = None

    @property
    def position(self) -> Position:
        """The request's position in the log."""
        return Position(*REGISTRY_PARTITION, self.offset)

    @property
    def id(self) -> str:
        """The event's id as text."""
        return uuid_text(self.event_id)


_COLUMNS = tuple(field.name for field in fields(Verdict))


class Requests:
    """Collects the rows of ``fold.requests``."""

    def __init__(self) -> None:
        self._undecoded: dict[int, tuple[int, bytes]] = {}  # by offset: append time and hash
        self._rows: list[Verdict] = []

    def record_hash(self, record: LogRecord, hash: bytes) -> None:
        """Record an event's place in the chain, whatever its content."""
        self._undecoded[record.offset] = record.appended_at_ms, hash

    def describe(self, incoming: Incoming, entity: str | None, model_key: str | None) -> Verdict:
        """Make the row of a seen event, without a decision yet."""
        record, type, event, _ = incoming
        envelope = event["envelope"]
        appended_at_ms, hash = self._undecoded.pop(record.offset)
        request = Verdict(
            offset=record.offset,
            appended_at_ms=appended_at_ms,
            hash=hash,
            event_id=envelope["event_id"],
            type=type,
            actor=envelope["actor"],
            actor_verified=envelope["actor_verified"],
            client=envelope["client"],
            reason=envelope["reason"],
            entity=entity,
            experiment_id=event.get("experiment_id"),
            model=event.get("model"),
            model_key=model_key,
            version=event.get("version"),
            alias=event.get("alias"),
            request=_json({**redacted(event), "envelope": _shown(envelope)}),
        )
        self._rows.append(request)
        return request

    def may_have(self, con: duckdb.DuckDBPyConnection, event_id: bytes) -> bool:
        """Return whether an event with this id is in the trail."""
        if any(row.event_id == event_id for row in self._rows):
            return True
        query = "SELECT 1 FROM fold.requests WHERE event_id = ? LIMIT 1"
        return bool(con.execute(query, [event_id]).fetchall())

    def verdicts(self) -> list[Verdict]:
        """Return the verdicts since the last write."""
        return [row for row in self._rows if row.accepted is not None]

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Write what was seen since the last write, in the open transaction."""
        if self._rows:
            tables.insert(con, "fold.requests", tables.rows(self._rows, _COLUMNS))
            self._rows = []
        if self._undecoded:
            times, hashes = zip(*self._undecoded.values(), strict=True)
            undecoded = {"offset": list(self._undecoded), "appended_at_ms": times, "hash": hashes}
            tables.insert(con, "fold.requests", undecoded)
            self._undecoded = {}


def find_verdict(con: duckdb.DuckDBPyConnection, offset: int, event_id: bytes) -> Verdict | None:
    """Return the verdict of the request at an offset; for a repeat, that of the first one."""
    columns = ", ".join(f'"{name}"' for name in _COLUMNS)
    for condition, value in (('"offset" = ?', offset), ("event_id = ?", event_id)):
        row = con.execute(
            f"SELECT {columns} FROM fold.requests"
            f" WHERE {condition} AND accepted IS NOT NULL LIMIT 1",
            [value],
        ).fetchone()
        if row is not None:
            return Verdict(*row)
    return None


def verdicts_since(con: duckdb.DuckDBPyConnection, offset: int, limit: int) -> list[Verdict]:
    """Return the verdicts of requests at or after an offset, in order."""
    columns = ", ".join(f'"{name}"' for name in _COLUMNS)
    rows = con.execute(
        f'SELECT {columns} FROM fold.requests WHERE "offset" >= ? AND accepted IS NOT NULL'
        ' ORDER BY "offset" LIMIT ?',
        [offset, limit],
    ).fetchall()
    return [Verdict(*row) for row in rows]


def redacted(event: Event) -> Event:
    """Return an event for display: without hashes, secrets and the paths of webhooks' URLs."""
    if not any(event.get(name) for name in (*_SECRETS, "url")):
        return event
    shown = {k: "(not shown)" if k in _SECRETS and v else v for k, v in event.items()}
    if shown.get("url"):
        shown["url"] = endpoint(shown["url"])
    return shown


def endpoint(url: str) -> str:
    """Return a URL for display: without its path and query."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
        host = parts.hostname or ""
    except ValueError:
        return "(not shown)"
    if ":" in host:
        host = f"[{host}]"
    rest = "(not shown)" if parts.path not in ("", "/") or parts.query else ""
    return f"{parts.scheme}://{host}{port}/{rest}"


def uuid_text(value: bytes) -> str:
    """Return a UUID of 16 bytes as text with dashes."""
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _shown(envelope: Event) -> Event:
    """Return an envelope for display, without the producer's id, which could be misused."""
    return {name: value for name, value in envelope.items() if name != "producer_id"}


# Only the ids of the envelope are bytes.
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=uuid_text).encode
