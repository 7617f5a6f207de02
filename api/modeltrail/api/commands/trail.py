"""`modeltrail audit log` and `modeltrail audit verify`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modeltrail.api.commands.artifacts import check_artifacts, tell_artifacts
from modeltrail.api.commands.common import (
    CommandError,
    ask_json,
    caught_up,
    data_folder,
    open_existing_log,
    progress,
    say,
    say_json,
    server_of,
    table,
)

_PAGE = 1_000


def log(args: argparse.Namespace) -> int:
    """Print who did what, when and why, oldest first, refused requests included."""
    filters = {
        "model": args.model,
        "version": args.version,
        "alias": args.alias,
        "experiment": args.experiment,
        "actor": args.actor,
        "type": args.type,
        "since": args.since,
        "until": args.until,
        "accepted": "false" if args.refused else None,
    }
    server = server_of(args)
    if server is None:
        events = _from_folder(args, filters)
    else:
        events = []
        token = None
        while len(events) < args.limit:
            found = ask_json(
                server,
                "/api/v1/audit",
                **filters,
                limit=min(_PAGE, args.limit - len(events)),
                page_token=token,
            )
            events += found["events"]
            token = found["next_page_token"]
            if token is None:
                break
    events.reverse()
    if args.json:
        say_json(events)
        return 0
    table(
        ["position", "appended at", "actor", "what", "about", "outcome", "why"],
        [
            (
                f"registry:0:{e['log_offset']}",
                e["appended_at"],
                e["actor"] if e["actor_verified"] else f"{e['actor'] or '?'} (unverified)",
                e["type"],
                e["about"],
                "accepted" if e["accepted"] else f"{e['code']}: {e['message']}",
                e["reason"],
            )
            for e in events
        ],
    )
    return 0


def _from_folder(args: argparse.Namespace, filters: dict[str, Any]) -> list[dict[str, Any]]:
    from modeltrail.api.routes.audit import trail

    with caught_up(args) as (_, fold):
        cursor = fold.cursor()
        try:
            accepted = False if args.refused else None
            return trail(cursor, {**filters, "accepted": accepted}, args.limit, None)
        finally:
            cursor.close()


def verify(args: argparse.Namespace) -> int:
    """Check the chain against the raw log, and files if asked; exit code 1 if anything differs."""
    from modeltrail.consumers.audit import CHECKPOINTS_FILE
    from modeltrail.consumers.audit import verify as check

    if args.artifacts is None and (args.run or args.model):
        raise CommandError("--run and --model choose files: give --artifacts as well")
    folder = data_folder(args)
    try:
        keys = [bytes.fromhex(text) for text in args.trust] or None
    except ValueError:
        raise CommandError("--trust: a public key is 64 hexadecimal digits") from None
    file = Path(args.checkpoints) if args.checkpoints else folder.path / CHECKPOINTS_FILE
    if args.checkpoints and not file.is_file():
        raise CommandError(f"there is no file {file}")
    checkpoints = file if file.is_file() else None
    # A server has the database to itself; then the raw log and the signatures are what is left.
    compared = folder.server() is None and folder.database.exists()
    with progress("verifying") as bar:
        if compared:
            with caught_up(args) as (log, fold):
                cursor = fold.cursor()
                try:
                    verdict = check(
                        log, cursor, checkpoints=checkpoints, trusted_keys=keys, progress=bar
                    )
                finally:
                    cursor.close()
        else:
            log = open_existing_log(args, folder)
            try:
                verdict = check(log, checkpoints=checkpoints, trusted_keys=keys, progress=bar)
            finally:
                log.close()
    files = None if args.artifacts is None else check_artifacts(args, folder)
    whole = verdict.ok and (files is None or files["ok"])
    if args.json:
        body = {**asdict(verdict), "hash": verdict.hash.hex(), "ok": whole}
        told = {} if files is None else {"artifacts": files}
        say_json({**body, "compared_with_fold": compared, **told})
        return 0 if whole else 1
    if verdict.ok:
        say(
            f"the trail is whole: {verdict.events:,} events, chain {verdict.hash.hex()[:16]}…, "
            f"{verdict.checkpoints:,} signed checkpoints agree"
            + (f" up to offset {verdict.signed_offset}" if verdict.checkpoints else "")
        )
        if not compared:
            say("(a running server has the database; stop it to compare with the fold as well)")
    for finding in verdict.findings:
        say(f"{finding.kind}: {finding.message}")
    if files is not None:
        tell_artifacts(files)
    return 0 if whole else 1
