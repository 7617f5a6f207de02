"""Requests to the registry, and a small way to have them decided."""

from __future__ import annotations

from itertools import count
from typing import Any, NamedTuple

import duckdb

from modeltrail.consumers.database import Database
from modeltrail.consumers.store import Limits
from modeltrail.eventlog import NewEvent, Partition
from modeltrail.eventlog.memory import MemoryLog
from modeltrail.schemas import Codec
from writers import Writer

REGISTRY = Partition("registry", 0)
START_MS = 1_767_225_600_000
"""When a ``Registry``'s log takes its first event: 2026-01-01 UTC. Each next is a second later."""

_DEFAULTS: dict[str, dict[str, Any]] = {
    "CreateExperiment": {"artifact_location": None, "tags": {}},
    "CreateRegisteredModel": {"description": None, "tags": {}},
    "CreateModelVersion": {"source": "s3://models/m", "tags": {}, "aliases": []},
    "SetRegisteredModelAlias": {"expected_version": None},
    "DeleteRegisteredModelAlias": {"expected_version": None},
    "TransitionModelVersionStage": {"archive_existing_versions": False, "expected_stage": None},
}


class Outcome(NamedTuple):
    accepted: bool | None
    code: str | None
    message: str | None
    version: int | None
    experiment_id: str | None


def request(writer: Writer, type: str, **body: Any) -> NewEvent:
    return writer.event(type, **{**_DEFAULTS.get(type, {}), **body})


def emptied(database: Database) -> Database:
    """The database as it was made; making one takes longer than folding an example."""
    con = database.connection
    for schema, table in con.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE schema_name = 'fold'"
    ).fetchall():
        rule = {
            "history": "from_offset >= 0",
            "experiments": "experiment_id <> '0'",
            "meta": "false",
        }.get(table, "true")
        con.execute(f"DELETE FROM {schema}.{table} WHERE {rule}")
    con.execute("UPDATE fold.history SET to_offset = NULL, to_time_ms = NULL")
    con.execute(
        "UPDATE fold.experiments SET name = 'Default', deleted = false, updated_at_ms = NULL"
    )
    database._load()
    return database


class Registry:
    """A registry in memory whose every request is decided at once."""

    def __init__(self) -> None:
        seconds = count()
        self.log = MemoryLog(clock_ms=lambda: START_MS + 1000 * next(seconds))
        self.database = Database(None, Codec(), Limits())
        self.writer = Writer()

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        return self.database.connection

    def append(self, *events: NewEvent) -> None:
        self.log.append(events)

    def fold(self) -> None:
        reader = self.log.reader(self.database.positions())
        if self.log.end()[REGISTRY] > self.database.positions().get(REGISTRY, 0):
            self.database.fold(reader.poll(0))
        reader.close()

    def ask(self, type: str, *, by: str = "ann", reason: str | None = None, **body: Any) -> Outcome:
        self.writer.actor = by
        self.append(request(self.writer, type, reason=reason, **body))
        self.fold()
        return Outcome(
            *self.rows(
                "SELECT accepted, code, message, version, experiment_id FROM audit"
                " ORDER BY log_offset DESC LIMIT 1"
            )[0]
        )

    def do(self, type: str, **body: Any) -> Outcome:
        outcome = self.ask(type, **body)
        assert outcome.accepted, outcome
        return outcome

    def refused(self, type: str, **body: Any) -> tuple[str | None, str | None]:
        outcome = self.ask(type, **body)
        assert outcome.accepted is False, outcome
        return outcome.code, outcome.message

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.con.execute(sql, list(parameters)).fetchall()

    def values(self, sql: str, *parameters: Any) -> list[Any]:
        return [row[0] for row in self.rows(sql, *parameters)]
