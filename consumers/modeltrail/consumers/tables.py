"""Rows into and out of DuckDB in bulk: columns go in through Arrow, never row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

Columns = Mapping[str, Any]
"""Column name to a list, a numpy array, or an Arrow array; all of equal length."""


def run(con: duckdb.DuckDBPyConnection, sql: str, batch: Columns, **types: pa.DataType) -> None:
    """Execute a statement that reads the columns as table ``batch``."""
    _with(con, "batch", sql, batch, types)


def insert(
    con: duckdb.DuckDBPyConnection, table: str, batch: Columns, **types: pa.DataType
) -> None:
    """Insert rows, matching columns by name. ``types`` gives those of nested columns."""
    if not len(next(iter(batch.values()))):
        return
    _with(con, "batch", f"INSERT INTO {table} BY NAME SELECT * FROM batch", batch, types)


def lookup(con: duckdb.DuckDBPyConnection, sql: str, wanted: Columns) -> list[tuple[Any, ...]]:
    """Rows of a query that reads the columns as table ``wanted``."""
    return _with(con, "wanted", sql, wanted, {})


def _with(
    con: duckdb.DuckDBPyConnection,
    name: str,
    sql: str,
    columns: Columns,
    types: Mapping[str, pa.DataType],
) -> list[tuple[Any, ...]]:
    arrays = {k: _array(v, types.get(k)) for k, v in columns.items()}
    con.register(name, pa.table(arrays))
    try:
        return con.execute(sql).fetchall()
    finally:
        con.unregister(name)


def _array(values: Any, type: pa.DataType | None) -> pa.Array:
    """An Arrow array of a type that is told; to guess costs Arrow 60 µs, as it looks for pandas."""
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, np.ndarray):
        type = pa.from_numpy_dtype(values.dtype)
    elif type is None:
        first = next((v for v in values if v is not None), None)
        type = _TYPES[first.__class__]
    return pa.array(values, type=type)


_TYPES = {
    type(None): pa.null(),
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
}


def scalar(con: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """The one value of a query of one row and column."""
    return con.execute(sql).fetchall()[0][0]


def rows(items: Sequence[Any], names: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of the named attributes of objects."""
    return {name: [getattr(item, name) for item in items] for name in names}


def script(con: duckdb.DuckDBPyConnection, package: str, file: str) -> None:
    """Execute the statements of a ``.sql`` file that lies beside the code of a package."""
    con.execute((resources.files(package) / file).read_text(encoding="utf-8"))
