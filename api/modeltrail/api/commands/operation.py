"""`modeltrail sync` and `status`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from modeltrail.api.commands.common import (
    CommandError,
    ask_json,
    caught_up,
    note,
    pairs,
    progress,
    say,
    say_json,
    server_of,
    table,
)


def sync(args: argparse.Namespace) -> int:
    """Deliver what training jobs left in their outboxes.

    The exit code is 1 if something is left.
    """
    from modeltrail.producers import sync as deliver

    if args.outbox is not None and not Path(args.outbox).is_dir():
        raise CommandError(f"there is no folder {args.outbox}")
    with progress("delivering") as bar:
        results = deliver(
            args.outbox,
            url=args.to,
            timeout_s=args.timeout,
            progress=None if bar is None else lambda _, done, total: bar(done, total),
        )
    if args.json:
        say_json([result._asdict() for result in results])
    elif not results:
        say("no outbox has anything left to deliver")
    else:
        table(
            ["outbox", "events", "artifacts", "refused", "left", "target"],
            [(r.folder, r.events, r.artifacts, r.refused, r.left_bytes, r.target) for r in results],
        )
        for r in results:
            if r.error:
                note(f"{r.folder}: {r.error}")
    return 1 if any(r.left_bytes or r.error for r in results) else 0


def status(args: argparse.Namespace) -> int:
    """Print the state of the server, or of the folder if no server runs."""
    server = server_of(args)
    found: dict[str, Any]
    if server is not None:
        found = {"server": server, **ask_json(server, "/api/v1/status")}
    else:
        with caught_up(args) as (log, fold):
            state = fold.status()
            found = {
                "server": None,
                "log": log.url,
                "positions": {str(p): n for p, n in sorted(state.positions.items())},
                "dead_letters": state.dead_letters,
                "fold_error": state.error,
            }
    if args.json:
        say_json(found)
    else:
        pairs((name.replace("_", " "), value) for name, value in found.items())
    return 1 if found.get("fold_error") or found.get("log_error") else 0
