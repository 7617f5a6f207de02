"""Projections, which turn the events of a stream into tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import duckdb

from modeltrail.consumers.sequences import KnownProducer, Numbering
from modeltrail.eventlog import LogRecord
from modeltrail.limits import KEY_CHARACTERS_MAX, TEXT_BYTES_MAX
from modeltrail.schemas import Malformed


def check_entries(kind: str, entries: Mapping[str, str | None]) -> None:
    """Check keys and values of params or tags. Raises ``Malformed``."""
    for key, value in entries.items():
        if not 0 < len(key) <= KEY_CHARACTERS_MAX:
            raise Malformed(
                f"a {kind} key has 1 to {KEY_CHARACTERS_MAX} characters, not {len(key)}"
            )
        # In characters, not bytes, because an older version allowed those.
        if value is not None and len(value) > TEXT_BYTES_MAX:
            raise Malformed(
                f"the value of {kind} {key!r} has {len(value):,} characters; "
                f"{TEXT_BYTES_MAX:,} are allowed"
            )


def check_path(type: str, path: str) -> None:
    """Check the path of an artifact. Raises ``Malformed``."""
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise Malformed(f"{type}: not a relative path: {path!r}")


class Incoming(NamedTuple):
    """A decoded event to be applied."""

    record: LogRecord
    type: str
    event: dict[str, Any]
    numbering: Numbering
    """What the producer's sequence number counts within."""


class Projection(Protocol):
    """A projection, as the fold calls it, in this order for each batch.

    ``record_hash`` for every record; ``prepare`` once; ``apply`` for each event that was decoded
    and is not a repeat, and ``pass_over`` for the others; ``write`` once, in the transaction that
    stores the positions.
    """

    stream: str

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Load the state from the tables, at the start and after a failed transaction."""

    def record_hash(self, record: LogRecord, hash: bytes) -> None:
        """Record an event's place in the chain, whatever its content.

        ``hash`` is that of the chain.
        """

    def prepare(self, con: duckdb.DuckDBPyConnection, batch: Sequence[Incoming]) -> None:
        """Load what the events of a batch need."""

    def apply(self, incoming: Incoming, producer: KnownProducer, missing: int) -> None:
        """Apply an event to the state.

        Args:
            incoming: The event.
            producer: Its producer, whose counters may be changed.
            missing: The change in the number of missing events of the producer: those just before
                this one, or -1 if this one was missing.

        Raises:
            Malformed: it can never be applied; the state is unchanged.
        """

    def pass_over(self, incoming: Incoming) -> None:
        """Record an event without effect: a repeat, or a dead letter that was decoded."""

    def may_have(self, con: duckdb.DuckDBPyConnection, event_id: bytes) -> bool:
        """Return whether the event with this id may have arrived before; True if unknown."""

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Write the effects since the last write, in the open transaction."""
