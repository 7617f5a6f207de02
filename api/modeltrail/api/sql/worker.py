"""The process for a query that could take any amount of memory or time.

It limits itself before it reads a query, so that the kernel enforces the limits: memory, CPU time,
file sizes. It can access no files except its own spill folder, and no network. Its database has the
public views as tables, empty at first. For each query it

1. plans the query over the empty tables, which shows what it reads: columns, simple conditions;
2. asks the server for that, and fills the tables;
3. runs the query, and sends the answer.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import IO, Any, Final, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet

from modeltrail.api.errors import InvalidRequest
from modeltrail.api.imports import leave_out_pandas
from modeltrail.api.sql.formats import pieces, result_of
from modeltrail.api.sql.limits import Params, refusal
from modeltrail.api.sql.text import inlined, tokens
from modeltrail.api.sql.workers import (
    DONE,
    ERROR,
    LOADED,
    NEEDED,
    OPERATORS,
    PIECE,
    Unclosed,
    file_of,
    receive,
    send,
)
from modeltrail.consumers.public import AS_OF, MACROS, words

_SLACK_BYTES: Final = 96 * 1024**2
"""Memory outside of DuckDB: vectors, Arrow, encoding the answer."""
_NICENESS: Final = 5
_PARENT_EVERY_S: Final = 1.0
_ROUNDS_MAX: Final = 4
# Optimisers that rely on the contents of the tables, which are empty while planning.
_UNSOUND_WHEN_EMPTY: Final = "statistics_propagation,join_order,compressed_materialization"
# They would do no harm here, but they reveal the process or run text that was not planned.
_REFUSED: Final = words("""
    arrow_scan arrow_scan_dumb checkpoint create_external_resource current_setting currval
    duckdb_logs duckdb_secrets duckdb_settings enable_logging enable_profiling force_checkpoint
    getenv getvariable json_execute_serialized_sql nextval pandas_scan pg_backend_pid
    pg_settings python_map_function query query_table set_bit_config set_config setval
    txid_current which_secret write_log
    """)
_KINDS: Final = (
    duckdb.StatementType.SELECT,
    duckdb.StatementType.EXPLAIN,
    duckdb.StatementType.MULTI,
)

Condition = tuple[str, str, list[Any]]
"""Column, operator, values."""


class Scan(NamedTuple):
    """What a plan reads of one relation."""

    schema: str
    name: str
    columns: frozenset[str]
    conditions: tuple[Condition, ...]


def main() -> None:
    """Answer queries until the server is gone."""
    leave_out_pandas()
    channel = socket.socket(fileno=int(sys.argv[1]))
    in_ = file_of(channel, "rb")
    out = file_of(channel, "wb")
    frame = receive(in_)
    if frame is None:
        return
    setup = json.loads(frame[1])
    threading.Thread(target=_watch, args=(setup["parent"],), daemon=True).start()
    planners = {False: _database(setup, planning=True)}  # by whether an administrator asks
    database = _database(setup)
    _limit(setup)
    while (frame := receive(in_)) is not None:
        question = json.loads(frame[1])
        admin = question["admin"]
        _limit_time(question["timeout_s"], setup["threads"])
        if admin not in planners:
            planners[admin] = _database(setup, planning=True)
            _tables(planners[admin], setup, admin=True)
        query = _Query(planners[admin], database, setup, question, in_, out)
        try:
            query.answer()
        except (Exception, RecursionError) as error:
            known = refusal(error)
            message = {
                "message": known.message,
                "code": known.code,
                "memory": isinstance(error, MemoryError) or "more memory" in known.message,
            }
            send(out, ERROR, json.dumps(message).encode())
        else:
            send(out, DONE, b"")
        if query.begun:
            database.close()
            database = _database(setup)


def _watch(parent: int) -> None:
    """End with the server, however it ends."""
    while os.getppid() == parent:
        time.sleep(_PARENT_EVERY_S)
    os._exit(1)


def _limit(setup: Mapping[str, Any]) -> None:
    """Limit the memory of this process from here on."""
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = setup["spill_bytes_max"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (files, files))
    used = _data_bytes()
    if used is not None:
        most = used + setup["memory_bytes"] + _SLACK_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")


def _data_bytes() -> int | None:
    """Return the memory that ``RLIMIT_DATA`` counts, or None if the kernel does not tell."""
    with suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return None


def _limit_time(timeout_s: float, threads: int) -> None:
    """End this process if the server cannot, because it is gone or stuck."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime + (timeout_s + 5) * (threads + 1)) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))


def _database(setup: Mapping[str, Any], *, planning: bool = False) -> duckdb.DuckDBPyConnection:
    """Return a locked-down database with the relations as empty tables."""
    con = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{setup['memory_bytes']}B",
            "threads": 1 if planning else setup["threads"],
            "temp_directory": setup["spill"],
            "max_temp_directory_size": f"{setup['spill_bytes_max']}B",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",
        },
    )
    con.execute("SET GLOBAL TimeZone = 'UTC'")
    if planning:
        con.execute(f"SET GLOBAL disabled_optimizers = '{_UNSOUND_WHEN_EMPTY}'")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    con.execute(f"CREATE SCHEMA {AS_OF}")
    _tables(con, setup, admin=False)
    for macro in setup["macros"]:
        con.execute(macro)
    return con


def _tables(con: duckdb.DuckDBPyConnection, setup: Mapping[str, Any], *, admin: bool) -> None:
    statements = []
    for schema, name, columns, for_admins in setup["relations"]:
        if for_admins == admin:
            typed = ", ".join(f'"{column}" {type}' for column, type in columns.items())
            statements.append(f'CREATE TABLE "{schema}"."{name}" ({typed});')
    con.execute("\n".join(statements))


class _Query:
    """A query in progress."""

    def __init__(
        self,
        planner: duckdb.DuckDBPyConnection,
        database: duckdb.DuckDBPyConnection,
        setup: Mapping[str, Any],
        question: Mapping[str, Any],
        in_: IO[bytes],
        out: IO[bytes],
    ) -> None:
        self.begun = False
        """Whether it has used its database, which is then not used for another query."""
        self._planner = planner
        self._database = database
        self._setup = setup
        self._admin: bool = question["admin"]
        self._columns: dict[tuple[str, str], list[str]] = {
            (schema, name): list(columns)
            for schema, name, columns, admin in setup["relations"]
            if self._admin or not admin
        }
        self._statement: str = question["statement"]
        self._params: Params | None = question["params"] or None
        self._format: str = question["format"]
        self._rows: int = question["limit"]
        self._in = in_
        self._out = out

    def answer(self) -> None:
        """Fill the tables, run the query, send the answer."""
        kind = self._check()
        if kind != duckdb.StatementType.EXPLAIN:
            self._load(kind)
        send(self._out, LOADED, b"")
        text = self._statement
        if kind == duckdb.StatementType.SELECT:
            text = f"SELECT * FROM (\n{text}\n) LIMIT {self._rows + 1}"
        con = self._begin()
        con.execute("BEGIN TRANSACTION READ ONLY")
        relation = con.sql(text, params=self._params) if self._params else con.sql(text)
        for piece in pieces(result_of(relation), self._format, self._rows):
            send(self._out, PIECE, piece)

    def _begin(self) -> duckdb.DuckDBPyConnection:
        if self._admin and not self.begun:
            _tables(self._database, self._setup, admin=True)
        self.begun = True
        return self._database

    def _check(self) -> duckdb.StatementType:
        statements = self._planner.extract_statements(self._statement)
        if len(statements) != 1:
            raise InvalidRequest(f"exactly one statement is allowed, found {len(statements)}")
        kind = statements[0].type
        words = [word.lower() for word in tokens(self._statement)]
        if kind not in _KINDS or (kind == duckdb.StatementType.MULTI and "pivot" not in words):
            raise InvalidRequest(
                "only queries are allowed (SELECT, FROM, WITH, VALUES, PIVOT, DESCRIBE, SUMMARIZE, "
                f"SHOW, EXPLAIN), not {kind.name}"
            )
        if kind == duckdb.StatementType.EXPLAIN and "analyze" in words:
            raise InvalidRequest("EXPLAIN shows the plan; EXPLAIN ANALYZE is not available here")
        for name in words:
            if name in _REFUSED:
                raise InvalidRequest(f"{name} is not available here")
        return kind

    def _load(self, kind: duckdb.StatementType) -> None:
        inline = inlined(self._statement, self._params)
        if kind != duckdb.StatementType.SELECT or inline is None:
            self._fetch_named()
            return
        loaded: dict[tuple[str, str], set[str]] = {}
        planner = self._planner
        for _ in range(_ROUNDS_MAX):
            scans = _scans(planner, inline)
            if scans is None:
                self._fetch_named()
                return
            missing = [
                scan
                for scan in _merged(scans)
                if not scan.columns <= loaded.get((scan.schema, scan.name), set())
                or (scan.schema, scan.name) not in loaded
            ]
            if not missing:
                return
            for scan in missing:
                key = scan.schema, scan.name
                columns = scan.columns | loaded.get(key, set())
                if key in loaded:
                    self._database.execute(f'DELETE FROM "{scan.schema}"."{scan.name}"')
                    scan = scan._replace(conditions=())
                self._fetch(key, columns, [scan.conditions] if scan.conditions else [])
                loaded[key] = set(columns)
            planner = self._database  # with rows in it, this is the plan that will run
        self._fetch_named()

    def _fetch_named(self) -> None:
        """Load whole relations, by the names in the text, if the query cannot be planned ahead."""
        words = {word.lower() for word in tokens(self._statement, quoted=True)}
        for key, columns in self._columns.items():
            schema, name = key
            if name in words if schema == "main" else words & MACROS:
                self._begin().execute(f'DELETE FROM "{schema}"."{name}"')
                self._fetch(key, columns, [])

    def _fetch(
        self,
        key: tuple[str, str],
        columns: Iterable[str],
        conditions: list[tuple[Condition, ...]],
    ) -> None:
        schema, name = key
        # If no column is read, as for count(*), any column stands for the rows.
        names = sorted(columns) or self._columns[key][:1]
        needed = {"schema": schema, "name": name, "columns": names, "conditions": conditions}
        send(self._out, NEEDED, json.dumps(needed).encode())
        reader = pa.ipc.open_stream(Unclosed(self._in))
        con = self._begin()
        con.register("incoming", reader)
        try:
            listed = ", ".join(f'"{column}"' for column in names)
            con.execute(f'INSERT INTO "{schema}"."{name}" ({listed}) SELECT * FROM incoming')
        finally:
            con.unregister("incoming")


def _scans(con: duckdb.DuckDBPyConnection, statement: str) -> list[Scan] | None:
    """Return what the plan of a query reads, or None if DuckDB does not show it.

    Raises:
        duckdb.Error: DuckDB does not accept the query.
    """
    row = con.execute("SELECT json_serialize_plan(?, optimize := true)", [statement]).fetchone()
    assert row is not None
    try:
        plan = json.loads(row[0])
    except (ValueError, RecursionError):
        return None  # DuckDB writes infinities in a way that is not JSON
    if plan.get("error"):
        con.sql(statement)  # raises if the query itself is wrong
        return None
    found = []
    todo = [plan]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo.extend(node)
        elif isinstance(node, dict):
            if node.get("type") == "LOGICAL_GET" and "table" in (node.get("function_data") or {}):
                found.append(_scan(node))
            todo.extend(node.values())
    return found


def _scan(node: Mapping[str, Any]) -> Scan:
    names = node["names"]
    indexes = [column["index"] for column in node["column_indexes"]]
    columns = frozenset(names[i] for i in indexes if i < len(names))
    conditions: list[Condition] = []
    for entry in (node.get("table_filters") or {}).get("filters") or ():
        index = indexes[entry["key"]] if entry["key"] < len(indexes) else len(names)
        if node.get("table_filters_by_projection") and index < len(names):
            conditions += _conditions(names[index], entry["value"])
    data = node["function_data"]
    return Scan(data["schema"], data["table"], columns, tuple(conditions))


def _conditions(column: str, filter: Mapping[str, Any]) -> Iterator[Condition]:
    """Return conditions that are true wherever a filter is. Unknown expressions filter nothing."""
    type = str(filter.get("filter_type", "")).removeprefix("LEGACY_")
    if type == "OPTIONAL_FILTER" and filter.get("child_filter"):
        yield from _conditions(column, filter["child_filter"])
    elif type == "CONJUNCTION_AND":
        for child in filter.get("child_filters") or ():
            yield from _conditions(column, child)
    elif type in ("IS_NULL", "IS_NOT_NULL"):
        yield column, type, []
    elif type == "IN_FILTER":
        values = [_constant(value) for value in filter["values"]]
        if values and all(value is not None for value in values):
            yield column, "IN", values
    elif type == "CONSTANT_COMPARISON" and filter.get("comparison_type") in OPERATORS:
        value = _constant(filter["constant"])
        if value is not None:
            yield column, filter["comparison_type"], [value]


def _constant(constant: Mapping[str, Any]) -> Any:
    """Return a constant that is the same in JSON and in DuckDB, or None."""
    value = constant.get("value")
    simple = {"VARCHAR": str, "BOOLEAN": bool, "INTEGER": int, "BIGINT": int}
    expected = simple.get(constant["type"]["id"])
    return value if expected is not None and type(value) is expected else None


def _merged(scans: Iterable[Scan]) -> Iterator[Scan]:
    """Return one scan for each relation, of everything that its scans read."""
    by_relation: dict[tuple[str, str], list[Scan]] = {}
    for scan in scans:
        by_relation.setdefault((scan.schema, scan.name), []).append(scan)
    for (schema, name), same in by_relation.items():
        columns = frozenset[str]().union(*(scan.columns for scan in same))
        yield Scan(schema, name, columns, same[0].conditions if len(same) == 1 else ())


if __name__ == "__main__":
    with suppress(OSError):
        main()
    os._exit(0)  # skip DuckDB's check for leaks at exit
