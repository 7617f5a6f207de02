"""`modeltrail user`, `token` and `permission`: on a running server, or straight on the log.

Whoever may write to the log may do all of it there; that is how the first administrator comes in.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from modeltrail.api.commands.common import (
    CommandError,
    ask_json,
    log_url,
    not_there,
    note,
    own_folder,
    progress,
    say,
    say_json,
    server_of,
    table,
)

if TYPE_CHECKING:
    from modeltrail.api.actor import Actor
    from modeltrail.api.node import Node

PASSWORD_VARIABLE = "MODELTRAIL_NEW_PASSWORD"


@contextmanager
def _node(args: argparse.Namespace) -> Iterator[tuple[Node, Actor]]:
    """A node of our own on the log, which no server has, and who we are there."""
    from modeltrail.api.actor import Actor
    from modeltrail.api.artifacts.store import open_storage
    from modeltrail.api.opening import open_node

    folder = own_folder(args)
    storage = open_storage(str(folder.artifacts))
    with open_node(folder, log_url(args, folder), storage, progress("folding")) as node:
        yield node, Actor(getpass.getuser(), False)


def _new_password() -> str:
    """From the environment, else asked for twice, else a line of standard input."""
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        line = sys.stdin.readline().rstrip("\r\n")
        if not line:
            raise CommandError(f"no password: set {PASSWORD_VARIABLE}, or use standard input")
        return line
    password = getpass.getpass("New password: ")
    if getpass.getpass("Again: ") != password:
        raise CommandError("the two passwords differ")
    return password


def _path(*names: str) -> str:
    return "/api/v1/" + "/".join(quote(name, safe="") for name in names)


def _say(args: argparse.Namespace, body: Any, text: str) -> int:
    if args.json:
        say_json(body)
    else:
        say(text)
    return 0


def _check_user(args: argparse.Namespace, server: str | None, found: list[Any]) -> None:
    """Where nothing of a user was found, raise ``CommandError`` if there is no such user."""
    if found or args.user is None:
        return
    if server is not None:
        users = ask_json(server, _path("users"))["users"]
    else:
        from modeltrail.api.access import admin as access_admin

        with _node(args) as (node, _), node.read() as cursor:
            users = access_admin.users(cursor)
    names = [user["user"] for user in users]
    if args.user not in names:
        raise not_there("user", args.user, names)


def _list(args: argparse.Namespace, found: list[dict[str, Any]], columns: list[str]) -> int:
    if args.json:
        say_json(found)
    else:
        table(
            [name.replace("_", " ") for name in columns],
            [[one[name] for name in columns] for one in found],
        )
    return 0


# Users


def user_create(args: argparse.Namespace) -> int:
    """Create a user."""
    server = server_of(args)
    password = None if args.no_password else _new_password()
    if server is not None:
        body = {"user": args.user, "password": password, "admin": args.admin, "reason": args.reason}
        user_id = ask_json(server, _path("users"), body)["user_id"]
    else:
        from modeltrail.api.access import admin as access_admin

        with _node(args) as (node, actor):
            user_id = access_admin.create_user(
                node, actor, args.user, password, admin=args.admin, reason=args.reason
            ).position.offset
    body = {"user": args.user, "admin": args.admin, "user_id": user_id}
    kind = "administrator" if args.admin else "user"
    return _say(args, body, f"{kind} {args.user} was created")


def user_list(args: argparse.Namespace) -> int:
    """Print all users."""
    server = server_of(args)
    if server is not None:
        found = ask_json(server, _path("users"))["users"]
    else:
        from modeltrail.api.access import admin as access_admin

        with _node(args) as (node, _), node.read() as cursor:
            found = access_admin.users(cursor)
    return _list(args, found, ["user", "admin", "has_password", "created_at", "created_by"])


def user_password(args: argparse.Namespace) -> int:
    """Set a password."""
    server = server_of(args)
    password = _new_password()
    if server is not None:
        body = {"password": password, "keep_tokens": args.keep_tokens, "reason": args.reason}
        done = ask_json(server, _path("users", args.user), body, method="PATCH")
        ended, left = done["tokens_ended"], done["tokens_left"]
    else:
        from modeltrail.api.access import admin as access_admin

        with _node(args) as (node, actor):
            _, ended, left = access_admin.update_user(
                node,
                actor,
                args.user,
                password=password,
                keep_tokens=args.keep_tokens,
                reason=args.reason,
            )
    text = f"{args.user} has another password now"
    if ended:
        text += f"; tokens that ended: {ended}"
    if left:
        text += f"; tokens that are still good: {left}"
    return _say(args, {"user": args.user, "tokens_ended": ended, "tokens_left": left}, text)


def user_delete(args: argparse.Namespace) -> int:
    """Delete a user."""
    server = server_of(args)
    if server is not None:
        ask_json(server, _path("users", args.user), method="DELETE", reason=args.reason)
    else:
        from modeltrail.api.access import admin as access_admin

        with _node(args) as (node, actor):
            access_admin.delete_user(node, actor, args.user, reason=args.reason)
    return _say(args, {"user": args.user}, f"{args.user} was deleted")


# Tokens


def token_create(args: argparse.Namespace) -> int:
    """Make a token, and print it this once."""
    server = server_of(args)
    made: dict[str, Any]
    if server is not None:
        body = {
            "user": args.user,
            "description": args.description,
            "expires_at_ms": args.expires,
            "reason": args.reason,
        }
        made = ask_json(server, _path("tokens"), body)
    else:
        from modeltrail.api.access import admin as access_admin

        with _node(args) as (node, actor):
            made = access_admin.create_token(
                node,
                actor,
                args.user,
                description=args.description,
                expires_at_ms=args.expires,
                reason=args.reason,
            )._asdict()
    _say(args, {**made, "user": args.user}, made["token"])
    note(
        f"This is token {made['token_id']} of {args.user}. It is not shown again.\n"
        "Training jobs: export MODELTRAIL_TOKEN=<the token>\n"
        "MLflow's clients: export MLFLOW_TRACKING_TOKEN=<the token>"
    )
    return 0


def token_list(args: argparse.Namespace) -> int:
    """Print all tokens; never their secrets."""
    server = server_of(args)
    if server is not None:
        found = ask_json(server, _path("tokens"), user=args.user)["tokens"]
    else:
        from modeltrail.api.access import admin as access_admin

        with _node(args) as (node, _), node.read() as cursor:
            found = access_admin.tokens(cursor, args.user)
    _check_user(args, server, found)
    return _list(args, found, ["token_id", "user", "description", "expires_at", "created_at"])


def token_revoke(args: argparse.Namespace) -> int:
    """End a token."""
    server = server_of(args)
    if server is not None:
        ask_json(server, _path("tokens", str(args.token_id)), method="DELETE", reason=args.reason)
    else:
        from modeltrail.api.access import admin as access_admin

        with _node(args) as (node, actor):
            access_admin.revoke_token(node, actor, args.token_id, reason=args.reason)
    return _say(args, {"token_id": args.token_id}, f"token {args.token_id} is good no more")


# Permissions


def _of(args: argparse.Namespace) -> dict[str, str]:
    if args.experiment is not None:
        return {"resource": "experiment", "pattern": args.experiment}
    return {"resource": "registered_model", "pattern": args.model}


def permission_grant(args: argparse.Namespace) -> int:
    """Grant a permission, or change it."""
    of, server = _of(args), server_of(args)
    body = {"user": args.user, **of, "permission": args.permission}
    if server is not None:
        ask_json(server, _path("permissions"), {**body, "reason": args.reason}, method="PUT")
        granted = ask_json(server, _path("permissions"), user=args.user)["permissions"]
    else:
        from modeltrail.api.access import admin as access_admin

        with _node(args) as (node, actor):
            access_admin.grant(
                node,
                actor,
                access_admin.Holder(args.user),
                access_admin.target_of(node, **of),
                args.permission,
                reason=args.reason,
            )
            with node.read() as cursor:
                granted = access_admin.permissions(cursor, access_admin.Holder(args.user))
    pattern = of["pattern"]
    if not pattern.endswith("*") and any(
        one["pattern"] == pattern and one["resource"] == of["resource"] and one["entity_id"] is None
        for one in granted
    ):
        kind = of["resource"].replace("_", " ")
        note(f"there is no {kind} {pattern!r} yet; the permission is for one that gets this name")
    return _say(args, body, f"{args.user} has {args.permission} on {of['pattern']}")


def permission_revoke(args: argparse.Namespace) -> int:
    """Take a permission back."""
    of, server = _of(args), server_of(args)
    body = {"user": args.user, **of}
    if server is not None:
        ask_json(server, _path("permissions"), {**body, "reason": args.reason}, method="DELETE")
    else:
        from modeltrail.api.access import admin as access_admin

        with _node(args) as (node, actor):
            holder = access_admin.Holder(args.user)
            target = access_admin.target_of(node, **of)
            access_admin.revoke(node, actor, holder, target, reason=args.reason)
    return _say(args, body, f"{args.user} has no permission for {of['pattern']} any more")


def permission_list(args: argparse.Namespace) -> int:
    """Print what is granted."""
    server = server_of(args)
    if server is not None:
        found = ask_json(server, _path("permissions"), user=args.user)["permissions"]
    else:
        from modeltrail.api.access import admin as access_admin

        with _node(args) as (node, _), node.read() as cursor:
            found = access_admin.permissions(cursor, access_admin.Holder(args.user))
    _check_user(args, server, found)
    columns = ["user", "role", "permission", "resource", "pattern", "granted_at", "granted_by"]
    return _list(args, found, columns)
