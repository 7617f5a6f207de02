"""The table of registry commands: one row for each, from which routes and verbs are generated.

A row contains what the schema of the command's event does not: its permission, its native route,
its verb on the command line. Fields, defaults and texts come from the newest ``.avsc`` of the type.
Nothing heavy is imported, because the command line reads the table for its help.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from modeltrail.api.access.acts import ADMIN, RUN_ACTS, Act, Kind, Level, Mention
from modeltrail.limits import EVIDENCE_MAX, INT64_MAX

EDIT, MANAGE = Level.EDIT, Level.MANAGE
REQUIRED: Final = "(required)"


class Field(NamedTuple):
    """A field that a caller gives for a command."""

    name: str
    """The caller's name for it."""
    event: str
    """The field of the event that it becomes."""
    type: Any
    """Its Avro type, without null."""
    nullable: bool
    default: Any
    """``REQUIRED`` for a field that must be given."""
    doc: str

    @property
    def limits(self) -> Mapping[str, Any]:
        """Return the limits of its value, by pydantic's names for them."""
        return LIMITS.get(self.event, {})

    @property
    def choices(self) -> tuple[str, ...]:
        """Return the allowed values; empty for any."""
        return CHOICES.get(self.event, ())


LIMITS: Final[Mapping[str, Mapping[str, Any]]] = {
    "version": {"ge": 1, "le": INT64_MAX},
    "expected_version": {"ge": 0, "le": INT64_MAX},
    "role_id": {"ge": 0, "le": 2**62},
    "token_id": {"ge": 0, "le": 2**62},
    "expires_at_ms": {"ge": 0, "le": 2**53},
    "evidence": {"max_length": EVIDENCE_MAX},
}
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "permission": ("READ", "USE", "EDIT", "MANAGE", "NO_PERMISSIONS", "DENY"),
    "resource": ("experiment", "registered_model"),
    "status": ("ACTIVE", "DISABLED"),
}
EXAMPLES: Final[Mapping[str, Any]] = {
    "admin": False,
    "alias": "champion",
    "event_id": "0195a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
    "events": ["model_version_alias.created"],
    "experiment_id": "5230471834401",
    "expires_at_ms": None,
    "model": "digits",
    "name": "digits-v1",
    "pattern": "/vision/*",
    "permission": "EDIT",
    "position": "registry:0:17",
    "resource": "experiment",
    "role": "reviewers",
    "role_id": 18,
    "source": "s3://models/digits/3",
    "stage": "Production",
    "tags": {"team": "vision"},
    "text": "Reviewed: the test set has no overlap.",
    "token": "mt_...",
    "token_id": 18,
    "tokens_ended": 2,
    "tokens_left": 0,
    "url": "https://hooks.example.org/models",
    "user": "ada",
    "user_id": 17,
    "version": 3,
    "webhook_id": "0195a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
}
"""Examples of fields and answers, by name."""


@dataclass(frozen=True)
class Command:
    """A row of the table."""

    type: str
    """Event type."""
    act: Act
    """The permission that it needs."""
    native: str = ""
    """Method, and path after ``/api/v1``.

    Rows with the same one share a body, which names one of them.
    """
    verb: str = ""
    """Its words on the command line."""
    area: str = "registry"
    """Its section in the API's document. ``access`` exists only on a server with ``--auth``."""
    hidden: tuple[str, ...] = ()
    """Fields of the event that callers cannot give."""
    given: tuple[Mapping[str, Any], ...] = ()
    """What callers give instead of or beside the event's fields, in the form of an ``.avsc``."""
    returns: tuple[str, ...] = ()
    """What it answers beside position and event id."""

    @property
    def method(self) -> str:
        """Return the method of its native route."""
        return self.native.partition(" ")[0]

    @property
    def path(self) -> str:
        """Return the path of its native route."""
        return "/api/v1" + self.native.partition(" ")[2]

    @property
    def doc(self) -> str:
        """Return its description."""
        return str(_schema(self.type)["doc"])

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """Return the fields that callers give: first those in the path, then the others."""
        known = {one["name"]: one for one in (*_schema(self.type)["fields"], *self.given)}
        fields = [_field(one) for name, one in known.items() if name not in self.hidden]
        named = re.findall(r"{(\w+)}", self.path)
        return tuple(sorted(fields, key=lambda field: field.name not in named))

    @cached_property
    def body(self) -> tuple[Field, ...]:
        """Return the fields that are not in the path."""
        return tuple(field for field in self.fields if f"{{{field.name}}}" not in self.path)


def _field(described: Mapping[str, Any]) -> Field:
    name, type = described["name"], described["type"]
    nullable = isinstance(type, list)
    if nullable:
        (type,) = (one for one in type if one != "null")
    if name == "evidence":  # if left out, it is the latest metrics: not the same as none
        nullable, default = True, None
    else:
        default = None if nullable else False if type == "boolean" else REQUIRED
        default = described.get("default", default)
    given = "expected" if name.startswith("expected_") else name
    return Field(given, name, type, nullable, default, described["doc"])


@cache
def _schema(type: str) -> dict[str, Any]:
    """Return the newest schema of a type, read as text, because fastavro takes time to parse it."""
    spec = find_spec("modeltrail.schemas")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    found = Path(spec.submodule_search_locations[0]).glob(f"v*/modeltrail.registry.{type}.avsc")
    newest = max(found, key=lambda path: int(path.parent.name[1:]))
    schema: dict[str, Any] = json.loads(newest.read_text(encoding="utf-8"))
    schema["fields"] = [one for one in schema["fields"] if one["name"] != "envelope"]
    return schema


def _new_name(kind: Kind) -> Mapping[str, Mention]:
    """Return the permission for the new name in a rename, the same as for creating it."""
    return {"name": Mention(kind, EDIT, lambda event: (event["name"],))}


_EXPERIMENT = "/experiments/{experiment_id}"
_MODEL = "/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"
_ALIAS = f"{_MODEL}/aliases/{{alias}}"
_EDIT_EXPERIMENT = Act(Kind.EXPERIMENT, EDIT)
_MANAGE_EXPERIMENT = Act(Kind.EXPERIMENT, MANAGE)
_EDIT_MODEL = Act(Kind.MODEL, EDIT)
_MANAGE_MODEL = Act(Kind.MODEL, MANAGE)
_OWN = Act(Kind.ACCOUNT, MANAGE)
_GRANT = Act(Kind.GRANTABLE, MANAGE)
_PASSWORD = {
    "name": "password",
    "type": ["null", "string"],
    "doc": "Password; a user without one has tokens only.",
}
_PATTERN = {"name": "pattern", "type": "string", "doc": "A name, or a prefix followed by `*`."}

COMMANDS: Final = (
    Command(
        "CreateExperiment",
        Act(Kind.NEW_EXPERIMENT, EDIT),
        native="POST /experiments",
        verb="experiment create",
        returns=("experiment_id",),
    ),
    Command(
        "RenameExperiment",
        Act(Kind.EXPERIMENT, EDIT, _new_name(Kind.NEW_EXPERIMENT)),
        native=f"PATCH {_EXPERIMENT}",
        verb="experiment rename",
    ),
    Command(
        "ChangeExperimentTags",
        _EDIT_EXPERIMENT,
        native=f"PATCH {_EXPERIMENT}",
        verb="experiment tag",
    ),
    Command(
        "DeleteExperiment",
        _MANAGE_EXPERIMENT,
        native=f"DELETE {_EXPERIMENT}",
        verb="experiment delete",
    ),
    Command(
        "RestoreExperiment",
        _MANAGE_EXPERIMENT,
        native=f"POST {_EXPERIMENT}/restore",
        verb="experiment restore",
    ),
    Command("ImportExperiment", ADMIN),
    Command(
        "CreateRegisteredModel",
        Act(Kind.NEW_MODEL, EDIT),
        native="POST /models",
        verb="model create",
    ),
    Command(
        "RenameRegisteredModel",
        Act(Kind.MODEL, EDIT, _new_name(Kind.NEW_MODEL)),
        native=f"PATCH {_MODEL}",
        verb="model rename",
    ),
    Command("UpdateRegisteredModel", _EDIT_MODEL, native=f"PATCH {_MODEL}", verb="model describe"),
    Command("ChangeRegisteredModelTags", _EDIT_MODEL, native=f"PATCH {_MODEL}", verb="model tag"),
    Command("DeleteRegisteredModel", _MANAGE_MODEL, native=f"DELETE {_MODEL}", verb="model delete"),
    Command("ImportRegisteredModel", ADMIN),
    # And READ on its source.
    Command(
        "CreateModelVersion",
        _EDIT_MODEL,
        native=f"POST {_MODEL}/versions",
        verb="version create",
        hidden=("refusal",),
        returns=("model", "version"),
    ),
    Command("UpdateModelVersion", _EDIT_MODEL, native=f"PATCH {_VERSION}", verb="version describe"),
    Command("ChangeModelVersionTags", _EDIT_MODEL, native=f"PATCH {_VERSION}", verb="version tag"),
    Command(
        "DeleteModelVersion", _MANAGE_MODEL, native=f"DELETE {_VERSION}", verb="version delete"
    ),
    Command("ImportModelVersion", ADMIN),
    Command(
        "CommentAdded", _EDIT_MODEL, native=f"POST {_VERSION}/comments", verb="version comment"
    ),
    Command(
        "TransitionModelVersionStage",
        _EDIT_MODEL,
        native=f"PUT {_VERSION}/stage",
        verb="stage set",
    ),
    Command("SetRegisteredModelAlias", _EDIT_MODEL, native=f"PUT {_ALIAS}", verb="alias set"),
    Command(
        "DeleteRegisteredModelAlias", _EDIT_MODEL, native=f"DELETE {_ALIAS}", verb="alias delete"
    ),
    Command(
        "CreateWebhook",
        ADMIN,
        native="POST /webhooks",
        verb="webhooks create",
        area="webhooks",
        given=(
            {"name": "secret", "type": ["null", "string"], "doc": "Secret that signs deliveries."},
            {
                "name": "status",
                "type": "string",
                "default": "ACTIVE",
                "doc": "ACTIVE, or DISABLED for none of the events until that is changed.",
            },
        ),
        returns=("webhook_id",),
    ),
    Command(
        "UpdateWebhook",
        ADMIN,
        native="PATCH /webhooks/{webhook_id}",
        verb="webhooks update",
        area="webhooks",
        given=(
            {
                "name": "secret",
                "type": ["null", "string"],
                "doc": "New secret; the empty string for none.",
            },
        ),
    ),
    Command(
        "DeleteWebhook",
        ADMIN,
        native="DELETE /webhooks/{webhook_id}",
        verb="webhooks delete",
        area="webhooks",
    ),
    Command(
        "CreateUser",
        ADMIN,
        native="POST /users",
        area="access",
        hidden=("password_hash",),
        given=(_PASSWORD,),
        returns=("user_id",),
    ),
    # Users may change their own password. Everything else is for administrators.
    Command(
        "UpdateUser",
        _OWN,
        native="PATCH /users/{user}",
        area="access",
        hidden=("password_hash", "end_tokens"),
        given=(
            _PASSWORD,
            {
                "name": "current_password",
                "type": ["null", "string"],
                "doc": "Of a caller who changes their own and signed in with a token.",
            },
            {
                "name": "keep_tokens",
                "type": "boolean",
                "doc": "Whether the user's tokens outlive the password.",
            },
        ),
        returns=("tokens_ended", "tokens_left"),
    ),
    Command("DeleteUser", ADMIN, native="DELETE /users/{user}", area="access"),
    Command(
        "CreateToken",
        _OWN,
        native="POST /tokens",
        area="access",
        hidden=("token_hash", "made_by_token"),
        given=(
            {
                "name": "user",
                "type": ["null", "string"],
                "doc": "Whose; by default the caller's.",
            },
        ),
        returns=("token", "token_id", "expires_at_ms", "user"),
    ),
    Command("RevokeToken", _OWN, native="DELETE /tokens/{token_id}", area="access"),
    Command(
        "CreateRole",
        ADMIN,
        native="POST /roles",
        verb="role create",
        area="access",
        returns=("role_id",),
    ),
    Command(
        "UpdateRole", ADMIN, native="PATCH /roles/{role_id}", verb="role update", area="access"
    ),
    Command(
        "DeleteRole", ADMIN, native="DELETE /roles/{role_id}", verb="role delete", area="access"
    ),
    Command(
        "AssignRole",
        ADMIN,
        native="PUT /roles/{role_id}/users/{user}",
        verb="role assign",
        area="access",
    ),
    Command(
        "UnassignRole",
        ADMIN,
        native="DELETE /roles/{role_id}/users/{user}",
        verb="role unassign",
        area="access",
    ),
    # For a pattern of names: administrators.
    Command(
        "GrantPermission",
        _GRANT,
        native="PUT /permissions",
        area="access",
        hidden=("entity_id", "exists"),
        given=(_PATTERN,),
    ),
    Command(
        "RevokePermission",
        _GRANT,
        native="DELETE /permissions",
        area="access",
        hidden=("entity_id",),
        given=(_PATTERN,),
    ),
)
"""All commands: every event type of the stream ``registry``."""

BY_TYPE: Final[Mapping[str, Command]] = {command.type: command for command in COMMANDS}

ACTS: Final[Mapping[str, Act]] = {**RUN_ACTS, **{one.type: one.act for one in COMMANDS}}
"""The permission that each command needs, by event type."""


def act_of(type: str) -> Act:
    """Return what an act needs; ``ADMIN`` for an unknown type."""
    return ACTS.get(type, ADMIN)


@cache
def routes() -> Mapping[tuple[str, str, str], tuple[Command, ...]]:
    """Return the commands of each native route, by area, method and path."""
    found: dict[tuple[str, str, str], tuple[Command, ...]] = {}
    for command in COMMANDS:
        if command.native:
            key = (command.area, command.method, command.path)
            found[key] = (*found.get(key, ()), command)
    return found
