"""The answers to queries, in pieces: JSON, CSV, Arrow and Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from modeltrail.api.answers import plain

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_PIECE_BYTES = 65_536
_TABLE_BYTES = 1024 * 1024
_BATCH_ROWS = 2_048
# How many values without a fixed size a batch may have, so that several batches of the longest
# texts fit into memory. Arrow's batches do not count towards DuckDB's memory limit.
_BATCH_TEXTS = 512
_FIXED_SIZE = (
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT",
    "UINTEGER", "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "DATE", "TIME", "TIMESTAMP",
    "INTERVAL", "UUID",
)  # fmt: skip


def has_fixed_size(types: list[str]) -> bool:
    """Return whether all values of these types have the same length."""
    return not _texts(types)


def _texts(types: list[str]) -> int:
    return sum(t.endswith("]") or not t.startswith(_FIXED_SIZE) for t in types)


def batch_rows(types: list[str], *, narrow: bool = False) -> int:
    """Return how many rows a batch of these types may have.

    ``narrow``: no text is longer than an id.
    """
    if narrow:
        return _BATCH_ROWS
    texts = _texts(types)
    return max(1, min(_BATCH_ROWS, _BATCH_TEXTS // texts)) if texts else _BATCH_ROWS


def result_of(relation: duckdb.DuckDBPyRelation, *, narrow: bool = False) -> Result:
    """Start to read a result, in batches of a size that depends on its types."""
    types = [str(t) for t in relation.types]
    reader = relation.to_arrow_reader(batch_rows(types, narrow=narrow))
    return Result(list(relation.columns), types, reader.schema, iter(reader))


class Result:
    """A result being read: columns, types, and rows as Arrow batches."""

    def __init__(
        self,
        columns: list[str],
        types: list[str],
        schema: pa.Schema,
        batches: Iterator[pa.RecordBatch],
    ) -> None:
        self.columns = columns
        self.types = types
        self.schema = schema
        self._batches = batches
        self.truncated = False
        """Whether there were more rows than the limit; known after all batches."""

    def batches(self, limit: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows, up to a limit."""
        left = limit
        for batch in self._batches:
            if batch.num_rows > left:
                self.truncated = True
                if left:
                    yield batch.slice(0, left)
                return
            left -= batch.num_rows
            yield batch

    def tables(self, limit: int) -> Iterator[pa.Table]:
        """Yield the rows, up to a limit, in pieces of about a megabyte."""
        import pyarrow as pa

        held: list[pa.RecordBatch] = []
        size = 0
        for batch in self.batches(limit):
            held.append(batch)
            size += batch.nbytes
            if size >= _TABLE_BYTES:
                yield pa.Table.from_batches(held)
                held, size = [], 0
        if held:
            yield pa.Table.from_batches(held)


def to_json(result: Result, limit: int) -> Iterator[bytes]:
    """Yield ``{"columns": [...], "types": [...], "rows": [[...], ...], "truncated": false}``."""
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
    """Yield CSV (RFC 4180) with a header line. NULL is empty."""
    import csv

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


class _Sink(io.RawIOBase):
    """A file that returns what was written to it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def to_arrow(result: Result, limit: int) -> Iterator[bytes]:
    """Yield an Arrow IPC stream."""
    import pyarrow as pa

    sink = _Sink()
    with pa.ipc.new_stream(sink, result.schema) as writer:
        yield sink.take()
        for table in result.tables(limit):
            writer.write_table(table.combine_chunks())
            yield sink.take()
    yield sink.take()


def to_parquet(result: Result, limit: int) -> Iterator[bytes]:
    """Yield a Parquet file, compressed with zstd."""
    import pyarrow.parquet as pq

    sink = _Sink()
    with pq.ParquetWriter(sink, result.schema, compression="zstd") as writer:
        for table in result.tables(limit):
            writer.write_table(table)
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


def pieces(result: Result, format: str, limit: int) -> Iterator[bytes]:
    """Yield an answer in pieces of at least 64 KiB except the last. Small answers are one piece."""
    held = bytearray()
    for piece in FORMATS[format][1](result, limit):
        held += piece
        if len(held) >= _PIECE_BYTES:
            yield bytes(held)
            held.clear()
    yield bytes(held)
