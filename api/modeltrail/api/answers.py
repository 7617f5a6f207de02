"""Rows, values and pages as they appear in answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.pages import Pages

if TYPE_CHECKING:
    import duckdb


EPOCH: Final = datetime(1970, 1, 1)
_MS_MIN, _MS_MAX = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999, as in the views."""


def datetime_of(ms: float | None) -> datetime | None:
    """Return milliseconds since 1970 as a time in UTC, without a zone; None if out of range."""
    if ms is None or not _MS_MIN <= ms <= _MS_MAX:
        return None
    return EPOCH + timedelta(milliseconds=ms)


def time_of(ms: float | None) -> str | None:
    """Return milliseconds since 1970 as a time for JSON; None if it is out of range."""
    moment = datetime_of(ms)
    return None if moment is None else str(plain(moment))


def plain(value: Any) -> Any:
    """Return a value for JSON: ISO 8601 times, hexadecimal bytes, NaN and infinities as text."""
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


def rows(cursor: duckdb.DuckDBPyConnection, query: str, params: Any = None) -> list[dict[str, Any]]:
    """Return the rows of a query as dicts, with values for JSON."""
    result = cursor.execute(query, params) if params is not None else cursor.execute(query)
    names = [column[0] for column in result.description or ()]
    return [
        {name: plain(value) for name, value in zip(names, row, strict=True)}
        for row in result.fetchall()
    ]


def one(
    cursor: duckdb.DuckDBPyConnection, query: str, params: Sequence[Any], missing: str
) -> dict[str, Any]:
    """Return the only row of a query. Raises ``NotFound``."""
    found = rows(cursor, query, params)
    if not found:
        raise NotFound(missing)
    return found[0]


def page(
    items: list[dict[str, Any]], limit: int, pages: Pages, last: Sequence[str]
) -> dict[str, Any]:
    """Return one page of a list that was read with one item more than the limit."""
    token = None
    if len(items) > limit:
        items = items[:limit]
        token = pages.token(last=[items[-1][column] for column in last])
    return {pages.name: items, "next_page_token": token}


def parse_time(text: str, name: str) -> datetime:
    """Parse a time to UTC without a zone, as in the views. Raises ``InvalidRequest``."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidRequest(
            f"{name}: not a time: {text[:100]!r}; expected as in '2026-03-01T12:00:00Z'"
        ) from None
    if moment.tzinfo is not None:
        try:
            moment = moment.astimezone(UTC)
        except OverflowError:
            raise InvalidRequest(f"{name}: out of range: {text[:100]!r}") from None
    return moment.replace(tzinfo=None)
