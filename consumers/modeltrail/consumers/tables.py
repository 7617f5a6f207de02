"""Bulk reads and writes of DuckDB: columns go through Arrow, not row by row.

A handful of rows are the exception: planning a scan of an Arrow table costs more than planning a
few values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

_FEW_ROWS = 3
_FEW_VALUES = 64

Columns = Mapping[str, Any]
"""Column name to a list, a NumPy array or an Arrow array, all of equal length."""


def run(con: duckdb.DuckDBPyConnection, sql: str, batch: Columns, **types: pa.DataType) -> None:
    """Run a statement that reads the columns as table ``batch``."""
    _with(con, "batch", sql, batch, types)


def insert(
    con: duckdb.DuckDBPyConnection, table: str, batch: Columns, **types: pa.DataType
) -> None:
    """Insert rows, with columns matched by name. ``types`` has the types of nested columns."""
    if not len(next(iter(batch.values()))):
        return
    rows = None if types else _few(batch)
    if rows is None:
        _with(con, "batch", f"INSERT INTO {table} BY NAME SELECT * FROM batch", batch, types)
    else:
        names = ", ".join(f'"{name}"' for name in batch)
        con.execute(
            f"INSERT INTO {table} ({names}) VALUES {_marks(rows)}", list(chain.from_iterable(rows))
        )


def update(con: duckdb.DuckDBPyConnection, table: str, keys: Sequence[str], batch: Columns) -> None:
    """Update the rows found by the ``keys`` with the values of the other columns."""
    rows = _few(batch)
    names = [*keys, *(name for name in batch if name not in keys)]
    changing = names[len(keys) :]
    if rows is None:
        assignments = ", ".join(f'"{name}" = b."{name}"' for name in changing)
        run(
            con, f"UPDATE {table} SET {assignments} FROM batch b WHERE {_match(table, keys)}", batch
        )
        return
    assignments = ", ".join(f'"{name}" = ?' for name in changing)
    condition = " AND ".join(f'"{key}" = ?' for key in keys)
    order = [list(batch).index(name) for name in [*changing, *keys]]
    for row in rows:
        con.execute(f"UPDATE {table} SET {assignments} WHERE {condition}", [row[i] for i in order])


def delete(con: duckdb.DuckDBPyConnection, table: str, keys: Columns) -> None:
    """Delete the rows found by the keys. Every column is a key."""
    rows = _few(keys)
    if rows is None:
        run(con, f"DELETE FROM {table} USING batch b WHERE {_match(table, list(keys))}", keys)
        return
    condition = " AND ".join(f'"{key}" = ?' for key in keys)
    any_of = " OR ".join([f"({condition})"] * len(rows))
    con.execute(f"DELETE FROM {table} WHERE {any_of}", list(chain.from_iterable(rows)))


def _match(table: str, keys: Sequence[str]) -> str:
    return " AND ".join(f'{table}."{key}" = b."{key}"' for key in keys)


def _few(columns: Columns) -> list[list[Any]] | None:
    """Return the rows of the columns if there are few."""
    n = len(next(iter(columns.values())))
    if n > _FEW_ROWS or n * len(columns) > _FEW_VALUES:
        return None
    lists = []
    for values in columns.values():
        if isinstance(values, np.ndarray):
            values = values.tolist()
        elif isinstance(values, pa.Array):
            values = values.to_pylist()
        lists.append(values)
    return [list(row) for row in zip(*lists, strict=True)]


def _marks(rows: list[list[Any]]) -> str:
    return ", ".join([f"({', '.join('?' * len(rows[0]))})"] * len(rows))


def lookup(con: duckdb.DuckDBPyConnection, sql: str, wanted: Columns) -> list[tuple[Any, ...]]:
    """Return the rows of a query that reads the columns as table ``wanted``."""
    return _with(con, "wanted", sql, wanted, {})


def _with(
    con: duckdb.DuckDBPyConnection,
    name: str,
    sql: str,
    columns: Columns,
    types: Mapping[str, pa.DataType],
) -> list[tuple[Any, ...]]:
    rows = None if types else _few(columns)
    if rows:
        names = ", ".join(f'"{name}"' for name in columns)
        table = f"WITH {name}({names}) AS (VALUES {_marks(rows)})"
        return con.execute(f"{table} {sql}", list(chain.from_iterable(rows))).fetchall()
    arrays = {k: _array(v, types.get(k)) for k, v in columns.items()}
    con.register(name, pa.table(arrays))
    try:
        return con.execute(sql).fetchall()
    finally:
        con.unregister(name)


def _array(values: Any, type: pa.DataType | None) -> pa.Array:
    """Make an Arrow array of a given type.

    Inferring the type costs 60 µs, because Arrow tries to import pandas.
    """
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
    """Return the single value of a query."""
    return con.execute(sql).fetchall()[0][0]


def rows(items: Sequence[Any], names: Sequence[str]) -> dict[str, list[Any]]:
    """Return columns of the named attributes of objects."""
    return {name: [getattr(item, name) for item in items] for name in names}
