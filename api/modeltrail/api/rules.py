"""The permission that each route requires. A route without a rule is for administrators only.

A rule gets the caller's rights and what the request refers to: for MLflow's endpoints their fields,
as the endpoint reads them, otherwise the query and the path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from modeltrail.api.access import acts
from modeltrail.api.access.acts import Kind, Level
from modeltrail.api.access.caller import sign_in
from modeltrail.api.access.files import check_place
from modeltrail.api.access.rights import Rights
from modeltrail.api.artifacts.uris import place_of
from modeltrail.api.gates import FILES
from modeltrail.api.mlflow.acts import ENDPOINTS
from modeltrail.api.mlflow.calls import EndpointRoute, Rule
from modeltrail.api.native import page
from modeltrail.api.registry.commands import Command, act_of
from modeltrail.api.registry.commands import routes as command_routes
from modeltrail.api.routing import PooledRoute

Values = Mapping[str, Any]

READ: Final = Level.READ


def public(_: Rights, __: Values) -> None:
    """Allow everyone, signed in or not."""


def signed_in(_: Rights, __: Values) -> None:
    """Allow every user."""


def looks_itself(_: Rights, __: Values) -> None:
    """Allow every user: the route shows what each may see."""


def admin(rights: Rights, _: Values) -> None:
    """Allow administrators."""
    rights.admin()


def everything(rights: Rights, _: Values) -> None:
    """Allow users who may read everything."""
    rights.everything()


@dataclass(frozen=True)
class InBody:
    """Allow every user: the route checks the permissions for these acts, as the body decides."""

    types: tuple[str, ...]

    def __call__(self, _: Rights, __: Values) -> None:
        """Leave the check to the route."""


@dataclass(frozen=True)
class Asks:
    """Require a level for the object in a field: the first of these fields that is set.

    If the field is a list, each of its objects is checked.
    """

    kind: Kind
    level: Level
    fields: tuple[str, ...]
    default: str = ""

    def __call__(self, rights: Rights, values: Values) -> None:
        given = next((values[field] for field in self.fields if values.get(field)), self.default)
        for id in set(given) if isinstance(given, list) else (given,):
            acts.check(rights, self.kind, str(id), self.level)


@dataclass(frozen=True)
class Names:
    """Require permission to refer to an object beside the one that the request changes."""

    mention: acts.Mention
    ids: Callable[[Values], Iterable[str | None]]

    def __call__(self, rights: Rights, values: Values) -> None:
        for id in set(self.ids(values)) - {None, ""}:
            acts.check_mention(rights, self.mention, str(id))


@dataclass(frozen=True)
class AtPlace:
    """Require a level for the run or logged model that a path leads to."""

    level: Level

    def __call__(self, rights: Rights, values: Values) -> None:
        check_place(rights, place_of(str(values.get("path") or "")), self.level)


@dataclass(frozen=True)
class All:
    """Require all of these rules."""

    rules: tuple[Rule, ...]

    def __call__(self, rights: Rights, values: Values) -> None:
        for rule in self.rules:
            rule(rights, values)


def _at_once(rule: Rule) -> bool:
    """Return whether a rule needs only the user's rights, and therefore no thread."""
    return isinstance(rule, InBody) or rule in (signed_in, looks_itself, admin, everything)


_FIELDS: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.EXPERIMENT: ("experiment_id",),
    Kind.EXPERIMENT_NAME: ("experiment_name",),
    Kind.RUN: ("run_id", "run_uuid"),
    Kind.LOGGED_MODEL: ("model_id",),
    Kind.MODEL: ("name",),
    Kind.ACCOUNT: ("username",),
    Kind.NEW_EXPERIMENT: ("name",),
    Kind.NEW_MODEL: ("name",),
}
"""The fields in which requests refer to objects, unless a rule says otherwise."""


def _asks(kind: Kind, level: Level, *fields: str) -> Asks:
    # MLflow's value for no particular experiment.
    default = "0" if kind is Kind.EXPERIMENT else ""
    return Asks(kind, level, fields or _FIELDS[kind], default)


def _reads(kind: Kind, *fields: str) -> Asks:
    """Require READ on the object in a field."""
    return _asks(kind, READ, *fields)


def _does(type: str, *fields: str) -> Rule:
    """Require what an act needs on the object in a field."""
    act = act_of(type)
    return admin if act is acts.ADMIN else _asks(act.kind, act.level, *fields)


def _names(type: str, mention: str, ids: Callable[[Values], Iterable[str | None]]) -> Names:
    """Require what an act needs on another object that it refers to."""
    return Names(act_of(type).mentions[mention], ids)


def _each(field: str, name: str) -> Callable[[Values], Iterable[str | None]]:
    """Return the ids in a list of messages."""

    def ids(values: Values) -> Iterable[str | None]:
        given = values.get(field)
        # Points that were read as columns refer to no models.
        return [one.get(name) for one in given] if isinstance(given, list) else ()

    return ids


_RUN_WRITES: Final = {
    "update": "RunUpdated",
    "log-parameter": "ParamsLogged",
    "set-tag": "TagsChanged",
    "delete-tag": "TagsChanged",
    "log-model": "TagsChanged",
    "delete": "RunDeleted",
    "restore": "RunRestored",
}


def _performs(type: str) -> Rule:
    """Require what a command needs, whose endpoint does nothing else."""
    mentions = act_of(type).mentions
    named = [_names(type, name, lambda values: (values["new_name"],)) for name in mentions]
    return All((_does(type), *named)) if named else _does(type)


def _of_commands(path: str, commands: Sequence[Command]) -> Rule:
    """Require what the commands of a native route need, as far as its path tells.

    The body is read after that, so others do not learn what is wrong with it. The rest is checked
    when the command is performed.
    """
    act = commands[0].act
    field = {Kind.EXPERIMENT: "experiment_id", Kind.MODEL: "model", Kind.ACCOUNT: "user"}.get(
        act.kind
    )
    if act is acts.ADMIN:
        return admin
    # Creating a version may create its model.
    if field is None or f"{{{field}}}" not in path or commands[0].type == "CreateModelVersion":
        return InBody(tuple(one.type for one in commands))
    return Asks(act.kind, min(one.act.level for one in commands), (field,))


MLFLOW: Final[Mapping[str, Rule]] = {
    "GET server-info": signed_in,
    "POST experiments/create": _does("CreateExperiment"),
    "GET experiments/get": _reads(Kind.EXPERIMENT),
    "GET experiments/get-by-name": _reads(Kind.EXPERIMENT_NAME),
    "GET experiments/search": looks_itself,
    "POST experiments/search": looks_itself,
    "POST experiments/search-datasets": _reads(Kind.EXPERIMENT, "experiment_ids"),
    "POST runs/create": _does("RunStarted"),
    "GET runs/get": _reads(Kind.RUN),
    "POST runs/search": looks_itself,
    **{f"POST runs/{name}": _does(type) for name, type in _RUN_WRITES.items()},
    "POST runs/log-metric": All(
        (_does("MetricsLogged"), _names("MetricsLogged", "model", lambda v: (v.get("model_id"),)))
    ),
    "POST runs/log-batch": All(
        (_does("MetricsLogged"), _names("MetricsLogged", "model", _each("metrics", "model_id")))
    ),
    "POST runs/log-inputs": All(
        (_does("RunModelsLogged"), _names("RunModelsLogged", "input", _each("models", "model_id")))
    ),
    "POST runs/outputs": All(
        (_does("RunModelsLogged"), _names("RunModelsLogged", "output", _each("models", "model_id")))
    ),
    "GET metrics/get-history": _reads(Kind.RUN),
    "GET metrics/get-history-bulk": _reads(Kind.RUN, "run_id"),
    "GET metrics/get-history-bulk-interval": _reads(Kind.RUN, "run_ids"),
    "GET artifacts/list": _reads(Kind.RUN),
    "POST artifacts/presigned-upload-url": signed_in,  # not supported for anyone
    "POST artifacts/presigned-download-url": signed_in,
    "POST logged-models": All(
        (
            _does("LoggedModelCreated"),
            _names("LoggedModelCreated", "run", lambda v: (v.get("source_run_id"),)),
        )
    ),
    "GET logged-models/{model_id}": _reads(Kind.LOGGED_MODEL),
    "PATCH logged-models/{model_id}": _does("LoggedModelUpdated"),
    "DELETE logged-models/{model_id}": _does("LoggedModelDeleted"),
    "PATCH logged-models/{model_id}/tags": _does("LoggedModelUpdated"),
    "DELETE logged-models/{model_id}/tags/{tag_key:path}": _does("LoggedModelUpdated"),
    "POST logged-models/{model_id}/params": _does("LoggedModelUpdated"),
    "GET logged-models/{model_id}/artifacts/directories": _reads(Kind.LOGGED_MODEL),
    "POST logged-models/search": looks_itself,
    "POST registered-models/create": _does("CreateRegisteredModel"),
    "GET registered-models/get": _reads(Kind.MODEL),
    "GET registered-models/search": looks_itself,
    "GET registered-models/get-latest-versions": _reads(Kind.MODEL),
    "POST registered-models/get-latest-versions": _reads(Kind.MODEL),
    "GET registered-models/alias": _reads(Kind.MODEL),
    "GET model-versions/get": _reads(Kind.MODEL),
    "GET model-versions/get-download-uri": _reads(Kind.MODEL),
    "GET model-versions/search": looks_itself,
    # And READ on the source of the files, which the endpoint checks.
    "POST model-versions/create": _does("CreateModelVersion"),
    **{" ".join(one.split()[:2]): _performs(type) for one, type in ENDPOINTS.items()},
    "GET users/current": looks_itself,
    "GET users/current/permissions": looks_itself,
    **{
        f"GET users/{path}": _asks(Kind.ACCOUNT, READ)
        for path in ("get", "roles/list", "permissions/list", "permissions/get")
    },
    "PATCH users/update-password": _does("UpdateUser"),
    "POST users/permissions/grant": InBody(("GrantPermission",)),
    "POST users/permissions/revoke": InBody(("RevokePermission",)),
    **{
        f"{method} {path}": _asks(kind, act_of("GrantPermission").level)
        for kind, of in ((Kind.EXPERIMENT, "experiments"), (Kind.MODEL, "registered-models"))
        for method, path in (
            ("GET", f"{of}/permissions/get"),
            ("POST", f"{of}/permissions/create"),
            ("PATCH", f"{of}/permissions/update"),
            ("DELETE", f"{of}/permissions/delete"),
        )
    },
    **{
        f"{method} {path}": admin
        for method, paths in {
            "GET": "users/list roles/get roles/list roles/permissions/list roles/users/list "
            "webhooks webhooks/{webhook_id}",
            "POST": "users/create roles/create roles/assign roles/permissions/add webhooks "
            "webhooks/{webhook_id}/test",
            "PATCH": "users/update-admin roles/update roles/permissions/update "
            "webhooks/{webhook_id}",
            "DELETE": "users/delete roles/delete roles/unassign roles/permissions/remove "
            "webhooks/{webhook_id}",
        }.items()
        for path in paths.split()
    },
}
"""Rules of MLflow's endpoints, by method and the path after ``mlflow/``."""

_PROXY = "2.0/mlflow-artifacts"
_BOTH = ("/api", "/ajax-api")
_MODELS = "/api/v1/models/{model}"
_VERSION = f"{_MODELS}/versions/{{version}}"

OTHERS: Final[Mapping[str, Rule]] = {
    **{
        f"{method} {path}": _of_commands(path, commands)
        for (_, method, path), commands in command_routes().items()
    },
    # The HTML and the code of the page. They contain no data.
    "GET /": public,
    "GET /assets/{name}": public,
    **{f"GET {path}": public for path in page.PAGES},
    "GET /health": public,
    "GET /version": public,
    "GET /openapi.json": signed_in,
    # Each field needs what its endpoint needs.
    "GET /graphql": signed_in,
    "POST /graphql": signed_in,
    "GET /metrics": signed_in,
    "GET /api/v1/status": signed_in,
    "GET /api/v1/whoami": signed_in,
    # Whoever has the password may sign in, and whoever has the cookie may end it.
    "POST /api/v1/session": public,
    "GET /api/v1/session": signed_in,
    "DELETE /api/v1/session": public,
    "GET /api/v1/schemas": signed_in,
    "GET /api/v1/schemas/{fingerprint}": signed_in,
    "PUT /api/v1/schemas/{fingerprint}": signed_in,
    "POST /api/v1/ingest": InBody(()),
    "GET /api/v1/sql": everything,
    "POST /api/v1/sql": everything,
    "GET /api/v1/audit": looks_itself,
    "GET /api/v1/audit/{offset}": looks_itself,
    "GET /api/v1/moments": looks_itself,
    "GET /api/v1/views": looks_itself,
    "GET /api/v1/moments/near": looks_itself,
    "GET /api/v1/diff": looks_itself,
    "GET /api/v1/incident": looks_itself,
    "GET /api/v1/audit/artifacts": everything,
    "GET /api/v1/audit/chain": everything,
    "GET /api/v1/runs": looks_itself,
    "POST /api/v1/charts": looks_itself,
    "GET /api/v1/live": looks_itself,
    "GET /api/v1/events/{position}": looks_itself,
    "POST /api/v1/runs/query": looks_itself,
    "GET /api/v1/runs/{run_id}": _reads(Kind.RUN),
    "GET /api/v1/runs/{run_id}/events": _reads(Kind.RUN),
    "GET /api/v1/runs/{run_id}/metrics/{key:path}": _reads(Kind.RUN),
    "GET /api/v1/runs/{run_id}/artifacts": _reads(Kind.RUN),
    "GET /api/v1/runs/{run_id}/artifacts/{path:path}": _reads(Kind.RUN),
    "PUT /api/v1/runs/{run_id}/artifacts/{path:path}": _does("ArtifactLogged"),
    "DELETE /api/v1/runs/{run_id}/artifacts/{path:path}": _does("ArtifactDeleted"),
    "GET /api/v1/experiments": looks_itself,
    "GET /api/v1/experiments/{experiment_id}": _reads(Kind.EXPERIMENT),
    "GET /api/v1/models": looks_itself,
    f"GET {_MODELS}": _reads(Kind.MODEL, "model"),
    f"GET {_MODELS}/timeline": _reads(Kind.MODEL, "model"),
    f"GET {_MODELS}/versions": _reads(Kind.MODEL, "model"),
    f"GET {_VERSION}/comments": _reads(Kind.MODEL, "model"),
    f"GET {_VERSION}": _reads(Kind.MODEL, "model"),
    f"GET {_VERSION}/why": _reads(Kind.MODEL, "model"),
    f"GET {_VERSION}/stage": _reads(Kind.MODEL, "model"),
    "GET /api/v1/stages": looks_itself,
    "GET /api/v1/holders": looks_itself,
    f"GET {_MODELS}/aliases": _reads(Kind.MODEL, "model"),
    f"GET {_MODELS}/aliases/{{alias}}": _reads(Kind.MODEL, "model"),
    "GET /api/v1/users": looks_itself,
    "GET /api/v1/tokens": looks_itself,
    "GET /api/v1/permissions": looks_itself,
    "GET /api/v1/roles": admin,
    "GET /api/v1/dead-letters": admin,
    "POST /api/v1/dead-letters/retry": admin,
    "POST /api/v1/import": admin,
    "GET /api/v1/webhooks": admin,
    "GET /api/v1/webhooks/deliveries": admin,
    "POST /api/v1/webhooks/retry": admin,
    "POST /api/v1/webhooks/replay": admin,
    "PUT /api/v1/logged-models/{model_id}/artifacts/{path:path}": _does(
        "LoggedModelArtifactLogged"
    ),
    # Clients send parts without credentials. The random id of the upload, given only to users who
    # may upload there, replaces them.
    f"PUT /api/{_PROXY}/mpu/parts/{{upload_id}}/{{number:int}}": public,
    "GET /get-artifact": _reads(Kind.RUN),
    "GET /model-versions/get-artifact": _reads(Kind.MODEL),
    **{
        f"{method} {prefix}/{path}": rule
        for prefix in _BOTH
        for method, path, rule in (
            (
                "GET",
                "2.0/mlflow/logged-models/{model_id}/artifacts/files",
                _reads(Kind.LOGGED_MODEL),
            ),
            ("POST", "2.0/mlflow/upload-artifact", _does("ArtifactLogged")),
            ("GET", f"{_PROXY}/artifacts", AtPlace(READ)),
            ("GET", f"{_PROXY}/artifacts/{{path:path}}", AtPlace(READ)),
            ("PUT", f"{_PROXY}/artifacts/{{path:path}}", AtPlace(act_of("ArtifactLogged").level)),
            (
                "DELETE",
                f"{_PROXY}/artifacts/{{path:path}}",
                AtPlace(act_of("ArtifactLogged").level),
            ),
            ("GET", f"{_PROXY}/presigned/{{path:path}}", AtPlace(READ)),
            ("POST", f"{_PROXY}/mpu/create/{{path:path}}", AtPlace(act_of("ArtifactLogged").level)),
            (
                "POST",
                f"{_PROXY}/mpu/complete/{{path:path}}",
                AtPlace(act_of("ArtifactLogged").level),
            ),
            ("POST", f"{_PROXY}/mpu/abort/{{path:path}}", AtPlace(act_of("ArtifactLogged").level)),
        )
    },
    # Catch-all routes under MLflow's paths: 404 for any signed-in caller.
    **{
        f"{method} {prefix}/{{version}}/mlflow/{{rest:path}}": signed_in
        for prefix in _BOTH
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
    },
}
"""Rules of all other routes, by method and path."""


def endpoint_rule(method: str, path: str) -> Rule:
    """Return the rule of an MLflow endpoint, or ``admin`` if there is none."""
    return MLFLOW.get(f"{method} {path}", admin)


def route_rule(method: str, path: str) -> Rule:
    """Return the rule of another route, or ``admin`` if there is none."""
    return OTHERS.get(f"{'GET' if method == 'HEAD' else method} {path}", admin)


async def check(request: Request) -> None:
    """Check a request against the rule of its route. Raises an ``ApiError``."""
    route = request.scope["route"]
    rule = route_rule(request.method, route.path)
    if rule is not public:
        rights = await sign_in(request)
        if _at_once(rule):
            rule(rights, {})
        else:
            pool = route.pool if isinstance(route, PooledRoute) else FILES
            await pool.run(rule, rights, {**request.query_params, **request.path_params})


class _Gate:
    """Checks a request before a route that is plain Starlette."""

    def __init__(self, app: ASGIApp, route: BaseRoute) -> None:
        self._app = app
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self._route
        await check(Request(scope))
        await self._app(scope, receive, send)


def close_gates(routes: list[BaseRoute]) -> None:
    """Put the check before every plain route. MLflow's endpoints check with their own fields."""
    for route in routes:
        if isinstance(route, Route) and not isinstance(route, EndpointRoute):
            route.app = _Gate(route.app, route)
