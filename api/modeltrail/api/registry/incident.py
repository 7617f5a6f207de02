"""An incident: what served at a moment, who changed what before, and which runs went silent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import duckdb

from modeltrail.api.access.rights import Rights
from modeltrail.api.answers import rows, time_of
from modeltrail.api.registry import visible
from modeltrail.api.registry.markdown import table, text
from modeltrail.api.registry.moments import moment_ms
from modeltrail.api.registry.reading import offset_by, position_in, registry_position
from modeltrail.api.registry.trail import trail
from modeltrail.consumers.reading import sql

EVENTS_MAX: Final = 500
_HOLDERS_MAX = 1_000
_RUNS_MAX = 200
SERVING: Final = ("Production", "Staging")
"""The stages that serve."""


def incident(
    cursor: duckdb.DuckDBPyConnection, rights: Rights, at: str | None, minutes: int
) -> dict[str, Any]:
    """Return what served at a moment, and what happened in the minutes before.

    Args:
        cursor: The cursor to read with.
        rights: Those of the caller.
        at: Time or position of the moment; None for now.
        minutes: How far to look back.

    Raises:
        InvalidRequest: ``at`` is wrong.
    """
    at_ms = moment_ms(cursor, at, "at")
    since_ms = at_ms - int(timedelta(minutes=minutes).total_seconds() * 1000)
    position = None if at is None else position_in(cursor, at, "at")
    offset = offset_by(cursor, at_ms) if position is None else position
    before = offset_by(cursor, since_ms - 1)
    models, values = rights.readable_models("model_key").named()
    holders = rows(
        cursor,
        sql("incident.holders", readable=models),
        {"at": offset, "stages": list(SERVING), "limit": _HOLDERS_MAX, **values},
    )
    span = {"after": before, "up_to": offset}
    events = trail(cursor, span, EVENTS_MAX + 1, None, rights)
    experiments, values = rights.readable_experiments("experiment_id").named()
    silent = rows(
        cursor,
        sql("incident.silent", readable=experiments, tables=visible.run_tables(cursor)),
        {"since": since_ms, "at": at_ms, "limit": _RUNS_MAX, **values},
    )
    body = {
        "at": time_of(at_ms),
        "position": registry_position(offset),
        "from": time_of(since_ms),
        "holders": holders,
        "changes": [event for event in events[:EVENTS_MAX] if event["accepted"]],
        "refused": [event for event in events[:EVENTS_MAX] if event["accepted"] is False],
        "more": len(events) > EVENTS_MAX,
        "silent_runs": silent,
    }
    return {**body, "markdown": _markdown(body, minutes)}


def _markdown(body: dict[str, Any], minutes: int) -> str:
    """Return it as text to paste in a ticket."""
    parts = [
        f"# Registry at {body['at']} ({body['position'] or 'before all'})\n",
        "## What served\n",
        table(
            ("model", "as", "version", "since (UTC)", "set by", "why"),
            [
                (
                    one["model"],
                    f"@{one['name']}" if one["kind"] == "alias" else one["name"],
                    *(one["version"], one["since"], one["set_by"], one["reason"]),
                )
                for one in body["holders"]
            ],
        ),
    ]
    for title, events in (("Changed", body["changes"]), ("Refused", body["refused"])):
        parts.append(f"## {title} in the {minutes} minutes before\n")
        parts.append(
            table(
                ("position", "when (UTC)", "who", "what", "about", "why", "answer"),
                [
                    (
                        *(registry_position(one["log_offset"]), one["appended_at"], one["actor"]),
                        *(one["type"], one["about"], one["reason"], one["message"]),
                    )
                    for one in events
                ],
            )
            if events
            else "Nothing.\n"
        )
    parts.append("## Runs that went silent\n")
    parts.append(
        table(
            ("run", "name", "experiment", "user", "last seen (UTC)"),
            [
                (
                    *(one["run_id"], one["name"], one["experiment_name"], one["user"]),
                    one["last_seen"],
                )
                for one in body["silent_runs"]
            ],
        )
        if body["silent_runs"]
        else "None.\n"
    )
    if body["more"]:
        parts.append(text(f"Only the newest {EVENTS_MAX} requests are listed.") + "\n")
    return "\n".join(parts)
