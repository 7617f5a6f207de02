"""`modeltrail sql` and `modeltrail export`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from modeltrail.api.commands.common import (
    client_of,
    experiment_id,
    note,
    progress,
    say,
    say_json,
    table,
)
from modeltrail.api.results import QueryResult
from modeltrail.eventlog.durable import replacing

_TERMINAL_ROWS = 1_000
_TERMINAL_ROWS_SHOWN = 40
_EXPORT_TIMEOUT_S = 600.0


def sql(args: argparse.Namespace) -> int:
    """Run a query, and print or store its result."""
    statement = args.statement
    if statement is None or statement == "-":
        if sys.stdin.isatty():
            note("reading a query from the terminal; end it with Ctrl-D")
        statement = sys.stdin.read()
    if not statement.strip():
        args.parser.error('there is no query; as in: modeltrail sql "FROM runs LIMIT 10"')
    as_table = not (args.json or args.csv or args.output)
    format = "csv" if args.csv else "json"
    limit = args.limit
    if args.output:
        format = Path(args.output).suffix.lower().removeprefix(".")
    elif as_table and limit is None:
        limit = _TERMINAL_ROWS
    with (
        client_of(args) as client,
        client.stream(
            statement, args.param, format=format, limit=limit, timeout_s=args.timeout
        ) as pieces,
    ):
        if args.output:
            _store(pieces, Path(args.output))
        elif as_table:
            _print(b"".join(pieces), args)
        else:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            if args.json:
                sys.stdout.buffer.write(b"\n")
            sys.stdout.flush()
    return 0


def _print(data: bytes, args: argparse.Namespace) -> None:
    found = json.loads(data)
    columns, rows = found["columns"], found["rows"]
    if [name.lower() for name in columns] == ["explain_key", "explain_value"]:
        for _, plan in rows:
            say(plan)
        return
    if args.width is None and not sys.stdout.isatty():
        table(columns, rows)
    else:
        rows = QueryResult.of_json(data).rows()
        # A cut result has no last rows to show, and a limit is a choice of the user.
        rows_max = None if args.limit is not None or found["truncated"] else _TERMINAL_ROWS_SHOWN
        shown = rows[:_TERMINAL_ROWS_SHOWN] if args.limit is None and found["truncated"] else rows
        table(
            columns, shown, types=found["types"], null="NULL", rows_max=rows_max, width=args.width
        )
    if found["truncated"]:
        note(f"there are more than {len(rows):,} rows; see --limit, --csv and -o FILE")


def _store(pieces: Iterator[bytes], file: Path) -> int:
    """Write a file, whole or not at all. Returns its size in bytes."""
    with replacing(file) as out:
        return _copy(pieces, out)


def _copy(pieces: Iterator[bytes], out: IO[bytes]) -> int:
    size = 0
    for piece in pieces:
        size += out.write(piece)
    return size


_EXPORTED = ("runs", "params", "tags", "metrics", "latest_metrics", "datasets", "artifacts")
_ORDER = {"metrics": "run_id, key, step", "runs": "start_time, run_id"}


def export(args: argparse.Namespace) -> int:
    """Store each of the views about runs as a file."""
    folder = Path(args.into)
    written = {}
    with client_of(args) as client, progress("exporting") as bar:
        params = [] if args.experiment is None else [experiment_id(client, args.experiment)]
        folder.mkdir(parents=True, exist_ok=True)
        for done, view in enumerate(_EXPORTED):
            if bar is not None:
                bar(done, len(_EXPORTED))
            where = ""
            if params:
                where = "WHERE run_id IN (SELECT run_id FROM runs WHERE experiment_id = ?)"
            statement = f"SELECT * FROM {view} {where} ORDER BY {_ORDER.get(view, 'ALL')}"
            if view == "datasets":
                statement = f"SELECT * FROM {view} {where} ORDER BY run_id, name, digest"
            file = folder / f"{view}.{args.format}"
            with client.stream(
                statement, params, format=args.format, timeout_s=_EXPORT_TIMEOUT_S
            ) as pieces:
                written[str(file)] = _store(pieces, file)
    if args.json:
        say_json({"files": [{"path": p, "size_bytes": n} for p, n in written.items()]})
    else:
        table(["file", "bytes"], [(path, f"{size:,}") for path, size in written.items()])
    return 0
