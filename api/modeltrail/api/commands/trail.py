"""`modeltrail audit log` and `modeltrail audit verify`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeltrail.api.commands.artifacts import check_artifacts, tell_artifacts
from modeltrail.api.commands.common import (
    CommandError,
    caught_up,
    client_of,
    data_folder,
    experiment_id,
    not_there,
    note,
    open_existing_log,
    progress,
    say,
    say_json,
    table,
)

if TYPE_CHECKING:
    from modeltrail.api.client import Client

_PAGE = 1_000


def log(args: argparse.Namespace) -> int:
    """Print who did what, when and why, oldest first, refused requests included."""
    with client_of(args) as client:
        filters = {
            "model": args.model,
            "version": args.version,
            "alias": args.alias,
            "experiment": args.experiment and experiment_id(client, args.experiment),
            "actor": args.actor,
            "type": args.type,
            "since": args.since,
            "until": args.until,
            "accepted": "false" if args.refused else None,
        }
        events: list[dict[str, Any]] = []
        token = None
        while len(events) < args.limit:
            found = client.get(
                "/api/v1/audit",
                **filters,
                limit=min(_PAGE, args.limit - len(events)),
                page_token=token,
            )
            events += found["events"]
            token = found["next_page_token"]
            if token is None:
                break
        if not events:
            _look_for_typos(client, args)
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


def _look_for_typos(client: Client, args: argparse.Namespace) -> None:
    """Raise ``CommandError`` if the trail has nothing of a name that was asked for."""
    for kind in ("model", "alias", "actor"):
        name = getattr(args, kind)
        if name is not None:
            query = f"SELECT DISTINCT {kind} FROM audit WHERE {kind} IS NOT NULL"
            known = [row[0] for row in client.query(query)]
            if name not in known:
                raise not_there(kind, name, known)
    if args.model is not None and args.version is not None:
        query = "SELECT max(version), count() FILTER (version = ?) FROM audit WHERE model = ?"
        ((newest, found),) = client.query(query, [args.version, args.model])
        if not found:
            has = "none" if newest is None else f"its newest is {newest}"
            raise CommandError(f"model {args.model!r} has no version {args.version}; {has}")
    note("no request to the registry is like that")


def verify(args: argparse.Namespace) -> int:
    """Check the chain against the raw log, and files if asked; exit code 1 if anything differs."""
    from modeltrail.consumers.audit import CHECKPOINTS_FILE
    from modeltrail.consumers.audit import verify as check

    if args.artifacts is None and (args.run or args.model):
        args.parser.error("--run and --model choose files: give --artifacts as well")
    folder = data_folder(args)
    keys = args.trust or None
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
