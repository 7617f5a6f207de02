"""Commands to the registry: sent to a server, or performed directly on the log of a folder.

A user who can write to the log may do all of this there, and so create the first administrator.
"""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from modeltrail.api.client import ServerClient
from modeltrail.api.commands.common import (
    ask_json,
    client_of,
    log_url,
    own_folder,
    pairs,
    progress,
    say_json,
    server_of,
    table,
)
from modeltrail.api.registry.commands import BY_TYPE

if TYPE_CHECKING:
    import duckdb

    from modeltrail.api.access.caller import Caller
    from modeltrail.api.node import Node


@contextmanager
def local_node(args: argparse.Namespace) -> Iterator[tuple[Node, Caller]]:
    """Yield a node of this process on a log without a server, and the caller."""
    from modeltrail.api.access.caller import Caller
    from modeltrail.api.actor import Actor
    from modeltrail.api.artifacts.store import open_storage
    from modeltrail.api.opening import open_node

    folder = own_folder(args)
    storage = open_storage(str(folder.artifacts))
    with open_node(folder, log_url(args, folder), storage, progress("folding")) as node:
        yield node, Caller(Actor(getpass.getuser(), False))


def ask(args: argparse.Namespace, type: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Send a command and return its answer.

    Args:
        args: The options with the place and the reason.
        type: Event type.
        given: Its fields, by their names in the event; missing ones have their default.
    """
    command, server = BY_TYPE[type], server_of(args)
    if server is not None:
        named = {one.name: quote(str(given.get(one.event)), safe="") for one in command.fields}
        body = {one.name: given.get(one.event) for one in command.body} | {"reason": args.reason}
        sent = {name: value for name, value in body.items() if value is not None}
        path = command.path.format_map(named)
        answer: dict[str, Any] = ServerClient(server).ask(command.method, path, sent)
        return answer
    from modeltrail.api.registry.performing import perform

    values = {one.event: one.default for one in command.fields} | dict(given)
    with local_node(args) as (node, caller):
        return perform(node, caller.saying(args.reason), command, values)


def act(args: argparse.Namespace) -> int:
    """Perform the command in the command line."""
    fields = (one.event for one in BY_TYPE[args.type].fields)
    given = {name: getattr(args, name) for name in fields if getattr(args, name, None) is not None}
    answer = ask(args, args.type, given)
    if args.json:
        say_json(answer)
    else:
        pairs(answer.items())
    return 0


def look(args: argparse.Namespace) -> int:
    """Print a list of the registry."""
    path = args.path.format_map({"model": quote(getattr(args, "model", ""), safe="")})
    with client_of(args) as client:
        found = list(client.items(path, args.what_is_listed, as_of=args.as_of))
    return listed(args, found, args.columns)


def listed(args: argparse.Namespace, found: list[dict[str, Any]], columns: list[str]) -> int:
    """Print a list."""
    if args.json:
        say_json(found)
    else:
        table(
            [name.replace("_", " ") for name in columns],
            [[one[name] for name in columns] for one in found],
        )
    return 0


def accounts(
    args: argparse.Namespace,
    name: str,
    read: Callable[[Any, duckdb.DuckDBPyConnection], list[dict[str, Any]]],
    **query: Any,
) -> list[dict[str, Any]]:
    """Return a list of users, tokens, roles or permissions, of the server or of the folder.

    Args:
        args: The options with the place.
        name: Name of the list: ``users``, ``tokens`` ...
        read: Reads it from the folder, with the module ``access.admin`` and a cursor.
        query: The query for the server.
    """
    server = server_of(args)
    if server is not None:
        found: list[dict[str, Any]] = ask_json(server, f"/api/v1/{name}", **query)[name]
        return found
    from modeltrail.api.access import admin

    with local_node(args) as (node, _), node.read() as cursor:
        return read(admin, cursor)
