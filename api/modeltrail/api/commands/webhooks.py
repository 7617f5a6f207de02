"""`modeltrail webhooks`: show the deliveries of a running server, and repeat them."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from modeltrail.api.commands.common import (
    CommandError,
    ask_json,
    not_there,
    say,
    say_json,
    server_of,
    table,
)

_PATH = "/api/v1/webhooks"


def _server(args: argparse.Namespace) -> str:
    server = server_of(args)
    if server is None:
        raise CommandError(
            "webhooks are delivered by a running server: start it (modeltrail serve), or choose it "
            "with --server"
        )
    return server


def _webhook(server: str, webhook: str | None) -> str | None:
    """Return the id of the webhook with this id or name. Raises ``CommandError``."""
    if webhook is None:
        return None
    found = ask_json(server, _PATH)["webhooks"]
    ids = [one["webhook_id"] for one in found if webhook in (one["webhook_id"], one["name"])]
    if not ids:
        raise not_there("webhook", webhook, [one["name"] for one in found])
    if len(ids) > 1:
        raise CommandError(f"{len(ids)} webhooks have the name {webhook!r}: {', '.join(ids)}")
    return str(ids[0])


def list_(args: argparse.Namespace) -> int:
    """Print the webhooks with their counts. The exit code is 1 if delivery is stopped."""
    found = ask_json(_server(args), _PATH)
    delivery = found["delivery"]
    if args.json:
        say_json(found)
    else:
        columns = ["webhook_id", "name", "endpoint", "events", "status", "pending", "dead"]
        table(columns, [[webhook.get(name) for name in columns] for webhook in found["webhooks"]])
        if delivery is None:
            say("this server does not deliver (--no-webhooks)")
        else:
            say(
                f"delivered up to {delivery['position']}, {delivery['lag']} events behind, "
                f"{delivery['pending']} pending, {delivery['dead']} dead, "
                f"{delivery['replays']} replays under way"
            )
            if delivery["error"]:
                say(f"delivery is interrupted: {delivery['error']}")
    return 1 if delivery is not None and delivery["error"] else 0


def deliveries(args: argparse.Namespace) -> int:
    """Print deliveries, newest first."""
    return _print(args, args.state)


def dead(args: argparse.Namespace) -> int:
    """Print dead letters, newest first."""
    return _print(args, "dead")


def _print(args: argparse.Namespace, state: str | None) -> int:
    server = _server(args)
    webhook = _webhook(server, args.webhook)
    found: list[dict[str, Any]] = ask_json(
        server, f"{_PATH}/deliveries", webhook=webhook, state=state, limit=args.limit
    )["deliveries"]
    if args.json:
        say_json(found)
        return 0
    columns = ["position", "event", "webhook_id", "state", "tries", "status", "error"]
    table(
        ["last attempt", *columns, "delivery_id"],
        [[_time(d["updated_ms"]), *(d[name] for name in columns), d["delivery_id"]] for d in found],
    )
    return 0


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


def retry(args: argparse.Namespace) -> int:
    """Queue dead letters for another attempt."""
    server = _server(args)
    body = {"webhook": _webhook(server, args.webhook), "delivery": args.delivery}
    retried = ask_json(server, f"{_PATH}/retry", body)["retried"]
    if args.delivery is not None and not retried:
        of = "" if args.webhook is None else f" of webhook {args.webhook!r}"
        raise CommandError(
            f"no dead letter{of} has the id {args.delivery!r}; modeltrail webhooks dead lists them"
        )
    say(f"{retried} dead letters will be tried again")
    return 0


def replay(args: argparse.Namespace) -> int:
    """Queue everything from a position or time on for another delivery."""
    server = _server(args)
    body = {"from": args.start, "webhook": _webhook(server, args.webhook)}
    found = ask_json(server, f"{_PATH}/replay", body)
    say(f"what happened from {found['from']} until before {found['to']} is delivered again")
    return 0
