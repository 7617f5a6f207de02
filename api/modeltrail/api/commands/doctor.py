"""`modeltrail doctor`: check everything that tends to go wrong, and say how to repair it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from modeltrail.api import checks
from modeltrail.api.checks import Check
from modeltrail.api.commands.common import (
    ask_json,
    data_folder,
    log_url,
    open_existing_log,
    say,
    say_json,
    server_of,
)
from modeltrail.api.data_folder import DataFolder
from modeltrail.api.errors import ClientError

_CONTRADICTED = (
    "see what differs (modeltrail audit verify), and restore the log from a backup; if this log is "
    "the right one, go on with: modeltrail serve --accept-log"
)


if TYPE_CHECKING:
    import duckdb


def doctor(args: argparse.Namespace) -> int:
    """Run and print all checks. The exit code is 1 if one failed."""
    folder = data_folder(args)
    found: list[Check] = []
    for look in (_folder, _disk, _clock, _log, _projections, _kept_aside, _outboxes, _server):
        found.extend(_safely(look, args, folder))
    if args.json:
        say_json([check._asdict() for check in found])
    else:
        for check in found:
            say(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.found}")
            if check.repair is not None:
                say(f"      -> {check.repair}")
    return 0 if all(check.ok for check in found) else 1


Look = Callable[[argparse.Namespace, DataFolder], Iterator[Check]]


def _safely(look: Look, args: argparse.Namespace, folder: DataFolder) -> Iterator[Check]:
    try:
        yield from look(args, folder)
    except Exception as error:  # a failed check must not hide the others
        yield Check(look.__name__.strip("_"), False, f"{type(error).__name__}: {error}")


def _folder(args: argparse.Namespace, folder: DataFolder) -> Iterator[Check]:
    return checks.folder(folder.path, repair=args.repair)


def _disk(_: argparse.Namespace, folder: DataFolder) -> Iterator[Check]:
    return checks.disk(folder.path)


def _clock(args: argparse.Namespace, folder: DataFolder) -> Iterator[Check]:
    return checks.clock(_last_append_s(args, folder))


def _kept_aside(_: argparse.Namespace, folder: DataFolder) -> Iterator[Check]:
    return checks.kept_aside(folder.path)


def _last_append_s(args: argparse.Namespace, folder: DataFolder) -> float | None:
    """Return when the log's last event was appended, or None if that cannot be read."""
    from modeltrail.eventlog import LogError, last_append_ms, open_log

    url = log_url(args, folder)
    if url == str(folder.path) and not (folder.path / "log.sqlite").exists():
        return None
    try:
        with closing(open_log(url, create=False)) as log:
            last_ms = last_append_ms(log)
    except LogError:
        return None  # another check reports it
    return None if last_ms is None else last_ms / 1000


def _log(args: argparse.Namespace, folder: DataFolder) -> Iterator[Check]:
    from modeltrail.eventlog import LogError, LogMisconfigured, open_log

    url = log_url(args, folder)
    if url == str(folder.path) and not (folder.path / "log.sqlite").exists():
        yield Check("log", True, "there is none yet", "modeltrail serve makes it")
        return
    try:
        # Opening the log checks its topics, partitions, retention and triggers.
        with closing(open_log(url, create=False)) as log:
            end = log.end()
            schemas = len(log.schemas())
    except LogMisconfigured as error:
        yield Check("log", False, str(error), "the message above says what to change")
    except LogError as error:
        yield Check("log", False, str(error), f"is it running, and reachable from here? ({url})")
    else:
        ends = ", ".join(f"{p}:{n}" for p, n in sorted(end.items()))
        yield Check("log", True, f"{log.url} can be read, its end is {ends}; {schemas} schemas")


def _projections(args: argparse.Namespace, folder: DataFolder) -> Iterator[Check]:
    if find_spec("duckdb") is None:
        yield Check("projections", True, "not checked, because duckdb is not installed")
        return
    import duckdb

    from modeltrail.consumers import store

    if not folder.database.exists():
        yield Check("projections", True, "not built yet; modeltrail serve builds them")
        return
    if folder.server() is not None:
        yield Check("projections", True, "in use by the running server")
        return
    try:
        con = duckdb.connect(str(folder.database), read_only=True)
    except duckdb.Error as error:
        yield Check(
            "projections",
            False,
            str(error).splitlines()[0],
            "modeltrail rebuild (nothing is lost: it is built from the log)",
        )
        return
    with closing(con):
        found = store.version_of(con)
        known = found is not None and found <= store.PROJECTION_VERSION
        differs = _contradiction(args, folder, con) if known else None
    if differs is not None:
        yield Check("projections", False, f"{folder.database.name} {differs}", _CONTRADICTED)
        return
    good = found == store.PROJECTION_VERSION
    yield Check(
        "projections",
        True,
        f"version {found}" + ("" if good else f", this program has {store.PROJECTION_VERSION}"),
        None if good else "the next start rebuilds them from the log; no need to do anything",
    )


def _contradiction(
    args: argparse.Namespace, folder: DataFolder, con: duckdb.DuckDBPyConnection
) -> str | None:
    from modeltrail.consumers.fold import contradiction
    from modeltrail.eventlog import LogError

    try:
        log = open_existing_log(args, folder)
    except LogError:
        return None  # the check of the log reports it
    with closing(log):
        return contradiction(log, con)


def _outboxes(args: argparse.Namespace, folder: DataFolder) -> Iterator[Check]:
    from modeltrail.producers.outbox import default_root, temporary_root

    configured = os.environ.get("MODELTRAIL_OUTBOX")
    roots = [configured] if configured else [default_root(), temporary_root()]
    waiting = 0
    for root in roots:
        for file in Path(root).rglob("*") if Path(root).is_dir() else ():
            if file.is_file() and not file.is_symlink():
                waiting += file.stat().st_size
    yield Check(
        "outboxes",
        True,
        f"{waiting:,} bytes are in {' and '.join(roots)}" if waiting else "nothing waits in them",
        "modeltrail sync delivers what ended jobs left there" if waiting else None,
    )


def _server(args: argparse.Namespace, folder: DataFolder) -> Iterator[Check]:
    server = server_of(args)
    if server is None:
        yield Check("server", True, f"none runs on {folder.path}", "modeltrail serve starts one")
        return
    try:
        health = ask_json(server, "/health")
        status = ask_json(server, "/api/v1/status")
    except ClientError as error:
        yield Check(
            "server",
            False,
            f"{server}: {error}",
            "start it (modeltrail serve), or set MODELTRAIL_TOKEN if it needs a token",
        )
        return
    lag = sum((health.get("lag") or {}).values())
    yield Check("server", True, f"{server} is healthy, version {status['version']}, lag {lag:,}")
    dead = health["dead_letters"]
    if dead:
        yield Check(
            "dead letters",
            False,
            f"{dead:,} events could not be applied",
            'look at them (modeltrail sql "FROM dead_letters"); after a fix: '
            f"curl -X POST {server}/api/v1/dead-letters/retry",
        )
