"""`modeltrail backup` and `modeltrail restore`."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from modeltrail.api.commands.common import (
    CommandError,
    data_folder,
    log_elsewhere,
    open_existing_log,
    progress,
    say,
    say_json,
)
from modeltrail.api.data_folder import DataFolder
from modeltrail.eventlog.address import kind_of

if TYPE_CHECKING:
    from modeltrail.api.backup import Backup, Progress

_KAFKA = (
    "the log is in Kafka, and cannot be backed up into a file: the topics are the log, and its "
    "times would not survive the way back. Keep it safe there: several replicas, MirrorMaker or "
    "copies of the brokers' disks; keep audit-key.pem, webhook.key and checkpoints.jsonl of the "
    "data folder yourself"
)


def backup(args: argparse.Namespace) -> int:
    """Back up a data folder, with or without a running server."""
    folder = data_folder(args)
    elsewhere = log_elsewhere(args, folder)
    if elsewhere is not None and kind_of(elsewhere) == "kafka":
        raise CommandError(_KAFKA)
    artifacts = _artifacts(folder) if args.artifacts else None
    began = time.monotonic()
    log = open_existing_log(args, folder)
    from modeltrail.api.backup import back_up

    with closing(log), _bars() as show:
        made = back_up(
            folder.path,
            log,
            Path(args.target),
            keys=args.keys,
            artifacts=artifacts,
            replace=args.replace,
            progress=show,
        )
    return _print_report(args, made, args.target, "holds", began)


def restore(args: argparse.Namespace) -> int:
    """Create a data folder from a backup."""
    from modeltrail.api.backup import restore as make

    folder = data_folder(args)
    began = time.monotonic()
    with _bars() as show:
        found = make(Path(args.source), folder.path, progress=show)
    return _print_report(args, found, str(folder.path), "was restored with", began)


def _artifacts(folder: DataFolder) -> Path:
    url = os.environ.get("MODELTRAIL_ARTIFACTS") or folder.artifacts_of_server()
    if url is None:
        return folder.artifacts
    parts = urlsplit(url)
    if parts.scheme not in ("", "file"):
        raise CommandError(
            f"artifacts are stored at {url}, not in a folder: back them up with the tools of that "
            "store, and run this without --artifacts"
        )
    return Path(unquote(parts.path))


@contextmanager
def _bars() -> Iterator[Progress]:
    """Show one progress bar after the other."""
    with ExitStack() as stack:

        def show(what: str) -> Callable[[int, int], None] | None:
            stack.close()
            return stack.enter_context(progress(what))

        yield show


def _print_report(
    args: argparse.Namespace, made: Backup, where: str, verb: str, began: float
) -> int:
    seconds = time.monotonic() - began
    if args.json:
        body = made.to_json()
        findings = [finding.message for finding in made.findings]
        say_json({"path": where, **body, "findings": findings, "seconds": round(seconds, 3)})
        return 1 if findings else 0
    at = datetime.fromtimestamp(made.made_at_ms / 1000, UTC).isoformat(timespec="seconds")
    say(f"{where} {verb} {made.events:,} events as of {at}, verified, in {seconds:.1f} s")
    for partition, head in sorted(made.heads.items()):
        say(f"  {partition}: up to offset {head.offset}, chain {head.hash.hex()[:16]}…")
    if made.artifacts is None:
        say("  artifacts: not in the backup (--artifacts)")
    else:
        say(f"  artifacts: {made.artifacts:,} files")
    say(f"  keys: {', '.join(made.keys) or 'not in the backup (--keys); keep them yourself'}")
    for finding in made.findings:
        say(f"  {finding.kind}: {finding.message}")
    if made.findings:
        say("  the copy is exact, but the log is not what was signed: modeltrail audit verify")
    return 1 if made.findings else 0
