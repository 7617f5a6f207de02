"""`modeltrail replay` and `modeltrail rebuild`."""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from pathlib import Path

from modeltrail.api.commands.common import (
    CommandError,
    data_folder,
    open_existing_log,
    own_folder,
    progress,
    say,
    say_json,
)


def replay(args: argparse.Namespace) -> int:
    """Build a database of an earlier moment."""
    from modeltrail.consumers.replay import parse_moment
    from modeltrail.consumers.replay import replay as fold_until

    try:
        until = None if args.until is None else parse_moment(args.until)
    except ValueError as error:
        raise CommandError(f"--until: {error}") from None
    log = open_existing_log(args, data_folder(args))
    try:
        with progress("replaying") as bar:
            status = fold_until(log, until, Path(args.into), bar)
    except FileExistsError as error:
        raise CommandError(str(error)) from None
    finally:
        log.close()
    positions = {str(p): n for p, n in sorted(status.positions.items())}
    if args.json:
        say_json(
            {
                "database": args.into,
                "events": status.records,
                "dead_letters": status.dead_letters,
                "positions": positions,
            }
        )
    else:
        ends = ", ".join(f"{name}:{offset}" for name, offset in positions.items())
        say(f"{args.into} has {status.records:,} events, those before {ends or 'the first'}")
        say(f'query it with: duckdb {args.into} "FROM aliases"')
    return 0


def rebuild(args: argparse.Namespace) -> int:
    """Rebuild the database from the log, beside the old file, and swap them."""
    from modeltrail.consumers.fold import rebuild as fold_again

    folder = own_folder(args)
    log = open_existing_log(args, folder)
    began = time.monotonic()
    with closing(log), folder.locked(), progress("rebuilding") as bar:
        fold_again(log, folder.database, bar)
    seconds = time.monotonic() - began
    if args.json:
        say_json({"database": str(folder.database), "seconds": round(seconds, 3)})
    else:
        say(f"{folder.database} was rebuilt in {seconds:.1f} s")
    return 0
