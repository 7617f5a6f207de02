"""The timeline of a registered model: which version held each alias and stage, and refusals."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import duckdb

from modeltrail.api.access.rights import Rights
from modeltrail.api.answers import plain, rows
from modeltrail.api.registry import visible
from modeltrail.api.registry.reading import last_offset, offset_of, registry_position
from modeltrail.consumers.reading import sql

BARS_MAX: Final = 10_000
REFUSALS_MAX: Final = 1_000
VERSIONS_MAX: Final = 1_000
METRICS_MAX: Final = 500
STAGES: Final = ("Production", "Staging", "Archived")
"""The stages that have a lane, in this order."""
_LIKELY: Final = ("accuracy", "auc", "f1", "r2", "rmse", "mae", "loss")
"""What a metric that says how good a version is often has in its name, best first."""


def timeline(
    cursor: duckdb.DuckDBPyConnection,
    rights: Rights,
    model: str,
    since: str | None,
    until: str | None,
    metric: str | None,
) -> dict[str, Any]:
    """Return what held in a span of the registry's log, as it was known at the span's end.

    Args:
        cursor: The cursor to read with.
        rights: Those of the caller.
        model: Name of the model at the end.
        since: Time or position after which the span begins; None for the log's beginning.
        until: Time or position at which it ends; None for now.
        metric: The metric of the versions' runs to show; None for a likely one.

    Raises:
        InvalidRequest: a time or position is wrong.
        NotFound: there is no such model.
    """
    after = -1 if since is None else offset_of(cursor, since, "from")
    at = offset_of(cursor, until, "to")
    key = visible.model_key(cursor, rights, at, model, until)
    bars = _bars(cursor, key, after, at)
    versions = rows(
        cursor, sql("history.versions_at"), {"key": key, "at": at, "limit": VERSIONS_MAX}
    )
    metric, metrics = _add_metrics(cursor, rights, versions, metric)
    _add_aliases(versions, bars)
    return {
        "model": model,
        "from": since,
        "to": until,
        "position": registry_position(min(at, last_offset(cursor))),
        "lanes": _lanes(bars),
        "refused": _refused(cursor, key, after, at),
        "versions": versions,
        "metric": metric,
        "metrics": metrics,
    }


def _bars(cursor: duckdb.DuckDBPyConnection, key: str, after: int, at: int) -> list[dict[str, Any]]:
    """Return intervals of aliases and stages; those that ended later are still open."""
    bars = rows(
        cursor,
        sql("history.intervals"),
        {"key": key, "after": after, "at": at, "limit": BARS_MAX},
    )
    for bar in bars:
        bar["event_id"] = str(UUID(bar["event_id"])) if bar["event_id"] else None
    return bars


def _lanes(bars: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lanes: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for bar in bars:
        entity, alias, stage = bar.pop("entity"), bar.pop("key"), bar.pop("value")
        name = ("alias", alias) if entity == "alias" else ("stage", stage)
        lanes.setdefault(name, []).append(bar)
    aliases = sorted(name for kind, name in lanes if kind == "alias")
    stages = [stage for stage in STAGES if ("stage", stage) in lanes]
    return [
        {"kind": kind, "name": name, "bars": lanes[kind, name]}
        for kind, names in (("alias", aliases), ("stage", stages))
        for name in names
    ]


def _refused(
    cursor: duckdb.DuckDBPyConnection, key: str, after: int, at: int
) -> list[dict[str, Any]]:
    """Return refused requests about the model, oldest first; the newest if there are too many."""
    span = {"key": key, "after": after, "at": at, "limit": REFUSALS_MAX}
    return rows(cursor, sql("history.refused", which='"offset" > $after'), span)[::-1]


def _add_aliases(versions: list[dict[str, Any]], bars: list[dict[str, Any]]) -> None:
    aliases: dict[int, list[str]] = {}
    for bar in bars:
        if bar["entity"] == "alias" and bar["to_offset"] is None:
            aliases.setdefault(bar["version"], []).append(bar["key"])
    for version in versions:
        version["aliases"] = sorted(aliases.get(version["version"], []))


def _add_metrics(
    cursor: duckdb.DuckDBPyConnection,
    rights: Rights,
    versions: list[dict[str, Any]],
    metric: str | None,
) -> tuple[str | None, list[str]]:
    """Add a metric of the versions' runs, as it is now. Return its key, and the keys there are."""
    readable = visible.readable_runs(cursor, rights, (one["run_id"] for one in versions))
    keys: list[str] = []
    values: dict[str, float] = {}
    if readable:
        ids = sorted(readable)
        found = cursor.execute(sql("history.metric_keys"), [ids, METRICS_MAX]).fetchall()
        keys = [key for key, _ in found]
        if metric is None:
            metric = _likely(found)
        values = dict(cursor.execute(sql("history.metric"), [metric, ids]).fetchall())
    for version in versions:
        run_id = version["run_id"]
        version["metric"] = plain(values.get(run_id))
        if run_id not in readable:
            version["run_id"] = None
    return metric, keys


def _likely(keys: list[tuple[str, int]]) -> str | None:
    """Return the metric that says most about versions: by its name, else the most common."""
    for part in _LIKELY:
        for key, _ in keys:
            if part in key.lower():
                return key
    return keys[0][0] if keys else None
