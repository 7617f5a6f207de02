"""Projections: each turns the events of one stream into tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import duckdb

from modeltrail.consumers.sequences import Numbering, Producer
from modeltrail.eventlog import LogRecord
from modeltrail.schemas import Malformed
from modeltrail.schemas.limits import KEY_CHARACTERS_MAX, TEXT_BYTES_MAX


def check_entries(kind: str, entries: Mapping[str, str | None]) -> None:
    """Check keys and values of params or tags; raises ``Malformed``."""
    for key, value in entries.items():
        if not 0 < len(key) <= KEY_CHARACTERS_MAX:
            raise Malformed(
                f"a {kind} key has 1 to {KEY_CHARACTERS_MAX} characters, not {len(key)}"
            )
        # In characters, not bytes: an older release let those into the log.
        if value is not None and len(value) > TEXT_BYTES_MAX:
            raise Malformed(
                f"the value of {kind} {key!r} has {len(value):,} characters; "
                f"{TEXT_BYTES_MAX:,} are allowed"
            )


def check_path(type: str, path: str) -> None:
    """Check the path of an artifact; raises ``Malformed``."""
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise Malformed(f"{type}: not a relative path: {path!r}")


class Incoming(NamedTuple):
    """A decoded event on its way into the tables."""

    record: LogRecord
    type: str
    event: dict[str, Any]
    numbering: Numbering
    """What the producer's sequence number counts within."""


class Projection(Protocol):
    """What the runner asks of a projection, in this order for each batch.

    ``see`` every record; ``prepare`` once; ``apply`` each event that could be decoded and is no
    repeat, and ``pass_over`` the others; ``write`` once, within the transaction that stores the
    positions.
    """

    stream: str

    def create(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make the tables in an empty database."""
        ...

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Take the state from the tables: at start, and after a transaction that failed."""
        ...

    def see(self, record: LogRecord, hash: bytes) -> None:
        """Take note of a record of the stream, whatever is in it; ``hash`` is that of the chain."""
        ...

    def prepare(self, con: duckdb.DuckDBPyConnection, batch: Sequence[Incoming]) -> None:
        """Fetch what the events of a batch will need."""
        ...

    def apply(self, incoming: Incoming, producer: Producer, missing: int) -> None:
        """Apply an event to the state.

        Args:
            incoming: The event.
            producer: Who sent it; its counters may be changed.
            missing: How many events of the producer are missing more than before: those just
                before this one, or -1 where this one was missing.

        Raises:
            Malformed: it can never be applied; the state is as before.
        """
        ...

    def pass_over(self, incoming: Incoming) -> None:
        """Take note of an event without effect: a repeat, or a dead letter that was decoded."""
        ...

    def may_have(self, con: duckdb.DuckDBPyConnection, event_id: bytes) -> bool:
        """Whether the event with this id may have come before; True where that is not known."""
        ...

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Write the effects of everything since the last write, in the open transaction."""
        ...
