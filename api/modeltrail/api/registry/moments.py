"""The time bar: how many requests came when, and the neighbours of a moment."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, Final

import duckdb

from modeltrail.api.access.rights import Rights
from modeltrail.api.answers import EPOCH, parse_time, rows, time_of
from modeltrail.api.errors import InvalidRequest
from modeltrail.api.registry import visible
from modeltrail.api.registry.reading import AS_OF_NOW, position_in, registry_position
from modeltrail.consumers.reading import sql


def moments(
    cursor: duckdb.DuckDBPyConnection,
    rights: Rights,
    since: str | None,
    until: str | None,
    buckets: int,
) -> dict[str, Any]:
    """Return how many requests that the caller may read were appended in equal spans of time.

    Args:
        cursor: The cursor to read with.
        rights: Those of the caller.
        since: Time or position of the beginning; None for the first request.
        until: Time or position of the end; None for the last request.
        buckets: Number of spans. Those without requests are left out.

    Raises:
        InvalidRequest: a time or position is wrong, or the end is before the beginning.
    """
    condition, values = visible.events(rights).named()
    first = None if since is None else moment_ms(cursor, since, "from")
    last = None if until is None else moment_ms(cursor, until, "to")
    if first is not None and last is not None and last < first:
        raise InvalidRequest("the span ends before it begins")
    span = {"first": first, "last": last, **values}
    n, first_offset, last_offset, first_ms, last_ms = cursor.execute(
        sql("moments.span", visible=condition), span
    ).fetchall()[0]
    begin = first_ms if first is None else first
    end = last_ms if last is None else last
    found: list[tuple[Any, ...]] = []
    width = 1
    if n:
        width = max(1, -(-(end - begin + 1) // buckets))
        found = cursor.execute(
            sql("moments.buckets", visible=condition), {**span, "begin": begin, "width": width}
        ).fetchall()
    return {
        "from": time_of(begin),
        "to": time_of(end),
        "events": n,
        "first": _moment(first_offset, first_ms),
        "last": _moment(last_offset, last_ms),
        "buckets": [
            {
                "from": time_of(begin + bucket * width),
                "to": time_of(min(begin + (bucket + 1) * width - 1, end)),
                "events": events,
                "refused": refused,
                "first_offset": first_in,
                "last_offset": last_in,
            }
            for bucket, events, refused, first_in, last_in in found
        ],
    }


def _moment(offset: int | None, ms: int | None) -> dict[str, Any] | None:
    if offset is None:
        return None
    return {"position": registry_position(offset), "log_offset": offset, "time": time_of(ms)}


def moment_ms(cursor: duckdb.DuckDBPyConnection, text: str | None, name: str) -> int:
    """Return the milliseconds since 1970 of a time, or of the request at a position; now for None.

    Raises:
        InvalidRequest: it is neither, or a position that is not in the log yet.
    """
    if text is None:
        return time.time_ns() // 1_000_000
    offset = position_in(cursor, text, name)
    if offset is None:
        return (parse_time(text, name) - EPOCH) // timedelta(milliseconds=1)
    found = cursor.execute(sql("moments.time"), [offset]).fetchone()
    return 0 if found is None else int(found[0])


_SIDES: Final = {1: (">", "ASC"), 0: ("<=", "DESC"), -1: ("<", "DESC")}


def near(
    cursor: duckdb.DuckDBPyConnection, rights: Rights, at: str | None, step: int
) -> dict[str, Any]:
    """Return a request beside a moment that the caller may read.

    Args:
        cursor: The cursor to read with.
        rights: Those of the caller.
        at: Time or position to look from; None for the log's end.
        step: 1 for the next one, -1 for the one before, 0 for the one whose effect is seen then.

    Raises:
        InvalidRequest: ``at`` is wrong.
    """
    offset = AS_OF_NOW if at is None else position_in(cursor, at, "at")
    if offset is None:
        column, value = "appended_at_ms", moment_ms(cursor, at, "at")
    else:
        column, value = '"offset"', offset
    seen = visible.events(rights)
    side, order = _SIDES[step]
    found = rows(
        cursor,
        sql("moments.near", where=f"{column} {side} ? AND {seen.sql}", order=order),
        [value, *seen.params],
    )
    event = found[0] if found else None
    return {
        "position": None if event is None else registry_position(event["log_offset"]),
        "time": None if event is None else event["appended_at"],
        "event": event,
    }
