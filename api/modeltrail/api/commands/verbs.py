"""The verbs of the registry on the command line, generated from the table of commands."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

from modeltrail.api.commands import options
from modeltrail.api.commands.options import Parser, option
from modeltrail.api.registry.commands import COMMANDS, REQUIRED, Field
from modeltrail.limits import INT64_MAX

Add = Callable[[Any, str, str, str], Parser]
"""Adds a command to a group, by name, help and function."""

GROUPS = {
    "experiment": (
        "create, rename, tag, delete and restore experiments",
        "  modeltrail experiment create /vision/digits --tag team=vision\n"
        "  modeltrail experiment list",
    ),
    "model": (
        "create, rename, describe, tag and delete registered models",
        "  modeltrail model create digits --description 'Reads digits.'\n"
        "  modeltrail model tag digits team=vision old-",
    ),
    "version": (
        "create, describe, tag and delete versions of registered models",
        "  modeltrail version create digits runs:/0af7651916cd43dd8448eb211c80319c/model\n"
        "  modeltrail version list digits",
    ),
    "alias": (
        "point aliases at versions of registered models",
        "  modeltrail alias set digits champion 3 --expected 2 --reason 'better by 2 points'\n"
        "  modeltrail alias list digits --as-of 2026-03-01",
    ),
    "stage": (
        "move versions of registered models between stages",
        "  modeltrail stage set digits 3 Production --reason 'passed the review'\n"
        "  modeltrail stage list --json",
    ),
    "role": (
        "manage roles, whose permissions several users share",
        "  modeltrail role create reviewers\n  modeltrail role assign 17 ada",
    ),
}
"""Help and examples of the groups that consist of these commands."""

LISTS = {
    "experiment": ("/experiments", "experiments", ["experiment_id", "name", "artifact_location"]),
    "model": ("/models", "models", ["model", "description", "aliases", "tags"]),
    "version": (
        "/models/{model}/versions",
        "versions",
        ["model", "version", "stage", "aliases", "run_id", "source", "description"],
    ),
    "alias": (
        "/models/{model}/aliases",
        "aliases",
        ["model", "alias", "version", "set_at", "set_by", "reason"],
    ),
    "stage": ("/stages", "stages", ["model", "version", "stage", "set_at", "set_by", "reason"]),
}
"""Lists: path after ``/api/v1``, name in the answer, and columns."""


def _tag(value: str) -> tuple[str, str]:
    key, equals, text = value.partition("=")
    if not key or not equals:
        raise options.Bad(f"expected KEY=VALUE, not {value[:100]!r}")
    return key, text


def _tag_change(value: str) -> tuple[str, str | None]:
    if "=" not in value and len(value) > 1 and value.endswith("-"):
        return value[:-1], None
    return _tag(value)


class _Pairs(argparse.Action):
    """Collects pairs of key and value, given together or one by one."""

    def __call__(self, _: Any, namespace: Any, values: Any, __: Any = None) -> None:
        given = values if isinstance(values, list) else [values]
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), **dict(given)})


_SINGULAR = {"tags": "tag", "aliases": "alias", "events": "event"}


def _help(text: str) -> str:
    """Return a text of the schemas for the help, without mentions of null."""
    text = re.sub(r"; null [^;]*$", "", text.rstrip("."))
    return text[0].lower() + text[1:] if text[1:2].islower() else text


def _add_field(parser: Parser, field: Field) -> None:
    required, kind = field.default is REQUIRED, field.type
    name = _SINGULAR.get(field.name, field.name)
    more: dict[str, Any] = {"help": _help(field.doc), "metavar": "TEXT", "type": options.text}
    if kind == "boolean":
        both = argparse.BooleanOptionalAction if field.nullable else "store_true"
        more = {"help": more["help"], "action": both}
    elif kind == "long":
        low, high = (field.limits.get(end, other) for end, other in (("ge", 0), ("le", INT64_MAX)))
        more |= {"metavar": "N", "type": options.whole(low, high)}
    elif field.choices:
        more |= {"metavar": "|".join(field.choices), "choices": field.choices}
    elif name == "secret":
        name = "secret_file"
        more |= {"metavar": "FILE", "type": options.first_line}
        more["help"] = f"file with the {more['help']}"
    elif isinstance(kind, dict) and kind["type"] == "map":
        more |= {"metavar": "KEY=VALUE", "type": _tag, "action": _Pairs, "help": "tag (repeatable)"}
        if isinstance(kind["values"], list):
            more |= {"type": _tag_change, "help": "set a tag; KEY- deletes it"}
    elif isinstance(kind, dict):
        if kind["items"] != "string":
            return  # evidence: by default the latest metrics
        more |= {} if required else {"action": "append"}
    if required:
        more |= {"nargs": "+"} if isinstance(kind, dict) else {}
        metavar = more.pop("metavar")
        metavar = metavar if "=" in metavar else name.upper()
        parser.add_argument(field.event, metavar=metavar, **more)
    else:
        parser.add_argument(f"--{name.replace('_', '-')}", dest=field.event, **more)


def add_verbs(group: str, commands: Any, add: Add) -> None:
    """Add the commands of a group in the table, and its list."""
    for command in COMMANDS:
        name, _, verb = command.verb.partition(" ")
        if name == group:
            parser = add(commands, verb, _help(command.doc.partition(". ")[0]), "acting:act")
            parser.set_defaults(type=command.type)
            for field in command.fields:
                _add_field(parser, field)
            option(parser, "--reason", options.text, "the reason, for the audit trail")
    if group in LISTS:
        path, what, columns = LISTS[group]
        parser = add(commands, "list", f"list {what}", "acting:look")
        parser.set_defaults(path=f"/api/v1{path}", what_is_listed=what, columns=columns)
        if "{model}" in path:
            parser.add_argument("model", type=options.text, metavar="MODEL")
        option(parser, "--as-of", options.moment, "state at this time or position")
