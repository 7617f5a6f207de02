"""Projections: each turns the events of one stream into tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import duckdb

from modeltrail.consumers.sequences import Producer
from modeltrail.eventlog import LogRecord

KEY_LENGTH_MAX = 250
"""Longest key of a metric, param or tag, in characters (MLflow's limit as well)."""

VALUE_LENGTH_MAX = 65_536
"""Longest value of a param or of a tag of a run, in characters."""


class Incoming(NamedTuple):
    """A decoded event on its way into the tables."""

    record: LogRecord
    type: str
    event: dict[str, Any]


class Projection(Protocol):
    """What the runner asks of a projection, in this order for each batch.

    ``see`` every record; ``prepare`` once; ``apply`` each event that could be decoded and is no
    repeat; ``write`` once, within the transaction that stores the positions.
    """

    stream: str

    def create(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make the tables in an empty database."""
        ...

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Take the state from the tables: at start, and after a transaction that failed."""
        ...

    def see(self, record: LogRecord) -> None:
        """Take note of a record of the stream, whatever is in it."""
        ...

    def prepare(self, con: duckdb.DuckDBPyConnection, batch: Sequence[Incoming]) -> None:
        """Fetch what the events of a batch will need."""
        ...

    def apply(self, incoming: Incoming, producer: Producer, missing: int) -> None:
        """Apply an event to the state.

        Args:
            incoming: The event.
            producer: Who sent it; its counters may be changed.
            missing: How many events of the producer are missing just before this one.

        Raises:
            Malformed: it can never be applied; the state is as before.
        """
        ...

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Write the effects of everything since the last write, in the open transaction."""
        ...
