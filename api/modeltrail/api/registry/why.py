"""Why a version is where it is: what it holds, who decided that, on what evidence."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import duckdb

from modeltrail.api.access.rights import Rights
from modeltrail.api.answers import plain, rows, time_of
from modeltrail.api.artifacts.uris import Place, RunUri, parse
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.node import Node
from modeltrail.api.registry import visible
from modeltrail.api.registry.reading import as_of_text, last_offset, offset_of
from modeltrail.consumers.reading import sql
from modeltrail.eventlog import REGISTRY_PARTITION

_IN_PRODUCTION: Final = ("champion", "production", "prod", "live")
"""Aliases that people mean by "in production", before all others."""
_STAGES: Final = {"Production": 10, "Staging": 12, "Archived": 13}
"""The order of stages after those aliases; other aliases come after Production."""
_ABOUT_VERSION: Final = "(version = $version OR list_contains($aliases::VARCHAR[], alias))"
_REFUSALS_MAX = 50
_RACE_MAX = 10
_FILES_MAX = 1_000
_SIBLINGS_MAX = 100

_INTERVALS_MAX = 10_000


def why(
    node: Node,
    cursor: duckdb.DuckDBPyConnection,
    rights: Rights,
    model: str,
    version: int,
    as_of: str | None,
) -> dict[str, Any]:
    """Return everything that says why a version is where it is, now or at an earlier moment.

    Raises:
        InvalidRequest: ``as_of`` is wrong.
        NotFound: there is, or was, no such version.
    """
    at = offset_of(cursor, as_of)
    key = visible.model_key(cursor, rights, at, model, as_of)
    found = _version(cursor, key, version)
    of = {"key": key, "version": version, "at": at, "limit": _INTERVALS_MAX}
    history = rows(cursor, sql("history.of_version"), of)
    now = [one for one in history if one["to_offset"] is None]
    if found is None or not any(one["attribute"] == "lifecycle" for one in now):
        raise NotFound(
            f"Model Version (name={model}, version={version}) not found{as_of_text(as_of)}"
        )
    holds = _holds(cursor, key, now)
    aliases = [one["name"] for one in holds if one["kind"] == "alias"]
    about = {"key": key, "at": at, "version": version, "aliases": aliases, "limit": _REFUSALS_MAX}
    refused = rows(cursor, sql("history.refused", which=_ABOUT_VERSION), about)
    main = holds[0] if holds else None
    run_id = found["run_id"]
    other = None if main is None or main["before"] is None else main["before"]["version"]
    other_run = None if other is None else _run_of(cursor, key, other)
    readable = visible.readable_runs(cursor, rights, [run_id, other_run])
    decision = None if main is None else _decision(cursor, main["from_offset"])
    run = _run(cursor, rights, run_id, readable)
    (hidden,) = visible.origin_hidden(cursor, rights, [found])
    return {
        "model": model,
        "version": version,
        "as_of": as_of,
        "created_at": found["created_at"],
        "created_by": found["created_by"],
        "holds": holds,
        "sentence": _sentence(version, main, history),
        "evidence": _evidence(cursor, main, decision, other_run, readable),
        "race": _race(main, decision, refused),
        "refused": refused,
        "source": None if hidden else found["source"],
        "run": run,
        "commit": None if run is None else run.get("git_commit"),
        "datasets": [] if hidden else _datasets(cursor, run_id),
        "artifacts": [] if hidden else _artifacts(cursor, found),
        "lineage": _lineage(cursor, rights, key, version, found, hidden),
        "proof": _proof(node, cursor, main, decision),
        "comments": _comments(cursor, key, version, at),
        "tags": {one["key"]: one["value"] for one in now if one["attribute"] == "tag"},
        "description": next(
            (one["value"] for one in now if one["attribute"] == "description"), None
        ),
        "history": history,
    }


def _version(cursor: duckdb.DuckDBPyConnection, key: str, version: int) -> dict[str, Any] | None:
    found = rows(cursor, sql("history.version"), [key, version])
    return found[0] if found else None


# What it holds


def _is_hold(interval: dict[str, Any]) -> bool:
    """Return whether an interval is one of an alias or of a stage other than None."""
    if interval["entity"] == "alias":
        return True
    return bool(interval["attribute"] == "stage" and interval["value"] != "None")


def _named(interval: dict[str, Any]) -> tuple[str, str]:
    """Return the kind and the name of what an interval holds."""
    if interval["entity"] == "alias":
        return "alias", interval["key"]
    return "stage", interval["value"]


def _holds(
    cursor: duckdb.DuckDBPyConnection, key: str, now: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what a version holds, what people mean by production first."""
    held = []
    for one in now:
        if _is_hold(one):
            kind, name = _named(one)
            held.append(
                {
                    "kind": kind,
                    "name": name,
                    "since": one["valid_from"],
                    "from_offset": one["from_offset"],
                    "set_by": one["set_by"],
                    "verified": one["verified"],
                    "reason": one["reason"],
                    "before": _before(cursor, key, kind, name, one["from_offset"]),
                }
            )

    def order(hold: dict[str, Any]) -> tuple[int, int]:
        name = hold["name"]
        if hold["kind"] == "stage":
            return _STAGES.get(name, 12), -hold["from_offset"]
        known = name.lower() in _IN_PRODUCTION
        return _IN_PRODUCTION.index(name.lower()) if known else 11, -hold["from_offset"]

    return sorted(held, key=order)


def _before(
    cursor: duckdb.DuckDBPyConnection, key: str, kind: str, name: str, from_offset: int
) -> dict[str, Any] | None:
    """Return who held the same before."""
    which = {"key": key, "kind": kind, "name": name, "at": from_offset}
    found = rows(cursor, sql("history.before"), which)
    if not found:
        return None
    (last,) = found
    return {**last, "held_s": _seconds(last["since"], last["until"])}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _seconds(since: str | None, until: str | None) -> float | None:
    if since is None or until is None:
        return None
    return (_time(until) - _time(since)).total_seconds()


# In words


def _sentence(version: int, main: dict[str, Any] | None, history: list[dict[str, Any]]) -> str:
    """Return in a sentence what a version holds, since when, why, by whom, and who held it before.

    Times are in UTC.
    """
    if main is not None:
        why = f" because '{main['reason']}'" if main["reason"] else ""
        name = _name(main["kind"], main["name"])
        text = f"Version {version} is {name} since {_day(main['since'])}{why}, "
        text += f"set by {main['set_by']}"
        before = main["before"]
        if before is not None:
            held = "" if before["held_s"] is None else f" for {_duration(before['held_s'])}"
            text += f", before it version {before['version']}{held}"
        return f"{text}."
    ended = [one for one in history if one["to_offset"] is not None and _is_hold(one)]
    if not ended:
        return f"Version {version} holds no alias and no stage."
    last = max(ended, key=lambda one: int(one["to_offset"]))
    text = f"Version {version} holds no alias and no stage; it was {_name(*_named(last))}"
    return f"{text} until {_day(last['valid_to'])}."


def _name(kind: str, name: str) -> str:
    return f"@{name}" if kind == "alias" else f"in {name}"


def _day(text: str | None) -> str:
    if text is None:
        return "an unknown time"
    time = _time(text)
    year = "" if time.year == datetime.now(UTC).year else f" {time.year}"
    return f"{time.day} {time:%b}{year} {time:%H:%M} UTC"


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit != "days" and seconds >= size):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


# Who decided it, and on what


def _decision(cursor: duckdb.DuckDBPyConnection, offset: int) -> dict[str, Any] | None:
    """Return the request at an offset, with its evidence."""
    found = cursor.execute(sql("history.request"), [offset]).fetchone()
    if found is None:
        return None
    type, version, alias, appended_at, request, hash = found
    fields = json.loads(request) if request else {}
    return {
        "type": type,
        "version": version,
        "alias": alias,
        "appended_at": plain(appended_at),
        "request": fields,
        "hash": hash,
    }


def _run_of(cursor: duckdb.DuckDBPyConnection, key: str, version: int) -> str | None:
    found = cursor.execute(sql("history.run_of_version"), [key, version]).fetchone()
    return None if found is None else found[0]


def _evidence(
    cursor: duckdb.DuckDBPyConnection,
    main: dict[str, Any] | None,
    decision: dict[str, Any] | None,
    other_run: str | None,
    readable: set[str],
) -> list[dict[str, Any]]:
    """Return what the decision rested on, beside what the previous holder had."""
    if main is None or decision is None:
        return []
    given = decision["request"].get("evidence") or []
    before = main["before"]
    earlier: dict[tuple[str, str], tuple[str, str | None]] = {}
    if given and before is not None:
        former = _decision(cursor, before["from_offset"]) or {"request": {}}
        if former["request"].get("version") == before["version"]:
            for one in former["request"].get("evidence") or []:
                earlier[one["kind"], one["key"]] = one["value"], one["position"]
        missing = [one["key"] for one in given if ("metric", one["key"]) not in earlier]
        if other_run in readable and missing:
            for key, value in cursor.execute(
                sql("history.latest_of_run"), [other_run, missing]
            ).fetchall():
                earlier["metric", key] = str(plain(value)), None
    shown = []
    for one in given:
        found = earlier.get((one["kind"], one["key"]))
        shown.append(
            {
                "kind": one["kind"],
                "key": one["key"],
                "value": one["value"],
                "position": one["position"],
                "run_id": one["run_id"] if one["run_id"] in readable else None,
                "against": None
                if found is None or before is None
                else {"version": before["version"], "value": found[0], "position": found[1]},
            }
        )
    return shown


def _race(
    main: dict[str, Any] | None,
    decision: dict[str, Any] | None,
    refused: list[dict[str, Any]],
) -> dict[str, Any] | None:
    """Return the requests that expected the same as the accepted one, and came too late."""
    if main is None or decision is None:
        return None
    alias = main["kind"] == "alias"
    field = "expected_version" if alias else "expected_stage"
    before = main["before"]
    if alias:
        # What held just before: an alias that was not set is expected as 0.
        adjoining = before is not None and before["to_offset"] == main["from_offset"]
        expected = str(before["version"] if adjoining and before else 0)
    else:
        expected = str(decision["request"].get("expected_stage") or "")
    lost = [
        {
            **{name: one[name] for name in ("log_offset", "appended_at", "actor", "verified")},
            **{name: one[name] for name in ("version", "reason", "message")},
            "by_offsets": one["log_offset"] - main["from_offset"],
            "by_ms": round((_seconds(main["since"], one["appended_at"]) or 0) * 1000),
        }
        for one in reversed(refused)
        if one["code"] == "RESOURCE_CONFLICT"
        and one["log_offset"] > main["from_offset"]
        and (one["alias"] == main["name"] if alias else one["type"] == decision["type"])
        and one[field] is not None
        and str(one[field]) == expected
    ]
    if not lost:
        return None
    return {
        "expected": int(expected) if alias else expected,
        "won": {
            "log_offset": main["from_offset"],
            "appended_at": main["since"],
            "actor": main["set_by"],
            "verified": main["verified"],
            "version": decision["version"],
            "reason": main["reason"],
        },
        "lost": lost[:_RACE_MAX],
    }


# Where it comes from


def _run(
    cursor: duckdb.DuckDBPyConnection, rights: Rights, run_id: str | None, readable: set[str]
) -> dict[str, Any] | None:
    if not run_id:
        return None
    if run_id in readable:
        found = rows(cursor, sql("history.run"), [run_id])
        if found:
            return {"readable": True, **found[0]}
    return (
        {"readable": True, "run_id": run_id} if rights.reads_everything() else {"readable": False}
    )


def _datasets(cursor: duckdb.DuckDBPyConnection, run_id: str | None) -> list[dict[str, Any]]:
    if not run_id:
        return []
    return rows(
        cursor,
        "SELECT name, digest, source_type, source, tags FROM datasets WHERE run_id = ? "
        "ORDER BY name, digest",
        [run_id],
    )


def _artifacts(cursor: duckdb.DuckDBPyConnection, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the recorded files of a version: of its logged model, else those in its source."""
    columns = "path, size_bytes, sha256, logged_at"
    if found["model_id"]:
        return rows(
            cursor,
            f"SELECT {columns} FROM logged_model_artifacts WHERE model_id = ? "
            f"ORDER BY path LIMIT {_FILES_MAX}",
            [found["model_id"]],
        )
    try:
        where = parse(found["source"])
    except InvalidRequest:
        return []
    if isinstance(where, RunUri):
        run_id, path = where.run_id, where.path
    elif isinstance(where, Place) and where.kind == "run":
        run_id, path = where.id, where.path
    else:
        return []
    if run_id != found["run_id"]:
        return []
    path = path.strip("/")
    return rows(
        cursor,
        f"SELECT {columns} FROM artifacts WHERE run_id = ? "
        f"AND (? = '' OR path = ? OR starts_with(path, ?)) ORDER BY path LIMIT {_FILES_MAX}",
        [run_id, path, path, f"{path}/"],
    )


def _lineage(
    cursor: duckdb.DuckDBPyConnection,
    rights: Rights,
    key: str,
    version: int,
    found: dict[str, Any],
    hidden: bool,
) -> dict[str, Any]:
    """Return what a version was made from, and what else was made from its run."""
    siblings: list[dict[str, Any]] = []
    if found["run_id"] and not hidden:
        condition, values = rights.readable_models("model_key").named()
        of = {"run_id": found["run_id"], "key": key, "version": version}
        siblings = rows(
            cursor,
            sql("history.siblings", readable=condition),
            {**of, "limit": _SIBLINGS_MAX, **values},
        )
    return {
        "model_id": None if hidden else found["model_id"],
        "run_link": None if hidden else found["run_link"],
        "siblings": siblings,
    }


def _comments(
    cursor: duckdb.DuckDBPyConnection, key: str, version: int, at: int
) -> list[dict[str, Any]]:
    return rows(
        cursor,
        "SELECT comment, added_at, added_by, verified, log_offset FROM comments "
        "WHERE model_key = ? AND version = ? AND log_offset <= ? ORDER BY log_offset",
        [key, version, at],
    )


def _proof(
    node: Node,
    cursor: duckdb.DuckDBPyConnection,
    main: dict[str, Any] | None,
    decision: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return how far the hash chain leads, and which signed checkpoint covers the decision."""
    contradicted = node.fold.contradicted
    checkpoint = node.fold.checkpoint
    head = None if checkpoint is None else checkpoint.heads.get(REGISTRY_PARTITION)
    shown = None
    if checkpoint is not None and head is not None:
        shown = {
            "offset": head.offset,
            "signed_at": time_of(checkpoint.time_ms),
            "covers": main is not None and head.offset >= main["from_offset"],
        }
    return {
        "hash": None if decision is None else decision["hash"],
        "verified_to": last_offset(cursor) if contradicted is None else None,
        "contradiction": contradicted,
        "checkpoint": shown,
        "signed_by": None if checkpoint is None else checkpoint.public_key.hex(),
    }
