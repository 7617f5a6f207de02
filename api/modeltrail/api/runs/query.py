"""The native query for runs: which ones, in which order, and which of their columns.

One query is compiled twice: over the fold's tables, where it runs, and over the public views, as
the SQL that users can run and change themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, NamedTuple

import duckdb
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from modeltrail.api import search
from modeltrail.api.access.rights import Rights
from modeltrail.api.answers import plain
from modeltrail.api.errors import Forbidden, InvalidRequest
from modeltrail.api.runs.fields import IN_VIEWS, QUERIED, SHOWN, Type, run_entity
from modeltrail.api.runs.live import EXPERIMENT_ID, among, from_runs
from modeltrail.api.search import Entity, compile_node, order_of, parse_filter
from modeltrail.consumers.reading import sql
from modeltrail.limits import KEY_CHARACTERS_MAX

COLUMNS_MAX = 200
LIMIT_MAX = 10_000
_OFFSET_MAX = 2**40
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES_MS = range(-62_135_596_800_000, 253_402_300_800_000)
"""Times of the years 1 to 9999; the rest is shown as none, as in the views."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=KEY_CHARACTERS_MAX + 20)]

_DEFAULT_COLUMNS = ("run_id", "run_name", "experiment_id", "status", "start_time", "duration_s")


class OrderBy(BaseModel):
    """A column to order by."""

    model_config = ConfigDict(extra="forbid")

    column: Name
    descending: bool = False


class RunsQuery(BaseModel):
    """Which runs, and what of them."""

    model_config = ConfigDict(extra="forbid")

    experiments: list[str] | None = Field(
        None, max_length=10_000, description="Ids of experiments; all that you may read if absent."
    )
    filter: str = Field(
        "",
        description="MLflow's grammar, with OR, NOT and parentheses, and `metrics.KEY.points`. "
        "Keys with other characters are quoted with backticks.",
    )
    view: Literal["active", "deleted", "all"] = "active"
    columns: list[Name] = Field(
        list(_DEFAULT_COLUMNS),
        max_length=COLUMNS_MAX,
        description="Names of properties, `params.KEY`, `tags.KEY`, and `metrics.KEY` for the "
        "latest value or `metrics.KEY.points` for the number of points.",
    )
    order: list[OrderBy] = Field(
        [],
        max_length=search.ORDERS_MAX,
        description="Columns to order by. Ties are ordered by start, newest first, then by id.",
    )
    offset: int = Field(0, ge=0, le=_OFFSET_MAX, description="How many rows to leave out.")
    limit: int = Field(100, ge=0, le=LIMIT_MAX, description="Most rows.")


class Column(NamedTuple):
    """A column of the answer."""

    name: str
    kind: str
    """As in the grammar: "attribute", "parameter", "tag", "metric", "metric.points"."""
    key: str
    type: Type

    @property
    def field(self) -> search.Field:
        """The column as a field of the grammar."""
        return search.Field(self.kind, self.key, 0)


_TYPES: Final[Mapping[str, Type]] = {
    "parameter": "text",
    "tag": "text",
    "metric": "number",
    "metric.points": "integer",
}


def column_of(name: str) -> Column:
    """Return the column of a name, such as ``status`` or ``metrics.loss``.

    Raises ``InvalidRequest``.
    """
    if name in SHOWN:
        return Column(name, "attribute", name, SHOWN[name].type)
    prefix, dot, rest = name.partition(".")
    kind = QUERIED.prefixes.get(prefix, "")
    if dot and rest and kind == "attribute" and rest in SHOWN:
        return Column(name, kind, rest, SHOWN[rest].type)
    if dot and rest and kind in _TYPES:
        kind, key = search.with_suffix(QUERIED, kind, rest)
        return Column(name, kind, key, _TYPES[kind])
    raise InvalidRequest(
        f"there is no column {name[:100]!r}; there are params.KEY, tags.KEY, metrics.KEY, "
        f"{', '.join(SHOWN)}"
    )


class Answer(NamedTuple):
    """What a query found."""

    columns: list[Column]
    rows: list[list[Any]]
    """Values by column; times in ms since 1970."""
    about: dict[str, Any]
    """The rest of the answer, for JSON."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a query runs: the fold's tables or the public views."""

    entity: Entity
    tables: str
    experiment_id: str
    deleted: str


class Finder:
    """A checked query of a caller, in one transaction."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, rights: Rights, asked: RunsQuery) -> None:
        """Check and compile a query. Raises ``InvalidRequest``."""
        self._cursor = cursor
        self._rights = rights
        self._asked = asked
        self.columns = [column_of(name) for name in asked.columns]
        if len({column.name for column in self.columns}) < len(self.columns):
            raise InvalidRequest("columns: a column is named twice")
        self._order = [(column_of(one.column), not one.descending) for one in asked.order]
        self._filter = parse_filter(QUERIED, asked.filter) if asked.filter.strip() else None
        used = compile_node(QUERIED, self._filter).fields
        used |= {(column.kind, column.key) for column, _ in self._order}
        self._fold = _Place(
            run_entity(cursor, used, QUERIED),
            self._tables(used),
            EXPERIMENT_ID,
            SHOWN["deleted"].fold,
        )

    def _tables(self, used: frozenset[tuple[str, str]]) -> str:
        """Return the tables that these fields need."""
        tables = from_runs(self._cursor)
        needs = any(kind == "attribute" and "a." in _sql_of(key) for kind, key in used)
        return f"{tables} {sql('runs.activity')}" if needs else tables

    def _where(self, place: _Place, node: search.Node | None) -> tuple[str, list[Any]]:
        """Return the condition of the query with a filter, and its values."""
        condition = compile_node(place.entity, node)
        where, params = [condition.sql], [*condition.params]
        if self._asked.experiments is not None:
            where.append(f"{place.experiment_id} IN (SELECT unnest(?::VARCHAR[]))")
            params.append(self._asked.experiments)
        if self._asked.view != "all":
            where.append(f"{'' if self._asked.view == 'deleted' else 'NOT '}{place.deleted}")
        if place is self._fold:
            readable = self._rights.readable_experiments(EXPERIMENT_ID)
            where.append(readable.sql)
            params += readable.params
        return " AND ".join(where), params

    # Rows

    def answer(self) -> Answer:
        """Run the query."""
        numbers, count = self._numbers(self._asked.offset, self._asked.limit)
        return Answer(
            self.columns,
            self._rows(numbers),
            {
                "columns": [{"name": c.name, "type": c.type} for c in self.columns],
                "count": count,
                "position": self._position(),
                "sql": self._sql(),
            },
        )

    def _numbers(self, offset: int, limit: int) -> tuple[list[int], int]:
        """Return the numbers of a window of runs, and how many runs there are."""
        order = order_of(self._fold.entity, [(c.field, way) for c, way in self._order])
        where, params = self._where(self._fold, self._filter)
        terms, by = _named(order.terms)
        tables = f"{self._fold.tables}{order.joins}"
        query = sql(
            "runs.found",
            terms=", ".join(["r.started_at_ms", *terms]),
            tables=tables,
            where=where,
            order=", ".join([*by, "started_at_ms DESC NULLS LAST", "run_id"]),
            limit=limit,
            offset=offset,
        )
        found = self._cursor.execute(query, [*order.params, *params]).fetchall()
        if found:
            return [row[0] for row in found], found[0][1]
        query = sql("runs.count", tables=self._fold.tables, where=where)
        counted = self._cursor.execute(query, params).fetchone()
        return [], counted[0] if counted else 0

    def _rows(self, numbers: Sequence[int]) -> list[list[Any]]:
        """Return the columns of runs, given by their numbers, in that order."""
        if not numbers:
            return []
        shown = [c for c in self.columns if c.kind == "attribute"]
        tables = self._tables(frozenset((c.kind, c.key) for c in shown))
        wanted, params = among(list(numbers))
        columns = ", ".join(["r.run_id", *(SHOWN[c.key].fold for c in shown)])
        query = sql("runs.shown", columns=columns, tables=tables, runs=wanted)
        found = {row[0]: row[2:] for row in self._cursor.execute(query, params).fetchall()}
        values = {c.name: [found[n][at] for n in numbers] for at, c in enumerate(shown)}
        for column in self.columns:
            if column.kind != "attribute":
                by_run = self._values(column, wanted, params)
                values[column.name] = [by_run.get(n) for n in numbers]
        return [list(row) for row in zip(*(values[c.name] for c in self.columns), strict=True)]

    def _values(self, column: Column, wanted: str, params: list[Any]) -> dict[int, Any]:
        keyed = self._fold.entity.keyed[column.kind]
        if column.kind == "metric":
            keyed = QUERIED.keyed["metric"]
        special = column.key in keyed.special
        rows = keyed.special[column.key] if special else keyed.rows
        query = f"SELECT id, value FROM ({rows}) WHERE id {wanted}"
        values = [*([] if special else [column.key]), *params]
        return dict(self._cursor.execute(query, values).fetchall())

    def _position(self) -> dict[str, Any]:
        """Return how far the streams are folded: the position of the last event of each."""
        found: dict[str, list[str]] = {"registry": [], "runs": []}
        for stream, partition, next_offset in self._cursor.execute(
            sql("runs.positions")
        ).fetchall():
            found[stream].append(f"{stream}:{partition}:{next_offset - 1}")
        return {"registry": next(iter(found["registry"]), None), "runs": found["runs"]}

    # The same as SQL over the public views

    def _sql(self) -> str | None:
        """Return the query over the public views, or None for a caller who may not use SQL."""
        try:
            self._rights.everything()
        except Forbidden:
            return None
        place = _Place(IN_VIEWS, "runs r", "r.experiment_id", SHOWN["deleted"].view)
        columns, joins, params = [], [], []
        for n, column in enumerate(self.columns):
            name = _quoted(column.name)
            if column.kind == "attribute":
                columns.append(f"{SHOWN[column.key].view or f'r.{column.key}'} AS {name}")
                continue
            joined, values = _join(IN_VIEWS, column, f"c_{n}")
            joins.append(joined)
            params += values
            columns.append(f"c_{n}.value AS {name}")
        order = order_of(IN_VIEWS, [(c.field, way) for c, way in self._order])
        where, values = self._where(place, self._filter)
        rest = _inlined(
            f"FROM {place.tables}{''.join(joins)}{order.joins}\nWHERE {where}\n",
            [*params, *order.params, *values],
        )
        by = ", ".join([*order.terms, "r.start_time DESC NULLS LAST", "r.run_id"])
        page = f"LIMIT {self._asked.limit} OFFSET {self._asked.offset}"
        return f"SELECT {', '.join(columns) or 'r.run_id'}\n{rest}ORDER BY {by}\n{page}"


def _sql_of(key: str) -> str:
    return QUERIED.attributes[key].sql


def _join(entity: Entity, column: Column, name: str) -> tuple[str, list[Any]]:
    """Return the LEFT JOIN of a keyed column, and its values."""
    keyed = entity.keyed[column.kind]
    if column.key in keyed.special:
        rows, params = keyed.special[column.key], []
    else:
        rows, params = keyed.rows, [column.key]
    return f"\nLEFT JOIN ({rows}) {name} ON {name}.id = {entity.id}", params


def _named(terms: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return terms of an order with names, and the order by these names."""
    named, by = [], []
    for n, term in enumerate(terms):
        expression, _, way = term.rpartition(" ")
        if way not in ("ASC", "DESC"):
            expression, way = term, "ASC"
        named.append(f"{expression} AS o_{n}")
        by.append(f"o_{n} {way}")
    return named, by


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _inlined(text: str, params: Sequence[Any]) -> str:
    """Return SQL with its values written out. Its marks are all outside of quotes."""
    pieces = text.split("?")
    return pieces[0] + "".join(
        _literal(value) + piece for value, piece in zip(params, pieces[1:], strict=True)
    )


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"'{value!r}'" if isinstance(value, float) else repr(value)


def time_of(ms: int | None) -> datetime | None:
    """Return a time from ms since 1970, or None if it is absurd."""
    return None if ms is None or ms not in _TIMES_MS else _EPOCH + timedelta(milliseconds=ms)


def as_json(answer: Answer) -> dict[str, Any]:
    """Return an answer for JSON."""
    names = [column.name for column in answer.columns]
    times = [column.type == "time" for column in answer.columns]
    rows = [
        {
            name: plain(time_of(value) if is_time else value)
            for name, is_time, value in zip(names, times, row, strict=True)
        }
        for row in answer.rows
    ]
    return {"rows": rows, **answer.about}
