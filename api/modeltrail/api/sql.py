"""SQL for people: one query, read-only for certain, with limits.

Several walls stand behind each other, each of which would do alone against most attacks: the
statement must parse as exactly one query; its parse tree must name no function that changes
anything, that reads outside of the database, or that makes huge values from small arguments; it
runs in a read-only transaction; and the database itself has no access to files, network,
extensions or settings (``modeltrail.consumers.store``).
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb

from modeltrail.api.errors import ApiError, InvalidRequest, TimedOut, TooBusy

if TYPE_CHECKING:
    import pyarrow as pa

STATEMENT_CHARACTERS_MAX = 100_000
TIMEOUT_S = 30.0
TIMEOUT_S_MAX = 600.0
ROWS_MAX = 100_000_000
_BATCH_ROWS = 10_000

# Table functions that read nothing but the database; everything else is refused by default.
_TABLE_FUNCTIONS = frozenset(
    [
        "generate_series",
        "range",
        "unnest",
        "repeat_row",
        "json_each",
        "json_tree",
        "json_array_elements",
        "duckdb_columns",
        "duckdb_constraints",
        "duckdb_functions",
        "duckdb_indexes",
        "duckdb_keywords",
        "duckdb_schemas",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "pragma_table_info",
        "pragma_show",
        "aliases_at",
        "stages_at",
        "experiments_at",
        "models_at",
        "model_versions_at",
        "aliases_as_of",
        "stages_as_of",
        "experiments_as_of",
        "models_as_of",
        "model_versions_as_of",
        "icu_calendar_names",
        "pg_timezone_names",
    ]
)
# Scalar functions that change something or tell about the server, and those that make huge values
# from small arguments: DuckDB computes them in one go, past its memory limit and its time limit.
_REFUSED_FUNCTIONS = frozenset(
    [
        "nextval",
        "currval",
        "setval",
        "write_log",
        "getenv",
        "current_setting",
        "set_config",
        "set_bit_config",
        "getvariable",
        "txid_current",
        "pg_backend_pid",
        "json_execute_serialized_sql",
        "query",
        "query_table",
        "checkpoint",
        "force_checkpoint",
        "repeat",
        "lpad",
        "rpad",
        "bar",
        "range",
        "generate_series",
        "list_resize",
        "array_resize",
        "format",
        "printf",
        "list_pad",
        "repeat_row",
    ]
)
# Views of DuckDB that tell about the server and not about what it tracks, and tables of hashes and
# encrypted secrets.
_REFUSED_TABLES = frozenset(
    ("duckdb_databases", "duckdb_logs", "pragma_database_list", "secrets", "webhook_secrets")
)
_WRITING_NODES = "_QUERY_NODE"  # as in DELETE_QUERY_NODE; those that only read end otherwise

Params = Sequence[Any] | Mapping[str, Any]


def check(cursor: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Refuse everything but one harmless query.

    Raises:
        InvalidRequest: with what is wrong about the statement.
    """
    if len(statement) > STATEMENT_CHARACTERS_MAX:
        raise InvalidRequest(
            f"the statement has {len(statement):,} characters; "
            f"{STATEMENT_CHARACTERS_MAX:,} are allowed"
        )
    if "\0" in statement:
        raise InvalidRequest("the statement contains a NUL character")
    try:
        statement.encode()
        statements = cursor.extract_statements(statement)
    except (duckdb.Error, UnicodeError) as error:
        raise InvalidRequest(str(error), code="SQL_ERROR") from None
    if len(statements) != 1:
        raise InvalidRequest(f"exactly one statement is allowed, found {len(statements)}")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        raise InvalidRequest(
            f"only queries are allowed (SELECT, FROM, WITH, VALUES, DESCRIBE, SUMMARIZE, SHOW), "
            f"not {kind.name}; a PIVOT needs its values spelled out: PIVOT ... ON x IN (...)"
        )
    row = cursor.execute("SELECT json_serialize_sql(?)", [statement]).fetchone()
    tree = json.loads(row[0]) if row else {"error": True}
    if tree.get("error"):
        raise InvalidRequest(f"not a query: {tree.get('error_message', '')}")
    _check_node(tree)


def _check_node(root: Any) -> None:
    todo: list[tuple[Any, bool]] = [(root, False)]
    while todo:
        node, is_source = todo.pop()
        if isinstance(node, list):
            todo.extend((child, False) for child in node)
        elif isinstance(node, dict):
            if str(node.get("type", "")).endswith(_WRITING_NODES):
                raise InvalidRequest("a query must not change anything")
            if str(node.get("table_name", "")).lower() in _REFUSED_TABLES:
                raise InvalidRequest(f"{node['table_name']} is not for here")
            name = node.get("function_name")
            if isinstance(name, str):
                _check_function(name.lower(), is_source)
            source = node.get("type") == "TABLE_FUNCTION"
            todo.extend((child, source and key == "function") for key, child in node.items())


def _check_function(name: str, is_source: bool) -> None:
    if is_source and name not in _TABLE_FUNCTIONS:
        raise InvalidRequest(
            f"table function {name} is not allowed here; queries read the database and nothing else"
        )
    if not is_source and name in _REFUSED_FUNCTIONS:
        hint = ""
        if name in ("range", "generate_series"):
            hint = f"; use it as a table, as in FROM {name}(10)"
        raise InvalidRequest(f"function {name} is not allowed here{hint}")


class Result:
    """A result on its way: columns, types, and rows as Arrow batches."""

    def __init__(
        self,
        columns: list[str],
        types: list[str],
        schema: pa.Schema,
        batches: Iterator[pa.RecordBatch],
    ) -> None:
        """Wrap what DuckDB gives."""
        self.columns = columns
        self.types = types
        self.schema = schema
        self._batches = batches
        self.truncated = False
        """Whether there was more than the limit; known when all batches were taken."""

    def batches(self, limit: int) -> Iterator[pa.RecordBatch]:
        """The rows, up to a limit."""
        left = limit
        for batch in self._batches:
            if batch.num_rows > left:
                self.truncated = True
                if left:
                    yield batch.slice(0, left)
                return
            left -= batch.num_rows
            yield batch


class Queries:
    """Runs queries, a few at a time."""

    def __init__(self, at_once: int = 8, wait_s: float = 10.0) -> None:
        """Make a gate: at most ``at_once`` queries; others wait up to ``wait_s`` seconds."""
        self._gate = threading.BoundedSemaphore(at_once)
        self._wait_s = wait_s

    @contextmanager
    def run(
        self,
        cursor: duckdb.DuckDBPyConnection,
        statement: str,
        params: Params | None = None,
        *,
        limit: int,
        timeout_s: float = TIMEOUT_S,
    ) -> Iterator[Result]:
        """Run one query; the block must take the result.

        Args:
            cursor: A cursor of the fold, for this query alone.
            statement: The query.
            params: Values for ``?`` or ``$name``.
            limit: Rows that will be taken; the query makes at most one more.
            timeout_s: Time for the query and for taking its result, in seconds.

        Raises:
            InvalidRequest: not a harmless query, or DuckDB does not accept it.
            TimedOut: not done in time.
            TooBusy: too many queries are under way.
        """
        if not self._gate.acquire(timeout=self._wait_s):
            raise TooBusy("too many queries are under way; try again in a moment")
        try:
            statement = _bare(statement)
            check(cursor, statement)
            expired = threading.Event()

            def expire() -> None:
                expired.set()
                cursor.interrupt()

            timer = threading.Timer(timeout_s, expire)
            timer.daemon = True
            timer.start()
            try:
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                # On its own lines: the statement may end in a comment.
                text = f"SELECT * FROM (\n{statement}\n) LIMIT {limit + 1}"
                relation = cursor.sql(text, params=params) if params else cursor.sql(text)
                columns = list(relation.columns)
                types = [str(t) for t in relation.types]
                reader = relation.to_arrow_reader(_BATCH_ROWS)
                yield Result(columns, types, reader.schema, _guarded(reader, expired, timeout_s))
            except (duckdb.Error, OSError, ValueError, TypeError, OverflowError) as error:
                raise _refusal(error, expired.is_set(), timeout_s) from None
            finally:
                timer.cancel()
                timer.join()
                with suppress(duckdb.Error):  # an error may have ended the transaction
                    cursor.execute("ROLLBACK")
        finally:
            self._gate.release()


# Strings, quoted names, dollar quotes, comments, and semicolons outside of all of them.
_TOKEN = re.compile(
    r"""(?:\bE'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\1\$)"""
    r"|(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<end>;)",
    re.DOTALL | re.IGNORECASE,
)


def _bare(statement: str) -> str:
    """The statement without a semicolon after it, so that it fits into parentheses.

    What this returns is what is checked and run, so that a slip here cannot let anything through.
    """
    for found in _TOKEN.finditer(statement):
        if found["end"]:
            rest = _TOKEN.sub(lambda t: "" if t["comment"] else "x", statement[found.end() :])
            return statement if rest.strip() else statement[: found.start()]
    return statement


def _guarded(reader: Any, expired: threading.Event, timeout_s: float) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (duckdb.Error, OSError, ValueError) as error:
        raise _refusal(error, expired.is_set(), timeout_s) from None


def _refusal(error: Exception, expired: bool, timeout_s: float) -> ApiError:
    if isinstance(error, ApiError):
        return error
    text = str(error)
    if expired:
        return TimedOut(
            f"the query took longer than {timeout_s:g} s; narrow it, or ask with a longer timeout"
        )
    if "Out of Memory" in text or isinstance(error, duckdb.OutOfMemoryException):
        return InvalidRequest(
            "the query needs more memory than the server allows; narrow it", code="SQL_ERROR"
        )
    return InvalidRequest(text, code="SQL_ERROR")


# Formats


def plain(value: Any) -> Any:
    """A value as JSON has it: ISO 8601 times, hexadecimal bytes, NaN and infinities as text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, Decimal):
        return (
            int(value)
            if value == value.to_integral_value() and value.as_tuple().exponent == 0
            else str(value)
        )
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value)


def to_json(result: Result, limit: int) -> Iterator[bytes]:
    """``{"columns": [...], "types": [...], "rows": [[...], ...], "truncated": false}``."""
    head = {"columns": result.columns, "types": result.types}
    yield json.dumps(head, ensure_ascii=False)[:-1].encode() + b', "rows": ['
    first = True
    for batch in result.batches(limit):
        columns = [column.to_pylist() for column in batch.columns]
        rows = [
            json.dumps([plain(v) for v in row], ensure_ascii=False)
            for row in zip(*columns, strict=True)
        ]
        if rows:
            text = ("" if first else ",") + "\n" + ",\n".join(rows)
            first = False
            yield text.encode("utf-8", "replace")
    yield f'], "truncated": {json.dumps(result.truncated)}}}'.encode()


def to_csv(result: Result, limit: int) -> Iterator[bytes]:
    """CSV (RFC 4180) with a header line; NULL is empty."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out)

    def taken() -> bytes:
        text = out.getvalue()
        out.seek(0)
        out.truncate()
        return text.encode("utf-8", "replace")

    writer.writerow(result.columns)
    for batch in result.batches(limit):
        columns = [column.to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            writer.writerow([_cell(value) for value in row])
        yield taken()
    yield taken()


def _cell(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


class _Sink:
    """A file that hands out what was written to it."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data

    def flush(self) -> None:
        pass

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        pass


def to_arrow(result: Result, limit: int) -> Iterator[bytes]:
    """Arrow IPC stream."""
    import pyarrow as pa

    sink = _Sink()
    with pa.ipc.new_stream(sink, result.schema) as writer:
        yield sink.take()
        for batch in result.batches(limit):
            writer.write_batch(batch)
            yield sink.take()
    yield sink.take()


def to_parquet(result: Result, limit: int) -> Iterator[bytes]:
    """A Parquet file, compressed with zstd."""
    import pyarrow.parquet as pq

    sink = _Sink()
    with pq.ParquetWriter(sink, result.schema, compression="zstd") as writer:
        for batch in result.batches(limit):
            writer.write_batch(batch)
            data = sink.take()
            if data:
                yield data
    yield sink.take()


FORMATS: dict[str, tuple[str, Callable[[Result, int], Iterator[bytes]]]] = {
    "json": ("application/json", to_json),
    "csv": ("text/csv; charset=utf-8", to_csv),
    "arrow": ("application/vnd.apache.arrow.stream", to_arrow),
    "parquet": ("application/vnd.apache.parquet", to_parquet),
}
"""Format name to media type and writer."""
