"""The ledger: rows with current values, and intervals for everything about them that changes.

Decisions change Python objects, so that one takes microseconds. Their changes are collected here
and written in bulk. Apart from the rows themselves, only the open intervals have to be loaded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar, Final, NamedTuple, TypedDict, TypeVar

import duckdb

from modeltrail.consumers import tables
from modeltrail.consumers.projections.requests import Event, Verdict

R = TypeVar("R", bound="Row")
E = TypeVar("E", bound="Entity")

Decisions = dict[str, dict[str, Callable[[Event], None]]]
"""Kind of entity to event type to the function that decides it, or raises ``Rejected``."""

_Slot = tuple[str, str | None]  # attribute, key


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """A row of a table. Its fields are the columns; those that are ``Final`` never change."""

    table: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]
    """The columns that identify a row. The first is the id in ``fold.history``."""
    in_use: ClassVar[str] = "NOT deleted"
    """A condition for the rows that decisions depend on."""


class Interval(NamedTuple):
    """A current value."""

    interval_id: int
    value: str | None
    from_offset: int


@dataclass(slots=True, kw_only=True, eq=False)
class Entity(Row):
    """An experiment, model, version, user ...: its current values, and since when they hold."""

    kind: ClassVar[str]
    updated_at_ms: int | None
    deleted: bool
    open: dict[_Slot, Interval] = field(default_factory=dict, init=False)

    def values(self, attribute: str) -> dict[str, str]:
        """Return the current values of an attribute with keys, such as tags and aliases, by key."""
        found = [
            (key, i.value or "")
            for (name, key), i in self.open.items()
            if name == attribute and key is not None
        ]
        return dict(sorted(found))


@dataclass(slots=True, kw_only=True, eq=False)
class _Opened(Row):
    """A row of ``fold.history`` that is not written yet."""

    table = "fold.history"
    keys = ("interval_id",)
    interval_id: Final[int]
    entity: Final[str]
    entity_id: Final[str]
    version: Final[int | None]
    attribute: Final[str]
    key: Final[str | None]
    value: str | None
    from_offset: Final[int]
    to_offset: int | None = None
    from_time_ms: Final[int]
    to_time_ms: int | None = None
    from_event_id: Final[bytes]
    actor: Final[str]
    actor_verified: Final[bool]
    reason: Final[str | None]


class Created(TypedDict):
    """The columns of a new entity that say when and by whom it was created."""

    created_at_ms: int
    updated_at_ms: int
    created_by: str
    deleted: bool


def _columns(type: type[Row]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(type) if f.init)


def _changing(type: type[Row]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(type) if f.init and not f.type.startswith("Final"))


class Ledger:
    """Collects the effects of decisions. ``request`` is the event being decided."""

    request: Verdict

    def __init__(self) -> None:
        """Make an empty ledger; the parts of the registry ``load`` their rows."""
        self._loaded: dict[tuple[str, str, int | None], Entity] = {}
        self._next_interval = 0
        self._opened: dict[int, _Opened] = {}
        self._closed: list[tuple[int, int, int]] = []
        # By table: True if the row is new.
        self._changed: defaultdict[type[Row], dict[Row, bool]] = defaultdict(dict)

    def load(self, con: duckdb.DuckDBPyConnection, type: type[R]) -> list[R]:
        """Return the rows of a table that decisions depend on."""
        names = _columns(type)
        columns = ", ".join(names)
        found = con.execute(f"SELECT {columns} FROM {type.table} WHERE {type.in_use}").fetchall()
        rows = [type(**dict(zip(names, row, strict=True))) for row in found]
        for row in rows:
            if isinstance(row, Entity):
                self._loaded[row.kind, _id(row), getattr(row, "version", None)] = row
        return rows

    def load_intervals(self, con: duckdb.DuckDBPyConnection) -> None:
        """Load the open intervals of the loaded entities."""
        for kind, entity_id, version, attribute, key, *interval in con.execute(
            """SELECT CASE entity WHEN 'alias' THEN 'model' ELSE entity END, entity_id,
                      CASE entity WHEN 'model_version' THEN version END, attribute, key,
                      interval_id, value, from_offset
               FROM fold.history WHERE to_offset IS NULL"""
        ).fetchall():
            self._loaded[kind, entity_id, version].open[attribute, key] = Interval(*interval)
        self._loaded.clear()
        self._next_interval = tables.scalar(
            con, "SELECT coalesce(max(interval_id) + 1, 0) FROM fold.history"
        )

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Write the effects of everything since the last write, in the open transaction."""
        _insert(con, list(self._opened.values()))
        if self._closed:
            ids, offsets, times = zip(*self._closed, strict=True)
            ends = {"interval_id": ids, "to_offset": offsets, "to_time_ms": times}
            tables.update(con, "fold.history", ["interval_id"], ends)
        for type, rows in self._changed.items():
            _insert(con, [row for row, is_new in rows.items() if is_new])
            old = [row for row, is_new in rows.items() if not is_new]
            if old:
                columns = tables.rows(old, (*type.keys, *_changing(type)))
                tables.update(con, type.table, type.keys, columns)
        self._opened, self._closed = {}, []
        self._changed.clear()

    # -- effects ----------------------------------------------------------------------------

    def created(self, event: Mapping[str, int | None] | None = None) -> Created:
        """Return when and by whom an entity is created: now, or as an import says."""
        now = self.request.appended_at_ms
        created_at_ms = updated_at_ms = None
        if event is not None:
            created_at_ms, updated_at_ms = event["created_at_ms"], event["updated_at_ms"]
        return {
            "created_at_ms": now if created_at_ms is None else created_at_ms,
            "updated_at_ms": now if updated_at_ms is None else updated_at_ms,
            "created_by": self.request.actor,
            "deleted": False,
        }

    def add(self, row: Row) -> None:
        self._changed[row.__class__][row] = True

    def change(self, row: Row) -> None:
        """Write a changed row; a new one is written whole."""
        self._changed[row.__class__].setdefault(row, False)

    def begin(self, entity: E) -> E:
        """Write a new entity, active from this event on."""
        self.add(entity)
        self.put(entity, "lifecycle", None, "active")
        self.put(entity, "updated", None, None)
        return entity

    def put(self, entity: Entity, attribute: str, key: str | None, value: str | None) -> None:
        """Set an attribute to a value, from this event on."""
        request = self.request
        old = entity.open.get((attribute, key))
        if old is not None:
            if old.value == value and attribute != "updated":
                return
            if old.from_offset == request.offset:  # twice in one event: the last value counts
                self._opened[old.interval_id].value = value
                entity.open[attribute, key] = old._replace(value=value)
                return
            self._close(old)
        is_alias = attribute == "alias"
        interval_id = self._next_interval
        self._next_interval += 1
        self._opened[interval_id] = _Opened(
            interval_id=interval_id,
            entity=attribute if is_alias else entity.kind,
            entity_id=_id(entity),
            version=int(value) if is_alias and value else getattr(entity, "version", None),
            attribute=attribute,
            key=key,
            value=value,
            from_offset=request.offset,
            from_time_ms=request.appended_at_ms,
            from_event_id=request.event_id,
            actor=request.actor,
            actor_verified=request.actor_verified,
            reason=request.reason,
        )
        entity.open[attribute, key] = Interval(interval_id, value, request.offset)

    def put_tags(self, entity: Entity, tags: Mapping[str, str | None]) -> None:
        """Set tags to these values, from this event on. None removes a tag."""
        for key, value in tags.items():
            if value is None:
                self.remove(entity, "tag", key)
            else:
                self.put(entity, "tag", key, value)

    def remove(self, entity: Entity, attribute: str, key: str | None) -> None:
        """Remove the value of an attribute, from this event on."""
        interval = entity.open.pop((attribute, key), None)
        if interval is not None:
            self._close(interval)

    def touch(self, entity: Entity) -> None:
        """Set the entity's time of last update to this event's."""
        self.put(entity, "updated", None, None)
        entity.updated_at_ms = self.request.appended_at_ms
        self.change(entity)

    def end(self, entity: Entity) -> None:
        """End the entity: all of its intervals end."""
        for interval in entity.open.values():
            self._close(interval)
        entity.open.clear()
        entity.deleted = True
        self.change(entity)

    def _close(self, interval: Interval) -> None:
        offset, now = self.request.offset, self.request.appended_at_ms
        row = self._opened.get(interval.interval_id)
        if row is None:
            self._closed.append((interval.interval_id, offset, now))
        else:
            row.to_offset = offset
            row.to_time_ms = now


def _id(row: Row) -> str:
    found: str = getattr(row, row.keys[0])
    return found


def _insert(con: duckdb.DuckDBPyConnection, rows: list[Row] | list[_Opened]) -> None:
    if rows:
        tables.insert(con, rows[0].table, tables.rows(rows, _columns(rows[0].__class__)))
