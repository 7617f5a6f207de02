"""Shared by the commands: the data folder, the server to ask, and output."""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from modeltrail.api import tables
from modeltrail.api.client import Client, FolderClient, ServerClient, find, folder_of
from modeltrail.api.data_folder import DataFolder
from modeltrail.api.errors import ClientError, did_you_mean
from modeltrail.eventlog.address import kind_of, mistake_in

if TYPE_CHECKING:
    from modeltrail.consumers.fold import Fold
    from modeltrail.eventlog import EventLog

_NAMES_SHOWN = 5


class CommandError(ClientError):
    """A command cannot do what was asked. The message says how to repair it."""


def say(text: str) -> None:
    """Print a line of output."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Print a line that is not part of the output."""
    sys.stderr.write(f"{text}\n")


def say_json(value: Any) -> None:
    """Print JSON."""
    say(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def say_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print CSV (RFC 4180) with a header line. None is empty."""
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    writer.writerows(rows)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    types: Sequence[str] = (),
    null: str = "",
    rows_max: int | None = None,
    width: int | None = None,
) -> None:
    """Print a table: in a box on a terminal or with a width, otherwise plain and complete."""
    terminal = sys.stdout.isatty()
    if width is None and terminal:
        width = shutil.get_terminal_size((100, 24)).columns
    if width is None:
        say(tables.aligned(columns, list(rows), null=null))
        return
    say(
        tables.drawn(
            columns,
            list(rows),
            width,
            types=types,
            null=null,
            rows_max=rows_max,
            styled=terminal and "NO_COLOR" not in os.environ,
        )
    )


def pairs(items: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one pair a line, uncut."""
    shown = [(name, tables.cell_text(value, "")) for name, value in items]
    size = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        say(f"{name.ljust(size)}  {text}".rstrip())


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Return a progress bar for ``(done, total)`` on a terminal.

    None elsewhere, or without rich.
    """
    if not sys.stderr.isatty() or find_spec("rich") is None:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


# The data folder


def data_folder(args: argparse.Namespace) -> DataFolder:
    """Return the folder in ``--data`` or ``MODELTRAIL_URL``."""
    return find()[1] if args.data is None else folder_of(str(args.data))


def own_folder(args: argparse.Namespace) -> DataFolder:
    """Return the same folder for writing. From now on, new files of this process are private."""
    from modeltrail.eventlog.private import withheld

    folder = data_folder(args)
    os.umask(withheld(folder.path))
    return folder


def log_url(args: argparse.Namespace, folder: DataFolder) -> str:
    """Return the log's URL: ``--log``, a Kafka URL in ``MODELTRAIL_URL``, or the data folder."""
    if args.log is not None:
        return str(args.log)
    env = os.environ.get("MODELTRAIL_URL", "")
    if args.data is None and kind_of(env) == "kafka":
        return env
    return str(folder.path)


def artifacts_url(args: argparse.Namespace, folder: DataFolder) -> str:
    """Return where artifacts are: as given, as in the environment, or as the server has them."""
    given = args.artifacts or os.environ.get("MODELTRAIL_ARTIFACTS")
    if given and kind_of(given) == "server":
        raise CommandError(
            f"artifacts cannot be kept at {given}: MODELTRAIL_ARTIFACTS names a server for "
            "training jobs; set --artifacts to where this server stores them"
        )
    if given and "://" not in given and (wrong := mistake_in(given)) is not None:
        raise CommandError(wrong)
    return str(given or folder.artifacts_of_server() or folder.artifacts)


def log_elsewhere(args: argparse.Namespace, folder: DataFolder) -> str | None:
    """Return the log's URL if it is not in the data folder, or None."""
    url = log_url(args, folder)
    return None if url == str(folder.path) else url


def open_existing_log(args: argparse.Namespace, folder: DataFolder) -> EventLog:
    """Open the log, which must exist. Raises ``LogError`` or ``ClientError``."""
    return folder.open_log(log_elsewhere(args, folder))


@contextmanager
def caught_up(args: argparse.Namespace) -> Iterator[tuple[EventLog, Fold]]:
    """Yield the log and an up-to-date fold of a folder without a server."""
    folder = own_folder(args)
    with ExitStack() as stack:
        with progress("folding") as bar:
            opened = stack.enter_context(folder.caught_up(log_elsewhere(args, folder), bar))
        yield opened


# A server


def server_of(args: argparse.Namespace) -> str | None:
    """Return the server to ask: ``--server``, ``MODELTRAIL_URL``, or the one on the folder."""
    if args.server is not None:
        return str(args.server)
    if args.data is None and args.log is None:
        return find()[0]
    return data_folder(args).server()


def client_of(args: argparse.Namespace) -> Client:
    """Return a client of the server if there is one, or of the folder. Close it."""
    return client_on(args, server_of(args))


def client_on(args: argparse.Namespace, server: str | None) -> Client:
    """Return a client of a server, or of the folder if there is none. Close it."""
    if server is not None:
        return ServerClient(server)
    folder = own_folder(args)
    return FolderClient(
        folder,
        log_elsewhere(args, folder),
        artifacts_url=getattr(args, "artifacts", None),
        progress=progress("folding"),
    )


def not_there(kind: str, name: str, known: Iterable[str]) -> CommandError:
    """Return the error for an unknown name, with the closest known one."""
    names = list(known)
    hint = did_you_mean(name, names)
    if not hint:
        shown = ", ".join(sorted(names)[:_NAMES_SHOWN])
        hint = f"; there is {shown}" if 0 < len(names) <= _NAMES_SHOWN else ""
    return CommandError(f"there is no {kind} {name!r}{hint}")


def experiment_id(client: Client, name: str) -> str:
    """Return the id of the experiment with this name or id. Raises ``CommandError``."""
    ids: dict[str, str] = {}
    for deleted in ("false", "true"):
        found = client.items("/api/v1/experiments", "experiments", deleted=deleted, limit=1000)
        ids |= {one["name"]: one["experiment_id"] for one in found}
    if name in ids:
        return ids[name]
    if name in ids.values():
        return name
    raise not_there("experiment", name, ids)


def ask_json(
    server: str, path: str, body: Any = None, *, method: str | None = None, **query: Any
) -> Any:
    """Return the JSON answer of a server. Raises ``ClientError``."""
    method = method or ("GET" if body is None else "POST")
    return ServerClient(server).ask(method, path, body, **query)
