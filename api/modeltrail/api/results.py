"""The result of a query, as rows, as a data frame, or for display."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from modeltrail.api import tables
from modeltrail.producers.notebook import link, sparkline, table

_CELL_CHARACTERS_MAX = 40


class QueryResult:
    """All rows of a query. It prints as a table and iterates over its rows.

    Values are those of DuckDB's Python client: ``datetime`` (UTC, without a time zone, as in the
    views), ``bytes``, ``Decimal``, lists, and ``dict`` for MAP and STRUCT.
    """

    def __init__(self, columns: list[str], rows: list[tuple[Any, ...]] | None, table: Any) -> None:
        """Use ``query``."""
        self.columns = columns
        """Names of the columns."""
        self.page: str | None = None
        """Address of the page that shows the query, if a server answered it."""
        self._rows = rows
        self._table = table

    @classmethod
    def of_json(cls, data: bytes) -> QueryResult:
        """Make it from a JSON answer."""
        found = json.loads(data)
        readers = [_reader(type) for type in found["types"]]
        rows = [
            tuple(
                None if value is None else read(value)
                for read, value in zip(readers, row, strict=True)
            )
            for row in found["rows"]
        ]
        return cls(found["columns"], rows, None)

    @classmethod
    def of_arrow(cls, data: bytes) -> QueryResult:
        """Make it from an Arrow IPC stream."""
        import pyarrow as pa

        table = pa.ipc.open_stream(data).read_all()
        return cls(table.column_names, None, table)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows as tuples, in the order of ``columns``."""
        if self._rows is None:
            columns = [
                [_plain(value) for value in column.to_pylist(maps_as_pydicts="strict")]
                for column in self._table.columns
            ]
            self._rows = (
                list(zip(*columns, strict=True)) if columns else [()] * self._table.num_rows
            )
        return self._rows

    def dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dicts by column.

        If columns have the same name, the last one counts.
        """
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows()]

    def arrow(self) -> Any:
        """Return the result as a ``pyarrow.Table``. Raises ``ImportError`` without pyarrow."""
        if self._table is None:
            raise ImportError(
                "pyarrow was not installed when the query ran: pip install pyarrow, then run it "
                "again; rows() needs nothing"
            )
        return self._table

    def df(self) -> Any:
        """Return the result as a ``pandas.DataFrame``. Raises ``ImportError`` without pandas."""
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("df() needs pandas: pip install pandas") from None
        if self._table is None:
            return pd.DataFrame.from_records(self.rows(), columns=self.columns)
        return _whole_numbers(self._table).to_pandas()

    def pl(self) -> Any:
        """Return the result as a ``polars.DataFrame``. Raises ``ImportError`` without polars."""
        try:
            import polars as pl
        except ImportError:
            raise ImportError("pl() needs polars: pip install polars") from None
        if self._table is None:
            return pl.DataFrame(
                self.rows(), schema=self.columns, orient="row", infer_schema_length=None
            )
        return pl.from_arrow(_whole_numbers(self._table))

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows())

    def __len__(self) -> int:
        return len(self._rows) if self._rows is not None else int(self._table.num_rows)

    def __repr__(self) -> str:
        """Return a table of the first and last rows."""
        width = shutil.get_terminal_size((100, 24)).columns
        return tables.drawn(self.columns, self.rows(), width)

    def _repr_html_(self) -> str:
        """Return the same table for notebooks. Lists of numbers are lines."""
        head, tail = tables.split(self.rows(), tables.ROWS_SHOWN)
        shown = [[_cell(value) for value in row] for row in head]
        if tail:
            shown += [["…"] * len(self.columns)]
            shown += [[_cell(value) for value in row] for row in tail]
        size = tables.size_text(
            len(self.columns), len(self), len(self.columns), len(head) + len(tail)
        )
        if self.page is not None:
            size += f" · {link(self.page, 'open in the page')}"
        names = [html.escape(tables.cell_text(name)) for name in self.columns]
        return f"{table(shown, names)}<p>{size}</p>"


def _cell(value: Any) -> str:
    """Return a value as HTML."""
    if isinstance(value, list) and (line := sparkline(value)):
        return line
    return html.escape(_short(value))


def _short(value: Any) -> str:
    return tables.cut(tables.cell_text(value), _CELL_CHARACTERS_MAX)


def _reader(type: str) -> Callable[[Any], Any]:
    """Return a function that converts the JSON of a DuckDB type to a value."""
    if type.endswith("]"):
        of = _reader(type[: type.rindex("[")])
        return lambda values: [None if v is None else of(v) for v in values]
    if type.startswith("MAP("):
        return dict
    if type.startswith("DECIMAL"):
        return lambda value: _plain(Decimal(str(value)))
    return _READERS.get(type, lambda value: value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "BLOB": bytes.fromhex,
    "DATE": date.fromisoformat,
    "DOUBLE": float,
    "FLOAT": float,
    "TIME": time.fromisoformat,
    "TIMESTAMP": lambda text: datetime.fromisoformat(text).replace(tzinfo=None),
    "TIMESTAMP WITH TIME ZONE": datetime.fromisoformat,
}


def _plain(value: Any) -> Any:
    """Return a value, with a decimal without a fraction as an integer.

    Arrow has no 128-bit integer, and sends one as such a decimal.
    """
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        return int(value)
    return value


def _whole_numbers(table: Any) -> Any:
    """Return the table with 128-bit integers, as from ``sum``, as 64-bit ones if they fit."""
    import pyarrow as pa

    for at, field in enumerate(table.schema):
        if field.type == pa.decimal128(38, 0):
            try:
                column = table.column(at).cast(pa.int64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(at, field.name, column)
    return table
