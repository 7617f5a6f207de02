"""`modeltrail user`, `token` and `permission`: through a running server, or directly on the log.

A user who can write to the log may do all of this there, and so create the first administrator.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from typing import Any

from modeltrail.api.commands.acting import accounts, ask, listed
from modeltrail.api.commands.common import CommandError, not_there, note, say, say_json

PASSWORD_VARIABLE = "MODELTRAIL_NEW_PASSWORD"


def _new_password() -> str:
    """Return a password from the environment, or typed twice, or from standard input."""
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


def _say(args: argparse.Namespace, body: Any, text: str) -> int:
    if args.json:
        say_json(body)
    else:
        say(text)
    return 0


def _users(args: argparse.Namespace) -> list[dict[str, Any]]:
    return accounts(args, "users", lambda admin, cursor: admin.users(cursor))


def _check_user(args: argparse.Namespace, found: list[Any]) -> None:
    """Raise ``CommandError`` if there is no such user."""
    if found or args.user is None:
        return
    names = [user["user"] for user in _users(args)]
    if args.user not in names:
        raise not_there("user", args.user, names)


# Users


def user_create(args: argparse.Namespace) -> int:
    """Create a user."""
    password = None if args.no_password else _new_password()
    given = {"user": args.user, "password": password, "admin": args.admin}
    user_id = ask(args, "CreateUser", given)["user_id"]
    body = {"user": args.user, "admin": args.admin, "user_id": user_id}
    kind = "administrator" if args.admin else "user"
    return _say(args, body, f"{kind} {args.user} was created")


def user_list(args: argparse.Namespace) -> int:
    """Print all users."""
    columns = ["user", "admin", "has_password", "created_at", "created_by"]
    return listed(args, _users(args), columns)


def user_password(args: argparse.Namespace) -> int:
    """Set a password."""
    given = {"user": args.user, "password": _new_password(), "keep_tokens": args.keep_tokens}
    done = ask(args, "UpdateUser", given)
    ended, left = done["tokens_ended"], done["tokens_left"]
    text = f"{args.user} has another password now"
    if ended:
        text += f"; tokens that ended: {ended}"
    if left:
        text += f"; tokens that are still good: {left}"
    return _say(args, {"user": args.user, "tokens_ended": ended, "tokens_left": left}, text)


def user_delete(args: argparse.Namespace) -> int:
    """Delete a user."""
    ask(args, "DeleteUser", {"user": args.user})
    return _say(args, {"user": args.user}, f"{args.user} was deleted")


# Tokens


def token_create(args: argparse.Namespace) -> int:
    """Create a token, and print it once."""
    given = {
        "user": args.user,
        "description": args.description,
        "expires_at_ms": args.expires,
    }
    made = ask(args, "CreateToken", given)
    shown = {name: made[name] for name in ("token", "token_id", "expires_at_ms", "user")}
    _say(args, shown, made["token"])
    note(
        f"This is token {made['token_id']} of {args.user}. It is not shown again.\n"
        "Training jobs: export MODELTRAIL_TOKEN=<the token>\n"
        "MLflow's clients: export MLFLOW_TRACKING_TOKEN=<the token>"
    )
    return 0


def token_list(args: argparse.Namespace) -> int:
    """Print all tokens, without their secrets."""
    found = accounts(
        args, "tokens", lambda admin, cursor: admin.tokens(cursor, args.user), user=args.user
    )
    _check_user(args, found)
    return listed(args, found, ["token_id", "user", "description", "expires_at", "created_at"])


def token_revoke(args: argparse.Namespace) -> int:
    """Revoke a token."""
    ask(args, "RevokeToken", {"token_id": args.token_id})
    return _say(args, {"token_id": args.token_id}, f"token {args.token_id} is good no more")


# Roles


def role_list(args: argparse.Namespace) -> int:
    """Print all roles."""
    found = accounts(args, "roles", lambda admin, cursor: admin.roles(cursor))
    return listed(args, found, ["role_id", "role", "description"])


# Permissions


def _holder(args: argparse.Namespace) -> dict[str, Any]:
    if (args.user is None) == (args.role is None):
        raise CommandError("name the user or the role that holds the permission: NAME or --role ID")
    return {"user": args.user} if args.role is None else {"role_id": args.role}


def _name(args: argparse.Namespace) -> str:
    return f"role {args.role}" if args.user is None else str(args.user)


def _of(args: argparse.Namespace) -> dict[str, str]:
    if args.experiment is not None:
        return {"resource": "experiment", "pattern": args.experiment}
    return {"resource": "registered_model", "pattern": args.model}


def _permissions(args: argparse.Namespace) -> list[dict[str, Any]]:
    return accounts(
        args,
        "permissions",
        lambda admin, cursor: admin.permissions(cursor, admin.Holder(args.user)),
        user=args.user,
    )


def permission_grant(args: argparse.Namespace) -> int:
    """Grant or change a permission."""
    of = _of(args)
    body = {**_holder(args), **of, "permission": args.permission}
    ask(args, "GrantPermission", body)
    pattern = of["pattern"]
    if not pattern.endswith("*") and any(
        one["pattern"] == pattern and one["resource"] == of["resource"] and one["entity_id"] is None
        for one in _permissions(args)
    ):
        kind = of["resource"].replace("_", " ")
        note(f"there is no {kind} {pattern!r} yet; the permission is for one that gets this name")
    return _say(args, body, f"{_name(args)} has {args.permission} on {of['pattern']}")


def permission_revoke(args: argparse.Namespace) -> int:
    """Revoke a permission."""
    of = _of(args)
    body = {**_holder(args), **of}
    ask(args, "RevokePermission", body)
    return _say(args, body, f"{_name(args)} has no permission for {of['pattern']} any more")


def permission_list(args: argparse.Namespace) -> int:
    """Print all permissions."""
    found = _permissions(args)
    _check_user(args, found)
    columns = ["user", "role", "permission", "resource", "pattern", "granted_at", "granted_by"]
    return listed(args, found, columns)
