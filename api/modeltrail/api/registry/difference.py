"""What differs in the registry between two moments, and the requests that made it so."""

from __future__ import annotations

from typing import Any

import duckdb

from modeltrail.api.access.rights import Rights
from modeltrail.api.answers import rows
from modeltrail.api.registry import visible
from modeltrail.api.registry.markdown import table, text
from modeltrail.api.registry.reading import last_offset, offset_of, registry_position, time_at
from modeltrail.consumers.reading import sql


def difference(
    cursor: duckdb.DuckDBPyConnection,
    rights: Rights,
    since: str,
    until: str | None,
    limit: int,
) -> dict[str, Any]:
    """Return what differs between two moments, of what the caller may read.

    Args:
        cursor: The cursor to read with.
        rights: Those of the caller.
        since: Time or position of the first moment.
        until: Time or position of the second; None for now. It may be the earlier one.
        limit: Maximum number of changes.

    Raises:
        InvalidRequest: a time or position is wrong.
    """
    one = offset_of(cursor, since, "from")
    other = min(offset_of(cursor, until, "to"), last_offset(cursor))
    found = changes(cursor, rights, min(one, other), max(one, other), limit + 1)
    if other < one:
        for change in found:
            change["before"], change["after"] = change["after"], change["before"]
    return {
        "from": _moment(cursor, one),
        "to": _moment(cursor, other),
        "changes": found[:limit],
        "more": len(found) > limit,
    }


def _moment(cursor: duckdb.DuckDBPyConnection, offset: int) -> dict[str, Any]:
    return {
        "position": registry_position(offset),
        "offset": offset,
        "time": time_at(cursor, offset),
    }


def changes(
    cursor: duckdb.DuckDBPyConnection, rights: Rights, after: int, at: int, limit: int
) -> list[dict[str, Any]]:
    """Return what is different right after an offset from what it was after an earlier one.

    Each change is of one value: an attribute, a tag or an alias of one thing. None as value means
    that there was, or is, none.
    """
    condition, values = visible.events(rights).named()
    found = rows(
        cursor,
        sql("history.changes", visible=condition),
        {"after": after, "at": at, "limit": limit, **values},
    )
    offsets = sorted({offset for change in found for offset in change["offsets"]})
    events = {
        event["log_offset"]: event for event in rows(cursor, sql("history.events"), [offsets])
    }
    for change in found:
        change["events"] = [events[offset] for offset in sorted(set(change.pop("offsets")))]
    return found


def as_markdown(body: dict[str, Any]) -> str:
    """Return a difference as a page of Markdown."""
    one, other = body["from"], body["to"]
    title = f"# Registry: {_at(one)} to {_at(other)}\n\n"
    if not body["changes"]:
        return f"{title}Nothing differs.\n"
    lines = table(
        ("what", "before", "after", "who", "when (UTC)", "why", "position"),
        [
            (about(change), change["before"], change["after"], *_last(change["events"]))
            for change in body["changes"]
        ],
    )
    more = "\nThere is more; ask for a higher `limit`.\n" if body["more"] else ""
    return f"{title}{lines}{more}"


def about(change: dict[str, Any]) -> str:
    """Return what a change is about, for people."""
    if change["entity"] == "experiment":
        subject = f"experiment {change['experiment_name'] or change['experiment_id']}"
    else:
        subject = f"model {change['model']}"
        if change["entity"] == "alias":
            return f"{subject}@{change['key']}"
        if change["version"] is not None:
            subject += f" version {change['version']}"
    attribute = change["attribute"] + (f" {change['key']}" if change["key"] is not None else "")
    return f"{subject}: {attribute}"


def _at(moment: dict[str, Any]) -> str:
    return text(f"{moment['position'] or 'the beginning'} ({moment['time'] or 'before all'})")


def _last(events: list[dict[str, Any]]) -> tuple[Any, ...]:
    """Return who, when, why and where, of the last event."""
    last = events[-1]
    return last["actor"], last["appended_at"], last["reason"], registry_position(last["log_offset"])
