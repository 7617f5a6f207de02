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
from modeltrail.limits import EVIDENCE_MAX, INT64_MAX, PERMISSIONS, RESOURCES

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
    "view_id": {"ge": 0, "le": 2**62},
    "expires_at_ms": {"ge": 0, "le": 2**53},
    "evidence": {"max_length": EVIDENCE_MAX},
}
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "permission": (*PERMISSIONS[2:], *PERMISSIONS[:2]),
    "resource": RESOURCES,
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
    "page": "runs",
    "query": "filter=metrics.loss%20%3C%200.1&columns=params.lr",
    "shared": True,
    "view_id": 31,
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
    def area(self) -> str:
        """Return its section in the API's document; ``access`` exists only with ``--auth``."""
        return _AREAS.get(self.path.split("/")[3], "registry")

    @property
    def doc(self) -> str:
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


_AREAS = {
    **dict.fromkeys(("permissions", "roles", "tokens", "users"), "access"),
    "webhooks": "webhooks",
}


def _given(name: str, type: Any, doc: str, **default: Any) -> Mapping[str, Any]:
    """Describe what callers give, as a schema describes a field."""
    return {"name": name, "type": type, "doc": doc, **default}


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
_PATTERN = _given("pattern", "string", "A name, or a prefix followed by `*`.")
_PASSWORD = _given("password", ["null", "string"], "Password; a user without one has tokens only.")
_HOOK = "/webhooks/{webhook_id}"
_ROLE = "/roles/{role_id}"

COMMANDS: Final = (
    Command(
        "CreateExperiment",
        Act(Kind.NEW_EXPERIMENT, EDIT),
        "POST /experiments",
        "experiment create",
        returns=("experiment_id",),
    ),
    Command(
        "RenameExperiment",
        Act(Kind.EXPERIMENT, EDIT, _new_name(Kind.NEW_EXPERIMENT)),
        f"PATCH {_EXPERIMENT}",
        "experiment rename",
    ),
    Command("ChangeExperimentTags", _EDIT_EXPERIMENT, f"PATCH {_EXPERIMENT}", "experiment tag"),
    Command("DeleteExperiment", _MANAGE_EXPERIMENT, f"DELETE {_EXPERIMENT}", "experiment delete"),
    Command(
        "RestoreExperiment",
        _MANAGE_EXPERIMENT,
        f"POST {_EXPERIMENT}/restore",
        "experiment restore",
    ),
    Command("ImportExperiment", ADMIN),
    Command("CreateRegisteredModel", Act(Kind.NEW_MODEL, EDIT), "POST /models", "model create"),
    Command(
        "RenameRegisteredModel",
        Act(Kind.MODEL, EDIT, _new_name(Kind.NEW_MODEL)),
        f"PATCH {_MODEL}",
        "model rename",
    ),
    Command("UpdateRegisteredModel", _EDIT_MODEL, f"PATCH {_MODEL}", "model describe"),
    Command("ChangeRegisteredModelTags", _EDIT_MODEL, f"PATCH {_MODEL}", "model tag"),
    Command("DeleteRegisteredModel", _MANAGE_MODEL, f"DELETE {_MODEL}", "model delete"),
    Command("ImportRegisteredModel", ADMIN),
    # And READ on what it is made from.
    Command(
        "CreateModelVersion",
        _EDIT_MODEL,
        f"POST {_MODEL}/versions",
        "version create",
        hidden=("refusal",),
        returns=("model", "version"),
    ),
    Command("UpdateModelVersion", _EDIT_MODEL, f"PATCH {_VERSION}", "version describe"),
    Command("ChangeModelVersionTags", _EDIT_MODEL, f"PATCH {_VERSION}", "version tag"),
    Command("DeleteModelVersion", _MANAGE_MODEL, f"DELETE {_VERSION}", "version delete"),
    Command("ImportModelVersion", ADMIN),
    Command("CommentAdded", _EDIT_MODEL, f"POST {_VERSION}/comments", "version comment"),
    Command("TransitionModelVersionStage", _EDIT_MODEL, f"PUT {_VERSION}/stage", "stage set"),
    Command("SetRegisteredModelAlias", _EDIT_MODEL, f"PUT {_ALIAS}", "alias set"),
    Command("DeleteRegisteredModelAlias", _EDIT_MODEL, f"DELETE {_ALIAS}", "alias delete"),
    Command(
        "CreateWebhook",
        ADMIN,
        "POST /webhooks",
        "webhooks create",
        given=(
            _given("secret", ["null", "string"], "Secret that signs deliveries."),
            _given("status", "string", "ACTIVE, or DISABLED for no deliveries.", default="ACTIVE"),
        ),
        returns=("webhook_id",),
    ),
    Command(
        "UpdateWebhook",
        ADMIN,
        f"PATCH {_HOOK}",
        "webhooks update",
        given=(_given("secret", ["null", "string"], "New secret; the empty string for none."),),
    ),
    Command("DeleteWebhook", ADMIN, f"DELETE {_HOOK}", "webhooks delete"),
    Command(
        "CreateUser",
        ADMIN,
        "POST /users",
        hidden=("password_hash",),
        given=(_PASSWORD,),
        returns=("user_id",),
    ),
    # Users may change their own password; the rest is for administrators.
    Command(
        "UpdateUser",
        _OWN,
        "PATCH /users/{user}",
        hidden=("password_hash", "end_tokens"),
        given=(
            _PASSWORD,
            _given(
                "current_password",
                ["null", "string"],
                "Of a caller who changes their own and signed in with a token.",
            ),
            _given("keep_tokens", "boolean", "Whether the user's tokens outlive the password."),
        ),
        returns=("tokens_ended", "tokens_left"),
    ),
    Command("DeleteUser", ADMIN, "DELETE /users/{user}"),
    Command(
        "CreateToken",
        _OWN,
        "POST /tokens",
        hidden=("token_hash", "made_by_token", "kind"),
        given=(_given("user", ["null", "string"], "Whose; by default the caller's."),),
        returns=("token", "token_id", "expires_at_ms", "user"),
    ),
    Command("RevokeToken", _OWN, "DELETE /tokens/{token_id}"),
    # A view without an experiment may be shared by administrators; one's own needs READ only.
    Command("SaveView", _EDIT_EXPERIMENT, "POST /views", returns=("view_id",)),
    Command("DeleteView", _EDIT_EXPERIMENT, "DELETE /views/{view_id}"),
    Command("CreateRole", ADMIN, "POST /roles", "role create", returns=("role_id",)),
    Command("UpdateRole", ADMIN, f"PATCH {_ROLE}", "role update"),
    Command("DeleteRole", ADMIN, f"DELETE {_ROLE}", "role delete"),
    Command("AssignRole", ADMIN, f"PUT {_ROLE}/users/{{user}}", "role assign"),
    Command("UnassignRole", ADMIN, f"DELETE {_ROLE}/users/{{user}}", "role unassign"),
    # For a pattern of names instead of one of them: administrators.
    Command(
        "GrantPermission",
        _GRANT,
        "PUT /permissions",
        hidden=("entity_id", "exists"),
        given=(_PATTERN,),
    ),
    Command(
        "RevokePermission",
        _GRANT,
        "DELETE /permissions",
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
