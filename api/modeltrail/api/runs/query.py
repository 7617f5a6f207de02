"""The native query for runs: which ones, in which order, and which of their columns.

One query is compiled twice: over the fold's tables, where it runs, and over the public views, as
the SQL that users can run and change themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

import duckdb
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from modeltrail.api import search
from modeltrail.api.access.rights import EVERYTHING, Rights
from modeltrail.api.answers import datetime_of, plain, time_of
from modeltrail.api.errors import Forbidden, InvalidRequest
from modeltrail.api.node import Node
from modeltrail.api.runs.fields import IN_VIEWS, QUERIED, SHOWN, Type, run_entity
from modeltrail.api.runs.live import EXPERIMENT_ID, among, from_runs
from modeltrail.api.runs.moments import Moment, folded, moment_of
from modeltrail.api.search import Entity, compile_node, order_of, parse_filter
from modeltrail.api.sql.formats import Result, pieces
from modeltrail.consumers.reading import sql
from modeltrail.eventlog import Position
from modeltrail.limits import KEY_CHARACTERS_MAX

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS_MAX = 200
LIMIT_MAX = 10_000
CELLS_MAX = 20_000_000
"""Most values in a download of all rows."""
VALUES_MAX = 50
"""Most values of a facet."""
KEYS_MAX = 20_000
FOLDED_MAX = 200
"""Most rows as of a moment with columns that need the run's own events."""
_CHUNK_ROWS = 10_000
_OFFSET_MAX = 2**40

Name = Annotated[str, StringConstraints(min_length=1, max_length=KEY_CHARACTERS_MAX + 20)]

_DEFAULT_COLUMNS = ("run_id", "run_name", "experiment_id", "status", "start_time", "duration_s")


class OrderBy(BaseModel):
    """A column to order by."""

    model_config = ConfigDict(extra="forbid")

    column: Name
    descending: bool = False


class RunsQuery(BaseModel):
    """Which runs, and what of them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"filter": "metrics.loss < 0.1", "limit": 50}},
    )

    experiments: list[str] | None = Field(
        None, max_length=10_000, description="Ids of experiments; all that you may read if absent."
    )
    filter: str = Field(
        "",
        description="MLflow's grammar, with OR, NOT, parentheses, IS NULL of every field, times in "
        "quotes, and `metrics.KEY.min`, `.max` and `.points`. Keys with other characters, or with "
        "such an ending of their own, are quoted with backticks.",
    )
    view: Literal["active", "deleted", "all"] = "active"
    columns: list[Name] = Field(
        list(_DEFAULT_COLUMNS),
        max_length=COLUMNS_MAX,
        description="Names of properties, `params.KEY`, `tags.KEY`, `metrics.KEY` for the latest "
        "value, `metrics.KEY.min` and `.max` for the least and greatest finite value, "
        "`metrics.KEY.points` for the number of points, and `children` for the number of runs "
        "found whose parent it is.",
    )
    order: list[OrderBy] = Field(
        [],
        max_length=search.ORDERS_MAX,
        description="Columns to order by. Ties are ordered by start, newest first, then by id.",
    )
    group: list[Name] = Field(
        [],
        max_length=5,
        description="Columns whose values make a group, which is then a row: these values, `runs`, "
        "and of each column that is a number `mean(COLUMN)`, `std(COLUMN)`, `min(COLUMN)` and "
        "`max(COLUMN)` of the finite values. These names can be ordered by.",
    )
    tree: bool = Field(
        False, description="Only runs whose parent is not found; see `children` and `parent`."
    )
    parent: str | None = Field(None, description="Only the runs whose parent this is.")
    facets: list[Name] = Field(
        [],
        max_length=20,
        description=f"Columns whose {VALUES_MAX} most frequent values are counted. Parts of the "
        "filter that are about that column alone are left out for its count.",
    )
    keys: bool = Field(
        False, description="Also the keys of params, metrics and tags, with their number of runs."
    )
    key_prefix: str = Field(
        "",
        max_length=KEY_CHARACTERS_MAX,
        description="Only keys that contain this in any case; those that begin with it come first.",
    )
    keys_limit: int = Field(200, ge=1, le=KEYS_MAX, description="Most keys of each kind.")
    as_of: str | None = Field(
        None,
        description="The state at a time (ISO 8601), or right after a position: `registry:0:17`, "
        "`runs:0:41`. See the route for what is as it was then.",
    )
    offset: int = Field(0, ge=0, le=_OFFSET_MAX, description="How many rows to leave out.")
    limit: int = Field(100, ge=0, le=LIMIT_MAX, description="Most rows.")


class Column(NamedTuple):
    """A column of the answer."""

    name: str
    kind: str
    """As in the grammar: "attribute", "parameter", "tag", "metric", "metric.min"; or "children"."""
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
    "metric.min": "number",
    "metric.max": "number",
    "metric.points": "integer",
    "children": "integer",
}
_CHILDREN: Final = "children"
_PREFIXES: Final[Mapping[str, str]] = {
    "parameter": "params",
    "tag": "tags",
    "dataset": "datasets",
    **dict.fromkeys(("metric", "metric.min", "metric.max", "metric.points"), "metrics"),
}
_KNOWN_THEN: Final = frozenset(SHOWN) - {
    "complete", "events_missing", "points_logged", "points_dropped", "points_stored",
    "events_after_end", "last_heartbeat",
} | {_CHILDREN}  # fmt: skip
"""Columns that need no folding as of a moment: those that never change, and those whose changes
are kept. The names of experiments, and whether these are deleted, are as now."""
_STATISTICS: Final[Mapping[str, str]] = {
    "mean": "avg", "std": "stddev_samp", "min": "min", "max": "max"
}  # fmt: skip


def column_of(name: str) -> Column:
    """Return the column of a name, such as ``status`` or ``metrics.loss``.

    Raises ``InvalidRequest``.
    """
    if name in SHOWN:
        return Column(name, "attribute", name, SHOWN[name].type)
    if name == _CHILDREN:
        return Column(name, _CHILDREN, "", "integer")
    prefix, dot, rest = name.partition(".")
    kind = QUERIED.prefixes.get(prefix, "")
    if dot and rest and kind == "attribute" and rest in SHOWN:
        return Column(name, kind, rest, SHOWN[rest].type)
    if dot and rest and kind in _TYPES:
        kind, key = search.with_suffix(QUERIED, kind, rest)
        return Column(name, kind, key, _TYPES[kind])
    raise InvalidRequest(
        f"there is no column {name[:100]!r}; there are params.KEY, tags.KEY, metrics.KEY, "
        f"children, {', '.join(SHOWN)}"
    )


class Answer(NamedTuple):
    """What a query found."""

    columns: list[Column]
    rows: list[list[Any]]
    """Values by column; times in ms since 1970."""
    about: dict[str, Any]
    """The rest of the answer, for JSON."""

    def dicts(self) -> list[dict[str, Any]]:
        """Return the rows for JSON."""
        return [
            {
                column.name: _shown(column, value)
                for column, value in zip(self.columns, row, strict=True)
            }
            for row in self.rows
        ]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a query runs: the fold's tables or the public views."""

    entity: Entity
    tables: str
    experiment_id: str
    deleted: str
    in_views: bool = False

    def value_of(self, column: Column, name: str) -> _Value:
        """Return the SQL of a column, whose joined table gets this name."""
        if column.kind == "attribute":
            shown = SHOWN[column.key]
            return _Value((shown.view or f"r.{column.key}") if self.in_views else shown.fold)
        if column.kind == _CHILDREN:
            raise InvalidRequest(f"{_CHILDREN}: it can be shown, not ordered or grouped by")
        keyed = self.entity.keyed[column.kind]
        special = keyed.special.get(column.key)
        rows, params = (keyed.rows, [column.key]) if special is None else (special, [])
        return _Value(f"{name}.value", self.join(rows, name), params)

    def join(self, rows: str, name: str) -> str:
        """Return the LEFT JOIN of rows with columns ``id`` and ``value``."""
        return f"\nLEFT JOIN ({rows}) {name} ON {name}.id = {self.entity.id}"


class _Value(NamedTuple):
    """An expression, and the join that it needs with its values."""

    sql: str
    join: str = ""
    params: Sequence[Any] = ()


class Finder:
    """A checked query of a caller, in one transaction."""

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        rights: Rights,
        asked: RunsQuery,
        node: Node | None = None,
    ) -> None:
        """Check and compile a query. Raises ``InvalidRequest``.

        ``node``: Where the columns of runs are folded as of a moment, if any are.
        """
        self._node = node
        self._moment = None if asked.as_of is None else moment_of(cursor, asked.as_of)
        self._then = (
            None if self._moment is None else sql("runs.then", before=self._moment.before())
        )
        self._cursor = cursor
        self._rights = rights
        self._asked = asked
        self._columns = [column_of(name) for name in dict.fromkeys(asked.columns)]
        self._group = [column_of(name) for name in dict.fromkeys(asked.group)]
        self._facets = [column_of(name) for name in dict.fromkeys(asked.facets)]
        self._filter = parse_filter(QUERIED, asked.filter) if asked.filter.strip() else None
        if sum((bool(asked.group), asked.tree, asked.parent is not None)) > 1:
            raise InvalidRequest("give one of group, tree and parent")
        if any(c.kind == _CHILDREN for c in (*self._group, *self._facets)):
            raise InvalidRequest(f"{_CHILDREN}: it can be shown, not grouped or counted by")
        keyed = sum(c.kind != "attribute" for c in (*self._group, *self._columns))
        if asked.group and keyed > search.KEYED_CONDITIONS_MAX:
            raise InvalidRequest(
                f"groups can have {search.KEYED_CONDITIONS_MAX} params, tags and metrics at most, "
                f"not {keyed}; ask for fewer columns"
            )
        self._order = [] if asked.group else self._ordered()
        used = compile_node(QUERIED, self._filter).fields
        used |= {(c.kind, c.key) for c, _ in self._order}
        used |= {(c.kind, c.key) for c in self._facets}
        if asked.group:
            used |= {(c.kind, c.key) for c in (*self._columns, *self._group)}
        self._fold = _Place(
            run_entity(cursor, used, QUERIED),
            self._tables(used),
            EXPERIMENT_ID,
            SHOWN["deleted"].fold,
        )

    def _ordered(self) -> list[tuple[Column, bool]]:
        order = [(column_of(one.column), not one.descending) for one in self._asked.order]
        if any(column.kind == _CHILDREN for column, _ in order):
            raise InvalidRequest(f"{_CHILDREN}: it can be shown, not ordered by")
        order_of(QUERIED, [(c.field, way) for c, way in order])
        return order

    def _tables(self, used: Iterable[tuple[str, str]]) -> str:
        """Return the tables that these fields need."""
        tables = from_runs(self._cursor, self._then)
        needs = any(kind == "attribute" and "a." in _sql_of(key) for kind, key in used)
        return f"{tables} {sql('runs.activity')}" if needs else tables

    def _where(
        self, place: _Place, node: search.Node | None, *, window: bool = True
    ) -> tuple[str, list[Any]]:
        """Return the condition of the query with a filter, and its values.

        ``window``: of the rows that can be shown, which are fewer for a tree or a parent.
        """
        condition = compile_node(place.entity, node)
        where, params = [condition.sql], [*condition.params]
        if self._asked.experiments is not None:
            where.append(f"{place.experiment_id} IN (SELECT unnest(?::VARCHAR[]))")
            params.append(self._asked.experiments)
        if self._asked.view != "all":
            where.append(f"{'' if self._asked.view == 'deleted' else 'NOT '}{place.deleted}")
        if not place.in_views:
            readable = self._rights.readable_experiments(EXPERIMENT_ID)
            where.append(readable.sql)
            params += readable.params
        if window and self._asked.parent is not None:
            where.append("r.parent_run_id = ?")
            params.append(self._asked.parent)
        text = " AND ".join(where)
        if window and self._asked.tree:
            found = f"SELECT r.run_id FROM {place.tables} WHERE {text}"
            text += (
                " AND (r.parent_run_id IS NULL OR r.parent_run_id = r.run_id "
                f"OR r.parent_run_id NOT IN ({found}))"
            )
            params *= 2
        return text, params

    def answer(self) -> Answer:
        """Return a window of the rows, and what else was asked for."""
        asked = self._asked
        if asked.group:
            columns, rows, count, runs = self._groups(asked.offset, asked.limit)
        else:
            columns = self._columns
            numbers, count = self._numbers(asked.offset, asked.limit)
            rows = self._rows(numbers) if self._moment is None else self._rows_then(numbers)
            runs = self._count(window=False) if asked.tree else count
        about: dict[str, Any] = {
            "columns": [{"name": c.name, "type": c.type} for c in columns],
            "count": count,
            "runs": runs,
            "position": position_of(self._cursor),
            "sql": self._sql(),
        }
        if self._moment is not None:
            about["as_of"] = self._about_moment(self._moment)
        if asked.facets:
            about["facets"] = {column.name: self._facet(column) for column in self._facets}
        if asked.keys:
            about["keys"] = self._keys()
        return Answer(columns, rows, about)

    def everything(self) -> tuple[list[Column], Iterator[list[list[Any]]]]:
        """Return the columns, and all rows in chunks. Raises ``InvalidRequest`` for too many."""
        if self._moment is not None:
            raise InvalidRequest("as_of: not for a download of all rows; ask for windows")
        if self._asked.group:
            columns, rows, count, _ = self._groups(0, CELLS_MAX // 10)
            return columns, iter([rows])
        count = self._count()
        if count * max(1, len(self._columns)) > CELLS_MAX:
            raise InvalidRequest(
                f"{count:,} rows of {len(self._columns)} columns are more than {CELLS_MAX:,} "
                "values; narrow the filter, or ask for fewer columns"
            )
        numbers, _ = self._numbers(0, count)
        chunks = range(0, len(numbers), _CHUNK_ROWS)
        return self._columns, (self._rows(numbers[at : at + _CHUNK_ROWS]) for at in chunks)

    # Runs

    def _numbers(self, offset: int, limit: int) -> tuple[list[int], int]:
        """Return the numbers of a window of runs, and how many runs there are."""
        order = order_of(self._fold.entity, [(c.field, way) for c, way in self._order])
        where, params = self._where(self._fold, self._filter)
        terms, by = _named(order.terms)
        query = sql(
            "runs.found",
            terms=", ".join(["r.started_at_ms", *terms]),
            tables=f"{self._fold.tables}{order.joins}",
            where=where,
            order=", ".join([*by, "started_at_ms DESC NULLS LAST", "run_id"]),
            limit=limit,
            offset=offset,
        )
        found = self._cursor.execute(query, [*order.params, *params]).fetchall()
        if found or (offset == 0 and limit > 0):
            return [row[0] for row in found], found[0][1] if found else 0
        return [], self._count()

    def _count(self, *, window: bool = True) -> int:
        where, params = self._where(self._fold, self._filter, window=window)
        query = sql("runs.count", tables=self._fold.tables, where=where)
        found = self._cursor.execute(query, params).fetchone()
        return int(found[0]) if found else 0

    def _rows(self, numbers: Sequence[int]) -> list[list[Any]]:
        """Return the columns of runs, given by their numbers, in that order."""
        if not numbers:
            return []
        attributes = [c for c in self._columns if c.kind == "attribute"]
        wanted, params = among(list(numbers))
        query = sql(
            "runs.shown",
            columns=", ".join(["r.run_id", *(SHOWN[c.key].fold for c in attributes)]),
            tables=self._tables((c.kind, c.key) for c in attributes),
            runs=wanted,
        )
        found = {row[0]: row[1:] for row in self._cursor.execute(query, params).fetchall()}
        ids = [found[n][0] for n in numbers]
        by_field = self._values(wanted, params)
        values: list[list[Any]] = []
        for column in self._columns:
            if column.kind == "attribute":
                at = 1 + attributes.index(column)
                values.append([found[n][at] for n in numbers])
            elif column.kind == _CHILDREN:
                children = self._children(ids)
                values.append([children.get(run_id, 0) for run_id in ids])
            else:
                by_run = by_field[column.kind, column.key]
                values.append([by_run.get(n) for n in numbers])
        return [list(row) for row in zip(*values, strict=True)]

    def _rows_then(self, numbers: Sequence[int]) -> list[list[Any]]:
        """Return the columns of runs as they were at the moment."""
        rows = self._rows(numbers)
        if not rows or {c.name for c in self._columns} <= _KNOWN_THEN:
            return rows
        assert self._moment is not None
        assert self._node is not None, "runs are folded on a node"
        if len(numbers) > FOLDED_MAX:
            raise InvalidRequest(
                f"as_of: at most {FOLDED_MAX} rows at a time with other columns than "
                f"{', '.join(sorted(_KNOWN_THEN))}"
            )
        wanted, params = among(list(numbers))
        query = sql("runs.ids", runs=wanted)
        ids = dict(self._cursor.execute(query, params).fetchall())
        with folded(self._node, self._cursor, numbers, self._moment) as then:
            found = dict(then.execute(sql("runs.numbers"), [list(ids.values())]).fetchall())
            asked = RunsQuery.model_validate({"columns": [c.name for c in self._columns]})
            before = Finder(then, EVERYTHING, asked)._rows([found[ids[n]] for n in numbers])
        kept = [c.name in _KNOWN_THEN for c in self._columns]
        return [
            [now if keep else value for keep, now, value in zip(kept, row, values, strict=True)]
            for row, values in zip(rows, before, strict=True)
        ]

    def _about_moment(self, moment: Moment) -> dict[str, Any]:
        """Return the moment, and what was searched or counted as it is now."""
        used = set(compile_node(QUERIED, self._filter).fields)
        shown = self._columns if self._asked.group else []
        columns = (*(c for c, _ in self._order), *self._facets, *self._group, *shown)
        used |= {(c.kind, c.key) for c in columns}
        now = {
            key if kind == "attribute" else f"{_PREFIXES[kind]}.{key}"
            for kind, key in used
            if kind != _CHILDREN and (kind != "attribute" or key not in _KNOWN_THEN)
        }
        return {
            "time": time_of(moment.at_ms),
            "registry_offset": moment.registry_offset,
            "searched_as_now": sorted(now),
        }

    def _values(self, wanted: str, params: list[Any]) -> dict[tuple[str, str], dict[int, Any]]:
        """Return the keyed values of runs, by kind and key, then by the number of the run."""
        found: dict[tuple[str, str], dict[int, Any]] = {(c.kind, c.key): {} for c in self._columns}
        for query, kinds in _SHOWN_VALUES.items():
            special = self._fold.entity.keyed[kinds[0]].special
            keys = sorted({key for kind, key in found if kind in kinds})
            for key in special.keys() & keys:
                rows = f"SELECT id, value FROM ({special[key]}) WHERE id {wanted}"
                found[kinds[0], key] = dict(self._cursor.execute(rows, params).fetchall())
            keys = [key for key in keys if key not in special]
            if not keys:
                continue
            text = sql(query, runs=wanted)
            for run, key, *shown in self._cursor.execute(text, [*params, keys]).fetchall():
                for kind, value in zip(kinds, shown, strict=True):
                    if (kind, key) in found:
                        found[kind, key][run] = value
        return found

    def _children(self, ids: list[str]) -> dict[str, int]:
        """Return how many runs are found whose parent each of these is."""
        where, params = self._where(self._fold, self._filter, window=False)
        where += " AND list_contains(?::VARCHAR[], r.parent_run_id) AND r.parent_run_id <> r.run_id"
        query = sql(
            "runs.values",
            value="r.parent_run_id",
            tables=self._fold.tables,
            where=where,
            limit=len(ids),
        )
        return dict(self._cursor.execute(query, [*params, ids]).fetchall())

    # Groups, facets, keys

    def _grouped(self, place: _Place) -> tuple[list[Column], str, str, list[Any]]:
        """Return the columns of groups, and the parts of their query around FROM."""
        columns: list[Column] = []
        selected: list[str] = []
        joins: list[str] = []
        params: list[Any] = []

        def value_of(column: Column) -> str:
            value = place.value_of(column, f"c_{len(joins)}")
            if value.join:
                joins.append(value.join)
                params.extend(value.params)
            return value.sql

        for column in self._group:
            columns.append(column)
            selected.append(f"{value_of(column)} AS {_quoted(column.name)}")
        columns.append(Column("runs", "runs", "", "integer"))
        selected.append('count(*) AS "runs"')
        for column in self._columns:
            if column in self._group or column.type not in ("number", "integer"):
                continue
            value = f"{value_of(column)}::DOUBLE"
            for name, function in _STATISTICS.items():
                columns.append(Column(f"{name}({column.name})", "", "", "number"))
                selected.append(
                    f"{function}({value}) FILTER (WHERE isfinite({value})) "
                    f"AS {_quoted(columns[-1].name)}"
                )
        where, values = self._where(place, self._filter)
        by = ", ".join(str(n + 1) for n in range(len(self._group)))
        rest = f"FROM {place.tables}{''.join(joins)}\nWHERE {where}\nGROUP BY {by}"
        return columns, f"SELECT {', '.join(selected)}", rest, [*params, *values]

    def _group_order(self, columns: list[Column]) -> str:
        known = {column.name: column for column in columns}
        terms: list[str] = []
        for one in self._asked.order:
            column = known.get(one.column)
            if column is None:
                raise InvalidRequest(
                    f"order: groups have no column {one.column[:100]!r}; they have "
                    f"{', '.join(known)}"
                )
            name = _quoted(column.name)
            if column.type in ("number", "integer"):
                terms.append(f"isnan({name}::DOUBLE)")
            terms.append(f"{name} {'DESC' if one.descending else 'ASC'} NULLS LAST")
        rest = [f"{_quoted(column.name)} ASC NULLS LAST" for column in self._group]
        return ", ".join([*terms, '"runs" DESC', *rest])

    def _groups(self, offset: int, limit: int) -> tuple[list[Column], list[list[Any]], int, int]:
        """Return columns and rows of a window of groups, and how many groups and runs there are."""
        columns, select, rest, params = self._grouped(self._fold)
        groups = f"{select} {rest}"
        order = self._group_order(columns)
        query = sql("runs.groups", groups=groups, order=order, limit=limit, offset=offset)
        found = self._cursor.execute(query, params).fetchall()
        rows = [list(row[:-2]) for row in found]
        if found:
            return columns, rows, found[0][-2], found[0][-1]
        query = sql("runs.count_groups", groups=groups)
        counted = self._cursor.execute(query, params).fetchone()
        return columns, rows, *(counted or (0, 0))

    def _facet(self, column: Column) -> list[dict[str, Any]]:
        node = search.without(self._filter, column.kind, column.key)
        where, params = self._where(self._fold, node)
        value = self._fold.value_of(column, "c")
        query = sql(
            "runs.values",
            value=value.sql,
            tables=f"{self._fold.tables}{value.join}",
            where=where,
            limit=VALUES_MAX,
        )
        found = self._cursor.execute(query, [*value.params, *params]).fetchall()
        return [{"value": _shown(column, v), "runs": runs} for v, runs in found]

    def _keys(self) -> dict[str, Any]:
        """Return the keys of each kind, and how many there are."""
        where, params = self._where(self._fold, self._filter)
        several = self._cursor.execute(sql("runs.any_several")).fetchone()
        wanted = self._asked.key_prefix.lower()
        answer: dict[str, Any] = {}
        for kind, query in (
            ("params", "runs.param_keys"),
            ("metrics", "runs.metric_keys" if several else "runs.metric_keys_once"),
            ("tags", "runs.tag_keys"),
        ):
            text = sql(query, tables=self._fold.tables, where=where)
            found = [
                (key, runs)
                for key, runs in self._cursor.execute(text, params).fetchall()
                if wanted in key.lower()
            ]
            found.sort(key=lambda one: (not one[0].lower().startswith(wanted), -one[1], one[0]))
            kept = found[: self._asked.keys_limit]
            answer[kind] = [{"key": key, "runs": runs} for key, runs in kept]
            answer[f"{kind}_count"] = len(found)
        return answer

    # The same as SQL over the public views

    def _sql(self) -> str | None:
        """Return the query over the public views, or None for a caller who may not use SQL."""
        try:
            self._rights.everything()
        except Forbidden:
            return None
        if self._moment is not None:
            return None  # the public views have runs as they are
        place = _Place(IN_VIEWS, "runs r", "r.experiment_id", SHOWN["deleted"].view, in_views=True)
        page = f"LIMIT {self._asked.limit} OFFSET {self._asked.offset}"
        if self._asked.group:
            columns, select, rest, params = self._grouped(place)
            by = self._group_order(columns)
            return f"{select}\n{_inlined(rest, params)}\nORDER BY {by}\n{page}"
        selected: list[str] = []
        joins: list[str] = []
        params = []
        for n, column in enumerate(self._columns):
            if column.kind == _CHILDREN:
                value = self._children_in_views(place, f"c_{n}")
            else:
                value = place.value_of(column, f"c_{n}")
            selected.append(f"{value.sql} AS {_quoted(column.name)}")
            joins.append(value.join)
            params += value.params
        order = order_of(IN_VIEWS, [(c.field, way) for c, way in self._order])
        where, values = self._where(place, self._filter)
        rest = _inlined(
            f"FROM {place.tables}{''.join(joins)}{order.joins}\nWHERE {where}\n",
            [*params, *order.params, *values],
        )
        by = ", ".join([*order.terms, "r.start_time DESC NULLS LAST", "r.run_id"])
        return f"SELECT {', '.join(selected) or 'r.run_id'}\n{rest}ORDER BY {by}\n{page}"

    def _children_in_views(self, place: _Place, name: str) -> _Value:
        where, params = self._where(place, self._filter, window=False)
        rows = (
            f"SELECT r.parent_run_id AS id, count(*) AS value FROM {place.tables} WHERE {where} "
            "AND r.parent_run_id <> r.run_id GROUP BY 1"
        )
        return _Value(f"coalesce({name}.value, 0)", place.join(rows, name), params)


_SHOWN_VALUES: Final[Mapping[str, Sequence[str]]] = {
    "runs.shown_params": ("parameter",),
    "runs.shown_tags": ("tag",),
    "runs.shown_metrics": ("metric", "metric.min", "metric.max", "metric.points"),
}
"""Queries for the values of some runs, and the kinds of columns they have."""


def _sql_of(key: str) -> str:
    return QUERIED.attributes[key].sql


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


def position_of(cursor: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Return how far the streams are folded: the position of the last event of each partition."""
    found: dict[str, list[str]] = {"registry": [], "runs": []}
    for stream, partition, next_offset in cursor.execute(sql("runs.positions")).fetchall():
        found[stream].append(str(Position(stream, partition, next_offset - 1)))
    return {"registry": next(iter(found["registry"]), None), "runs": found["runs"]}


def _shown(column: Column, value: Any) -> Any:
    """Return a value of a column for JSON."""
    return time_of(value) if column.type == "time" else plain(value)


def as_json(answer: Answer) -> dict[str, Any]:
    """Return an answer for JSON."""
    return {"rows": answer.dicts(), **answer.about}


def as_arrow(answer: Answer) -> bytes:
    """Return an answer as an Arrow stream of its rows; the rest is in the schema's metadata."""
    return arrow_stream([_batch(answer.columns, answer.rows)], answer.about)


def arrow_stream(batches: Sequence[pa.RecordBatch], about: Mapping[str, Any]) -> bytes:
    """Return batches as an Arrow stream, with the rest as JSON in the schema's metadata."""
    import pyarrow as pa

    text = json.dumps(about, ensure_ascii=False, allow_nan=False)
    metadata = {"modeltrail": text.encode("utf-8", "replace")}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema.with_metadata(metadata)) as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(metadata))
    return bytes(sink.getvalue())


def all_rows(finder: Finder, format: str) -> Iterator[bytes]:
    """Yield all rows as CSV or Parquet, in pieces. Raises ``InvalidRequest``."""
    columns, chunks = finder.everything()
    empty = _batch(columns, [])
    types = [str(field.type) for field in empty.schema]
    batches = (_batch(columns, rows) for rows in chunks)
    result = Result([column.name for column in columns], types, empty.schema, batches)
    return pieces(result, format, CELLS_MAX)


def _batch(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "number": pa.float64(),
        "integer": pa.int64(),
        "time": pa.timestamp("us", "UTC"),
        "boolean": pa.bool_(),
    }
    values = zip(*rows, strict=True) if rows else ([] for _ in columns)
    arrays = [
        pa.array(
            map(datetime_of, some) if column.type == "time" else some,
            types[column.type],
        )
        for column, some in zip(columns, values, strict=True)
    ]
    schema = pa.schema([(column.name, types[column.type]) for column in columns])
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
