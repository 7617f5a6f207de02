"""`modeltrail import mlflow`."""

from __future__ import annotations

import argparse
import getpass
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeltrail.api.commands.common import (
    artifacts_url,
    log_url,
    note,
    own_folder,
    progress,
    say,
    say_json,
    server_of,
    table,
)

if TYPE_CHECKING:
    from modeltrail.api.importing.destinations import Destination
    from modeltrail.api.importing.entities import Source
    from modeltrail.api.importing.importer import Report

_SHOWN_MAX = 20


def import_mlflow(args: argparse.Namespace) -> int:
    """Import from an MLflow database, folder or server. The exit code is 1 if anything differs."""
    began = time.monotonic()
    with ExitStack() as stack:
        source = _source(args)
        stack.callback(source.close)
        from modeltrail.api.importing.importer import Importer

        target, where = stack.enter_context(_destination(args))
        with progress(f"importing {source.identity}") as bar:
            report = Importer(
                source,
                target,
                user=getpass.getuser(),
                names=args.experiment,
                copy_artifacts=args.copy_artifacts,
                dry_run=args.dry_run,
                progress=bar,
            ).run()
    _tell(args, report, where, time.monotonic() - began)
    return 1 if report.differences else 0


def _source(args: argparse.Namespace) -> Source:
    from modeltrail.api.importing.databases import DatabaseSource, is_database
    from modeltrail.api.importing.folders import FolderSource
    from modeltrail.api.importing.servers import ServerSource, is_server

    if is_server(args.source):
        return ServerSource(args.source)
    if is_database(args.source):
        return DatabaseSource(args.source, args.artifacts_from)
    return FolderSource(args.source, args.artifacts_from)


@contextmanager
def _destination(args: argparse.Namespace) -> Iterator[tuple[Destination, str]]:
    """Yield the running server, or a node of this process on the folder."""
    from modeltrail.api.importing.destinations import NodeDestination, ServerDestination

    server = server_of(args)
    if server is not None:
        yield ServerDestination(server), server
        return
    from modeltrail.api.artifacts.store import open_storage
    from modeltrail.api.data_folder import DataFolder
    from modeltrail.api.opening import open_node

    folder = own_folder(args)
    storage = open_storage(artifacts_url(args, folder))
    storage.check()
    where = log_url(args, folder)
    with ExitStack() as stack:
        if args.dry_run and args.log is None and not folder.path.is_dir():
            # The folder does not exist, and a dry run does not create it.
            where = stack.enter_context(tempfile.TemporaryDirectory())
            folder = DataFolder(Path(where))
        node = stack.enter_context(open_node(folder, where, storage, progress("folding")))
        yield NodeDestination(node), node.log.url


def _tell(args: argparse.Namespace, report: Report, where: str, seconds: float) -> None:
    if args.json:
        say_json({"target": where, "seconds": round(seconds, 3), **report.as_dict()})
        return
    columns = ["experiment", "id", "runs", "params", "tags", "points", "files", "models", "equal"]
    table(columns, [_line(experiment, report.dry_run) for experiment in report.experiments])
    say(
        f"{report.registered_models:,} registered models, {report.model_versions:,} versions, "
        f"{report.aliases:,} aliases"
    )
    did = "would be appended" if report.dry_run else "were appended"
    say(
        f"{report.events:,} events {did} to {where}, with {report.artifacts_copied:,} files of "
        f"{report.artifact_bytes_copied:,} bytes, in {seconds:.1f} s"
    )
    for text in report.notes:
        note(f"note: {text}")
    for text in report.differences[:_SHOWN_MAX]:
        note(f"differs: {text}")
    more = len(report.differences) - _SHOWN_MAX + report.differences_more
    if more > 0:
        note(f"and {more:,} more differences; --json lists them")
    if report.dry_run:
        say("nothing was written: this was a dry run")
    elif not report.differences:
        say("everything here matches the source")


def _line(experiment: Any, dry_run: bool) -> tuple[Any, ...]:
    source, here = experiment.source, experiment.here
    pairs = [
        (getattr(source, name), getattr(here, name))
        for name in ("runs", "params", "tags", "points")
    ]
    shown = [f"{a:,}" if a == b or dry_run else f"{a:,} (here {b:,})" for a, b in pairs]
    equal = "" if dry_run else ("yes" if source == here else "no")
    return (
        experiment.name,
        experiment.id or experiment.source_id,
        *shown,
        f"{experiment.artifacts:,}",
        f"{experiment.logged_models:,}",
        equal,
    )
