"""Runs as they were at a moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from typing import NamedTuple

import duckdb

from modeltrail.api.answers import parse_time
from modeltrail.api.errors import InvalidRequest, NotFound, Unavailable
from modeltrail.api.node import Node
from modeltrail.api.registry.reading import offset_of
from modeltrail.api.runs.live import among
from modeltrail.consumers.moments import TooMuch
from modeltrail.consumers.reading import sql
from modeltrail.eventlog import REGISTRY, RUNS, LogError, Partition, Position


class Moment(NamedTuple):
    """What had been appended: everything up to a time, and in one partition up to an event."""

    at_ms: int
    registry_offset: int
    """The last one of the registry."""
    position: Position | None = None

    def before(self) -> str:
        """Return the condition that an event ``l`` had been appended."""
        in_time = f"l.appended_at_ms <= {self.at_ms}"
        if self.position is None or self.position.stream != RUNS:
            return f"({in_time})"
        partition, offset = self.position.partition, self.position.offset
        return (
            f'(CASE WHEN l.partition = {partition} THEN l."offset" <= {offset} ELSE {in_time} END)'
        )


def moment_of(cursor: duckdb.DuckDBPyConnection, as_of: str) -> Moment:
    """Return the moment of a time or a position. Raises ``InvalidRequest``."""
    text = as_of.strip()
    if text.startswith(f"{RUNS}:"):
        try:
            position = Position.parse(text)
        except ValueError as error:
            raise InvalidRequest(f"as_of: {error}") from None
        place = [position.partition, position.offset]
        found = cursor.execute(sql("runs.appended"), place).fetchone()
        if found is None:
            raise InvalidRequest(f"as_of: there is no event at {text} yet")
        offset = cursor.execute(
            "SELECT registry_offset_as_of(make_timestamp(?))", [found[0] * 1000]
        )
        return Moment(found[0], int((offset.fetchone() or (-1,))[0]), position)
    registry_offset = offset_of(cursor, text)
    if not text.isdecimal() and not text.startswith(f"{REGISTRY}:"):
        moment = parse_time(text, "as_of").replace(tzinfo=UTC)
        return Moment(int(moment.timestamp() * 1000), registry_offset)
    found = cursor.execute(sql("registry.appended"), [registry_offset]).fetchone()
    if found is None:
        raise InvalidRequest(f"as_of: the registry has no event at offset {registry_offset}")
    return Moment(found[0], registry_offset)


@contextmanager
def run_then(
    node: Node, cursor: duckdb.DuckDBPyConnection, run_id: str, as_of: str
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Moment]]:
    """Yield the fold's tables with one run alone, as it was at a moment, and the moment.

    Raises:
        NotFound: there is no such run, or was none.
        InvalidRequest: ``as_of`` is neither a time nor a position, or the run had too many events.
        Unavailable: the log is out of reach.
    """
    number = number_of(cursor, run_id)
    moment = moment_of(cursor, as_of)
    with folded(node, cursor, [number], moment) as then:
        if then.execute(sql("runs.number"), [run_id]).fetchone() is None:
            raise NotFound(f"there was no run {run_id!r} as of {as_of}")
        yield then, moment


def number_of(cursor: duckdb.DuckDBPyConnection, run_id: str) -> int:
    """Return the number of a run. Raises ``NotFound``."""
    found = cursor.execute(sql("runs.number"), [run_id]).fetchone()
    if found is None:
        raise NotFound(f"there is no run {run_id!r}")
    return int(found[0])


@contextmanager
def folded(
    node: Node, cursor: duckdb.DuckDBPyConnection, numbers: Sequence[int], moment: Moment
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield the fold's tables with these runs alone, as they were at a moment.

    Raises:
        InvalidRequest: they had too many events.
        Unavailable: the log is out of reach.
    """
    wanted, params = among(list(numbers))
    query = sql("runs.places", runs=wanted, before=moment.before())
    places: dict[Partition, list[int]] = {}
    for partition, offset in cursor.execute(query, params).fetchall():
        places.setdefault(Partition(RUNS, partition), []).append(offset)
    try:
        with node.moments.folded(places) as then:
            yield then
    except TooMuch as error:
        raise InvalidRequest(
            f"as_of: {error}, too many to fold for one answer; ask for fewer runs, or use "
            "modeltrail replay"
        ) from None
    except LogError as error:
        raise Unavailable(f"the log is not available: {error}") from None
