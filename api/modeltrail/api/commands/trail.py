"""`modeltrail audit log` and `modeltrail audit verify`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeltrail.api.commands.artifacts import check_artifacts, print_artifacts
from modeltrail.api.commands.common import (
    CommandError,
    ask_json,
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
from modeltrail.api.data_folder import DataFolder
from modeltrail.api.tables import cell_text
from modeltrail.eventlog import Partition

if TYPE_CHECKING:
    from modeltrail.api.client import Client
    from modeltrail.consumers.audit import Verdict
    from modeltrail.consumers.chain import FoldedChains

_PAGE = 1_000
_CHAIN = "/api/v1/audit/chain"
_LINKS = 20_000


def log(args: argparse.Namespace) -> int:
    """Print who did what, when and why, oldest first, including refused requests."""
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
        found = client.items("/api/v1/audit", "events", **filters, limit=min(_PAGE, args.limit))
        events = list(islice(found, args.limit))
        if not events:
            _look_for_typos(client, args)
    events.reverse()
    if args.json:
        say_json(events)
        return 0
    lines = [
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
    ]
    if sys.stdout.isatty():
        _print_requests(lines)
    else:
        table(["position", "appended at", "actor", "what", "about", "outcome", "why"], lines)
    return 0


def _print_requests(lines: Iterable[tuple[Any, ...]]) -> None:
    """Print requests as paragraphs, because their texts are too long for columns."""
    for line in lines:
        position, time, actor, type, about, outcome, why = (cell_text(text, "") for text in line)
        say(f"{position}  {time[:10]} {time[11:19]}  {actor}")
        say(f"    {type}: {about}")
        if outcome != "accepted":
            say(f"    refused: {outcome}")
        if why:
            say(f"    why: {why}")


def _look_for_typos(client: Client, args: argparse.Namespace) -> None:
    """Raise ``CommandError`` if the trail does not know a name in the filters."""
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
    """Verify the log, and files on request. The exit code is 1 if something differs."""
    from modeltrail.consumers.audit import verify as check
    from modeltrail.consumers.checkpoints import CHECKPOINTS_FILE

    if args.artifacts is None and (args.run or args.model):
        args.parser.error("--run and --model select files: give --artifacts as well")
    folder = data_folder(args)
    keys = args.trust or None
    file = Path(args.checkpoints) if args.checkpoints else folder.path / CHECKPOINTS_FILE
    if args.checkpoints and not file.is_file():
        raise CommandError(f"there is no file {file}")
    checkpoints = file if file.is_file() else None
    began = time.monotonic()
    # Look at the folded tables as they are: tables rebuilt from a log cannot differ from it.
    with (
        closing(open_existing_log(args, folder)) as log,
        _folded(folder) as (folded, source),
        progress("verifying") as bar,
    ):
        verdict = check(log, folded, checkpoints=checkpoints, trusted_keys=keys, progress=bar)
    seconds = time.monotonic() - began
    files = None if args.artifacts is None else check_artifacts(args, folder)
    whole = verdict.ok and (files is None or files["ok"])
    if args.json:
        say_json(
            {
                "ok": whole,
                "events": verdict.events,
                "compared": sum(c.compared for c in verdict.partitions.values()),
                "compared_with_fold": folded is not None,
                "compared_with": source,
                "checkpoints": verdict.checkpoints,
                "partitions": {
                    str(p): {**asdict(covered), "hash": covered.hash.hex()}
                    for p, covered in verdict.partitions.items()
                },
                "findings": [
                    {**asdict(f), "partition": None if f.partition is None else str(f.partition)}
                    for f in verdict.findings
                ],
                "seconds": round(seconds, 3),
                **({} if files is None else {"artifacts": files}),
            }
        )
        return 0 if whole else 1
    for finding in verdict.findings:
        say(f"{finding.kind}: {finding.message}")
    _print_verdict(verdict, source, folder, seconds)
    if files is not None:
        print_artifacts(files)
    return 0 if whole else 1


def _print_verdict(verdict: Verdict, source: str, folder: DataFolder, seconds: float) -> None:
    """Print what was verified, how far, and against what."""
    state = "is whole" if verdict.ok else "is NOT whole"
    say(f"the trail {state}: {verdict.events:,} events were read in {seconds:.1f} s")
    for partition, covered in verdict.partitions.items():
        signed = covered.signed_offset
        say(
            f"  {partition}: {covered.events:,} events, {covered.compared:,} as in the tables, "
            + ("none is signed" if signed is None else f"signed up to offset {signed}")
            + f", chain {covered.hash.hex()[:16]}…"
        )
    say(f"  compared with {source}, and with {verdict.checkpoints:,} signed checkpoints")
    known = any(c.compared or c.signed_offset is not None for c in verdict.partitions.values())
    if verdict.events and not known:
        say("  there is nothing yet to compare the log with: this shows only that it can be read")
    for aside in sorted(folder.path.glob("*.contradicted-*")):
        say(f"  set aside, because the log contradicted it: {aside}")


@contextmanager
def _folded(folder: DataFolder) -> Iterator[tuple[FoldedChains | None, str]]:
    """Return what was folded, as it is, and where it was found; or why there is nothing."""
    import duckdb

    from modeltrail.consumers import store
    from modeltrail.consumers.chain import of_tables

    server = folder.server()
    if server is not None:
        try:
            found = _of_server(server)
        except CommandError as error:
            yield None, f"no tables (the server at {server} does not show them: {error})"
        else:
            yield found, f"the tables of the server at {server}"
        return
    name = folder.database.name
    if not folder.database.exists():
        yield None, f"no tables (there is no {name} yet)"
        return
    try:
        con = duckdb.connect(str(folder.database), read_only=True)
    except duckdb.Error as error:
        yield None, f"no tables ({name} cannot be read: {str(error).splitlines()[0]})"
        return
    with closing(con):
        version = store.version_of(con)
        if version == store.PROJECTION_VERSION:
            yield of_tables(con), f"the tables in {name}"
        else:
            yield None, f"no tables ({name} is of another version of Modeltrail)"


def _of_server(server: str) -> FoldedChains:
    """Return what a server folded. Raises ``CommandError``."""
    from modeltrail.consumers.chain import FoldedChains, Head, Link

    def page(partition: Partition, first: int, last: int) -> list[Link]:
        found = ask_json(
            server, _CHAIN, partition=str(partition), first=first, last=last, limit=_LINKS
        )
        return [Link(offset, ms, bytes.fromhex(hash)) for offset, ms, hash in found["links"]]

    heads = ask_json(server, _CHAIN)["heads"]
    return FoldedChains(
        {Partition.parse(p): Head(h["offset"], bytes.fromhex(h["hash"])) for p, h in heads.items()},
        page,
    )
