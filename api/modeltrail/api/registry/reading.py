"""What the registry holds now, or held then."""

from __future__ import annotations

import duckdb

from modeltrail.api.answers import parse_time
from modeltrail.api.errors import InvalidRequest
from modeltrail.eventlog import REGISTRY, Position

AS_OF_NOW = 2**62


def offset_of(cursor: duckdb.DuckDBPyConnection, as_of: str | None) -> int:
    """The registry offset that ``as_of`` means; the state right after it is what was asked for.

    Raises:
        InvalidRequest: neither a time nor a position, or a position that is not in the log yet.
    """
    if as_of is None:
        return AS_OF_NOW
    text = as_of.strip()
    if text.isdecimal() and len(text) < 19:
        offset = int(text)
    elif text.startswith(f"{REGISTRY}:"):
        try:
            offset = Position.parse(text).offset
        except ValueError as error:
            raise InvalidRequest(f"as_of: {error}") from None
    else:
        found = cursor.execute(
            "SELECT registry_offset_as_of(?)", [parse_time(text, "as_of")]
        ).fetchone()
        return int(found[0]) if found else -1
    last = cursor.execute('SELECT coalesce(max("offset"), -1) FROM fold.requests').fetchone()
    if last is not None and offset > last[0]:
        raise InvalidRequest(
            f"as_of: the registry has no event at offset {offset} yet; its last is {last[0]}"
        )
    return offset
