"""`modeltrail runs`, `run`, `compare` and `artifacts get`, on a server or a folder."""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from modeltrail.api.commands.common import (
    CommandError,
    client_of,
    experiment_id,
    not_there,
    note,
    pairs,
    progress,
    say,
    say_csv,
    say_json,
    table,
)
from modeltrail.api.errors import ClientError
from modeltrail.eventlog.durable import replacing

if TYPE_CHECKING:
    from modeltrail.api.client import Client

_SEARCH = "/api/2.0/mlflow/runs/search"
_PAGE = 1_000
_SHOWN_MAX = 5
_COLUMNS_SHOWN = 3
"""How many metrics and params a list shows if no columns were chosen."""
_KINDS = ("metrics", "params", "tags")


Run = dict[str, Any]


# Lists


def runs(args: argparse.Namespace) -> int:
    """List runs, newest first unless ordered otherwise."""
    with client_of(args) as client:
        body: dict[str, Any] = {"filter": args.filter, "order_by": args.order_by}
        if args.experiment:
            body["experiment_ids"] = [experiment_id(client, name) for name in args.experiment]
        body["run_view_type"] = "DELETED_ONLY" if args.deleted else "ACTIVE_ONLY"
        found = list(_search(client, body, args.limit + 1))
        names = _experiment_names(client, found)
    more = len(found) > args.limit
    found = [_run(one, names) for one in found[: args.limit]]
    if args.json:
        say_json(found)
        return 0
    chosen = args.columns or _chosen(found)
    fixed = ("run_id", "name", "status", "experiment", "start_time", "duration_s")
    lines = [
        [*(one[name] for name in fixed), *(_value(one, column) for column in chosen)]
        for one in found
    ]
    if args.csv:
        say_csv([*fixed, *chosen], lines)
        return 0
    if not found:
        note("no run is like that" if args.filter or args.experiment else "there are no runs yet")
        return 0
    # If a terminal is too narrow, columns in the middle are left out; hence this order.
    several = len({one["experiment"] for one in found}) > 1
    last = [*(["experiment"] if several else []), "took", "started", "status"]
    shown = []
    for one in found:
        id = one["run_id"][:12] if sys.stdout.isatty() else one["run_id"]
        facts = {
            "experiment": one["experiment"],
            "took": _took(one["duration_s"]),
            "started": (one["start_time"] or "")[:16].replace("T", " "),
            "status": one["status"],
        }
        values = [_value(one, column) for column in chosen]
        shown.append([id, one["name"], *values, *(facts[name] for name in last)])
    table(["run", "name", *(column.partition(".")[2] for column in chosen), *last], shown)
    if more:
        note(f"there are more than {args.limit:,} runs; see --limit")
    return 0


def _search(client: Client, body: dict[str, Any], limit: int) -> Iterator[dict[str, Any]]:
    token = None
    left = limit
    while left > 0:
        asked = {name: value for name, value in body.items() if value}
        page = {"max_results": min(left, _PAGE), **({"page_token": token} if token else {})}
        found = client.post(_SEARCH, {**asked, **page})
        yield from found.get("runs", [])
        left -= len(found.get("runs", []))
        token = found.get("next_page_token")
        if not token:
            return


def _experiment_names(client: Client, found: list[dict[str, Any]]) -> dict[str, str]:
    names = {}
    for id in sorted({one["info"]["experiment_id"] for one in found}):
        try:
            names[id] = str(client.get(f"/api/v1/experiments/{quote(id, safe='')}")["name"])
        except ClientError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            names[id] = str(id)  # a job may use one that is not in the registry yet
    return names


def _run(one: dict[str, Any], names: dict[str, str]) -> Run:
    """Return a run of a search in the form of the other commands."""
    info, data = one["info"], one.get("data", {})
    start, end = (int(info.get(name) or 0) for name in ("start_time", "end_time"))
    return {
        "run_id": info["run_id"],
        "name": info.get("run_name", ""),
        "status": info["status"],
        "experiment_id": info["experiment_id"],
        "experiment": names[info["experiment_id"]],
        "start_time": _time(start),
        "end_time": _time(end),
        "duration_s": (end - start) / 1000 if start and end else None,
        "user": info.get("user_id", ""),
        **{kind: {one["key"]: one["value"] for one in data.get(kind, [])} for kind in _KINDS},
    }


def _time(ms: int) -> str | None:
    if not ms:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _took(seconds: float | None) -> str:
    """Return a duration as a short text."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s"


def _chosen(found: Sequence[Run]) -> list[str]:
    """Return the metrics that most runs have, and the params whose values differ."""
    chosen = []
    for kind in ("metrics", "params"):
        counts: dict[str, int] = {}
        for one in found:
            for key in one[kind]:
                counts[key] = counts.get(key, 0) + 1
        if kind == "params":
            counts = {k: n for k, n in counts.items() if len({o[kind].get(k) for o in found}) > 1}
        keys = sorted(counts, key=lambda key: (-counts[key], key))
        chosen += [f"{kind}.{key}" for key in keys[:_COLUMNS_SHOWN]]
    return chosen


def _value(run: Run, column: str) -> Any:
    kind, _, key = column.partition(".")
    value = run[kind].get(key)
    return _rounded(value) if kind == "metrics" else value


def _rounded(value: Any) -> Any:
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    return float(f"{value:.6g}") if isinstance(value, float) else value


# One run


def find_run(client: Client, name: str) -> str:
    """Return the id of a run, by id, unique beginning of an id, or name (the newest).

    Raises:
        CommandError: there is none, or several ids begin like this.
    """
    try:
        client.get(f"/api/v1/runs/{quote(name, safe='')}")
        return name
    except ClientError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
    for deleted in ("false", "true"):
        named = client.get("/api/v1/runs", name=name, deleted=deleted, limit=2)["runs"]
        if len(named) > 1:
            note(f"several runs have the name {name!r}; this is the newest: {named[0]['run_id']}")
        if named:
            return str(named[0]["run_id"])
    if re.fullmatch(r"[A-Za-z0-9-]+", name):
        body = {"filter": f"attributes.run_id LIKE '{name}%'", "run_view_type": "ALL"}
        ids = [str(one["info"]["run_id"]) for one in _search(client, body, _SHOWN_MAX + 1)]
        if len(ids) > 1:
            raise CommandError(f"several ids begin with {name!r}: {', '.join(ids[:_SHOWN_MAX])}")
        if ids:
            return ids[0]
    newest = list(_search(client, {"run_view_type": "ALL"}, _PAGE))
    raise not_there("run", name, [one["info"].get("run_name", "") for one in newest])


def _read(client: Client, name: str) -> Run:
    run_id = find_run(client, name)
    found: Run = client.get(f"/api/v1/runs/{quote(run_id, safe='')}", extremes="true")
    return found


def run(args: argparse.Namespace) -> int:
    """Print everything about one run."""
    with client_of(args) as client:
        one = _read(client, args.run)
    if args.json:
        say_json(one)
        return 0
    pairs(
        [
            ("run", one["run_id"]),
            ("name", one["name"]),
            ("experiment", one["experiment_name"]),
            ("status", one["status"] + (" (deleted)" if one["deleted"] else "")),
            *([("message", one["message"])] if one["message"] else []),
            ("user", one["user"]),
            ("started", one["start_time"]),
            ("ended", one["end_time"]),
            ("took", _took(one["duration_s"])),
            ("complete", _complete(one)),
            *([("parent", one["parent_run_id"])] if one["parent_run_id"] else []),
            *([("git", one["git_commit"])] if one["git_commit"] else []),
        ]
    )
    metrics = [
        [_series(m), m["step"], _rounded(m["value"]), _rounded(m["min"]), _rounded(m["max"]),
         m["points"]]
        for m in one["metrics"]
    ]  # fmt: skip
    for title, columns, lines in (
        ("metrics", ["metric", "step", "last", "min", "max", "points"], metrics),
        ("params", ["param", "value"], list(one["params"].items())),
        ("tags", ["tag", "value"], list(one["tags"].items())),
        ("datasets", ["dataset", "digest"], [(d["name"], d["digest"]) for d in one["datasets"]]),
        (
            "artifacts",
            ["artifact", "bytes"],
            [(a["path"], a["size_bytes"]) for a in one["artifacts"]],
        ),
    ):
        if lines:
            say("")
            say(f"{title} ({len(lines):,})")
            table(columns, lines)
    return 0


def _complete(one: Run) -> str:
    if one["complete"]:
        return f"yes: all {one['points_stored']:,} points are here"
    lost = [
        f"{one[name]:,} {what}"
        for name, what in (("events_missing", "events are missing"), ("points_dropped", "points "
                           "were dropped by the job"))
        if one[name]
    ]  # fmt: skip
    return f"no: {', '.join(lost)}" if lost else "not known yet"


def _series(metric: dict[str, Any]) -> str:
    of = [metric[name] for name in ("model_id", "dataset_name") if metric[name]]
    return str(metric["key"]) + (f" ({', '.join(of)})" if of else "")


def compare(args: argparse.Namespace) -> int:
    """Print runs side by side: the params that differ, then the metrics."""
    if len(args.runs) < 2:
        args.parser.error("give at least two runs; modeltrail runs lists them")
    with client_of(args) as client:
        found = [_read(client, name) for name in args.runs]
    metrics = [{_series(m): _rounded(m["value"]) for m in one["metrics"]} for one in found]
    params = [dict(one["params"]) for one in found]
    facts = [
        {name: one[name] for name in ("status", "experiment_name", "duration_s", "git_commit")}
        for one in found
    ]
    lines: list[dict[str, Any]] = []
    for kind, columns in (("run", facts), ("param", params), ("metric", metrics)):
        keys = sorted({key for column in columns for key in column})
        rows = [
            {"kind": kind, "key": key, "values": [column.get(key) for column in columns]}
            for key in (facts[0] if kind == "run" else keys)
        ]
        for row in rows:
            row["differs"] = any(value != row["values"][0] for value in row["values"])
        lines += sorted(rows, key=lambda row: not row["differs"]) if kind == "param" else rows
    if args.json:
        names = [{"run_id": one["run_id"], "name": one["name"]} for one in found]
        say_json({"runs": names, "rows": lines})
        return 0
    heads = [one["name"] or one["run_id"][:12] for one in found]
    if len(set(heads)) < len(heads):
        heads = [f"{one['name']} {one['run_id'][:8]}".strip() for one in found]
    shown = [
        ["≠" if row["differs"] else "", f"{row['kind']} {row['key']}", *row["values"]]
        for row in lines
        if args.all or row["differs"] or row["kind"] == "metric"
    ]
    if args.csv:
        say_csv(["differs", "what", *heads], [["yes" if r[0] else "no", *r[1:]] for r in shown])
        return 0
    table(["", "what", *heads], shown)
    hidden = len(lines) - len(shown)
    if hidden:
        note(f"the same in all runs: {hidden:,} more; --all shows them")
    return 0


# Artifacts


def artifacts_get(args: argparse.Namespace) -> int:
    """Download all files of a run, one of them, or a folder of them."""
    folder = Path(args.to)
    with client_of(args) as client:
        run_id = find_run(client, args.run)
        at = f"/api/v1/runs/{quote(run_id, safe='')}"
        files = client.get(f"{at}/artifacts")["artifacts"]
        prefix = (args.path or "").strip("/")
        wanted = [
            file
            for file in files
            if not prefix or file["path"] == prefix or file["path"].startswith(f"{prefix}/")
        ]
        if not wanted:
            if prefix:
                paths = [PurePosixPath(file["path"]) for file in files]
                known = {str(path) for file in paths for path in (file, *file.parents)} - {"."}
                raise not_there(f"artifact of run {run_id}", prefix, known)
            raise CommandError(f"run {run_id} has no artifacts")
        digests = {a["path"]: a["sha256"] for a in client.get(at)["artifacts"]}
        targets = [(file, _inside(folder, file["path"])) for file in wanted]
        done = []
        total, passed = sum(file["size_bytes"] for file in wanted), 0
        with progress("downloading") as bar:
            for file, target in targets:
                path, digest = file["path"], digests.get(file["path"])
                fetched = not _is_there(target, file["size_bytes"], digest)
                if fetched:
                    with client.download(f"{at}/artifacts/{quote(path)}") as pieces:
                        _store(pieces, target, digest)
                passed += file["size_bytes"]
                if bar is not None:
                    bar(passed, total)
                done.append({"path": str(target), "bytes": file["size_bytes"], "fetched": fetched})
    if args.json:
        say_json({"run_id": run_id, "files": done})
        return 0
    new = [one for one in done if one["fetched"]]
    say(
        f"{len(new):,} files, {sum(one['bytes'] for one in new):,} bytes, are in {folder}"
        + (f"; {len(done) - len(new):,} were already there" if len(new) < len(done) else "")
    )
    return 0


def _inside(folder: Path, path: str) -> Path:
    """Return where a file goes. It never leaves the folder, whatever path a server sends."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise CommandError(f"the server sent an unsafe file name: {path!r}")
    target = folder.joinpath(*parts)
    # A link in the folder may lead out of it.
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise CommandError(f"{target.parent} leads out of {folder}; nothing is written there")
    return target


def _is_there(target: Path, size: int, digest: str | None) -> bool:
    """Return whether this very file exists, for example from an interrupted download."""
    if digest is None or target.is_symlink() or not target.is_file():
        return False
    if target.stat().st_size != size:
        return False
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest


def _store(pieces: Iterator[bytes], target: Path, digest: str | None) -> None:
    """Write a file, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    with replacing(target) as file:
        for piece in pieces:
            file.write(piece)
            found.update(piece)
        if digest is not None and found.hexdigest() != digest:
            raise CommandError(f"{target.name} differs from its record")
